"""Parses the allow-list, one size a line: `thumbnail 800x600 jpeg=85 webp=86 avif=72`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn.model import Format, Size, SizeRule

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_SIDE_PX = 16383
"""The largest side of a WebP (RFC 9649 §2.6): no size may be larger, in any format."""
_BOX = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_QUALITY = re.compile(r"([a-z0-9]+)=([0-9]{1,3})")


def parse_sizes(lines: Iterable[str]) -> tuple[SizeRule, ...]:
    """The rule of every line.

    Raises `ValueError` as `parse_size` does, for no line at all, and for a size or name listed twice.
    """
    rules = tuple(parse_size(line) for line in lines)
    if not rules:
        raise ValueError("at least one size is needed")
    names = [str(rule.size) for rule in rules] + [rule.name for rule in rules if rule.name]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"listed twice: {', '.join(sorted(twice))}")
    return rules


def parse_size(line: str) -> SizeRule:
    """The rule of one line, `name WxH format=quality …`: `thumbnail 800x600 jpeg=85 webp=86`.

    Raises `ValueError` with what was expected and what was got.
    """
    parts = line.split()
    name = parts.pop(0) if parts and not _BOX.fullmatch(parts[0]) else None
    box = _BOX.fullmatch(parts.pop(0)) if parts else None
    if box is None:
        raise ValueError(
            f"expected `name WxH format=quality …` such as `thumbnail 800x600 jpeg=85`, got {line!r}"
        )
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(f"a size's name is lower-case letters, digits and hyphens, got {name!r}")
    size = Size(int(box[1]), int(box[2]))
    if not (1 <= size.width_px <= _MAX_SIDE_PX and 1 <= size.height_px <= _MAX_SIDE_PX):
        raise ValueError(f"a side is 1 to {_MAX_SIDE_PX} px, got {box[0]!r}")
    chosen: dict[Format, int] = {}
    for part in parts:
        image_format, quality = _parse_quality(part)
        if image_format in chosen:
            raise ValueError(f"{image_format} has two qualities, got {line!r}")
        chosen[image_format] = quality
    return SizeRule(size, name, {Format.JPEG: 85, Format.PNG: 100, **chosen})


def named(rules: Iterable[SizeRule]) -> tuple[SizeRule, ...]:
    """The sizes with a name, or all of them if none has one.

    Names are for the sizes that people and pages ask for; a browser chooses among the others by `srcset`.
    """
    every = tuple(rules)
    return tuple(rule for rule in every if rule.name) or every


def choose_sizes(rules: Iterable[SizeRule], chosen: Iterable[str]) -> tuple[SizeRule, ...]:
    """The rules of the `chosen` sizes, each a name or `WxH`, in the order of `rules`.

    Raises `ValueError` for a size that is not in the allow-list, and for one that is chosen twice.
    """
    every = tuple(rules)
    by_text = {text: rule.size for rule in every for text in (rule.name, str(rule.size)) if text}
    found = set()
    for text in map(str.strip, chosen):
        if text not in by_text:
            raise ValueError(f"{text!r} is no size of the allow-list: {', '.join(by_text)}")
        if by_text[text] in found:
            raise ValueError(f"{text!r} is listed twice")
        found.add(by_text[text])
    return tuple(rule for rule in every if rule.size in found)


def _parse_quality(part: str) -> tuple[Format, int]:
    """`webp=88` as a format and its quality. Raises `ValueError`."""
    formats = {one.value: one for one in Format if one.has_quality}
    setting = _QUALITY.fullmatch(part)
    if setting is None or setting[1] not in formats or not 1 <= int(setting[2]) <= 100:
        *others, last = formats
        raise ValueError(f"expected {', '.join(others)} or {last} `=` a quality of 1 to 100, got {part!r}")
    return formats[setting[1]], int(setting[2])
