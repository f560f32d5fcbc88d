"""Parses what expires, one line a rule: `clients/* 90`, or `clients/** 365 originals`. Pure."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_DAYS = 36_500
_DAY_S = 86_400
_LINE = re.compile(r"\s*(?P<pattern>\S|\S.*?\S)\s+(?P<days>[0-9]{1,6})(?P<originals>\s+originals)?\s*")
_WILDCARD = re.compile(r"(\*\*|\*)")
_EXPECTED = "expected `gallery days` or `gallery days originals` such as `clients/* 90`"


class ExpireRule(Value, frozen=True, cache_hash=True):
    """A line: the galleries that it is about, and the age at which what they hold expires.

    `pattern` is a gallery's name, in which `*` stands for any characters but a slash, and `**` for any.
    """

    pattern: str
    days: int
    with_originals: bool = False

    def matches(self, gallery: str) -> bool:
        """Whether the rule is about a gallery; the empty string is the root."""
        return _compiled(self.pattern).fullmatch(gallery) is not None

    def has_expired(self, modified_s: float, now_s: float) -> bool:
        """Whether what was modified then has reached the age; both in seconds of the epoch."""
        return now_s - modified_s >= self.days * _DAY_S


def parse_expire(lines: Iterable[str]) -> tuple[ExpireRule, ...]:
    """The rule of every line.

    Raises `ValueError` for what is no rule, and for a pattern that is listed twice or names no gallery.
    """
    rules = tuple(map(_parse_line, lines))
    patterns = [rule.pattern for rule in rules]
    twice = sorted({one for one in patterns if patterns.count(one) > 1})
    if twice:
        raise ValueError(f"listed twice: {', '.join(twice)}")
    return rules


def rule_for(rules: Iterable[ExpireRule], gallery: str) -> ExpireRule | None:
    """The first rule about a gallery; None if it keeps what it holds."""
    return next((rule for rule in rules if rule.matches(gallery)), None)


def _parse_line(line: str) -> ExpireRule:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"{_EXPECTED}, got {line!r}")
    pattern, days = found["pattern"], int(found["days"])
    if not 1 <= days <= _MAX_DAYS:
        raise ValueError(f"expected 1 to {_MAX_DAYS} days, got {line!r}")
    if any(part.strip(".") == "" or part.startswith(".") for part in pattern.split("/")):
        raise ValueError(
            f"{pattern!r} matches no gallery: write `clients/smith`, `clients/*` or `**` for all"
        )
    return ExpireRule(pattern, days, found["originals"] is not None)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    expressions = {"**": ".*", "*": "[^/]*"}
    parts = _WILDCARD.split(pattern)
    return re.compile("".join(expressions.get(one, re.escape(one)) for one in parts), re.DOTALL)
