"""Checks that every good photograph is rendered upright, in the right size and colours, without GPS data."""

from __future__ import annotations

import io
import statistics
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from checks import oracle
from checks.corpus import entries
from galerly_cdn.http.urls import format_path
from galerly_cdn.model import Format, Target
from galerly_cdn.settings.table import Settings
from tests.support.color_difference import difference
from tests.support.shapes import ServeProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.corpus import Entry
    from galerly_cdn.model import Size
    from tests.support.shapes import Answer

MAX_MEAN_DIFFERENCE = {Format.PNG: 2.0}
"""The mean CIEDE2000 difference from Pillow's picture. PNG is lossless, so it compares unencoded pixels."""
MAX_ENCODED_DIFFERENCE = 6.0
"""Lossy encoding of grain causes a difference of 2 to 5; a wrong profile causes more on every photograph."""
_EXCEPTIONS = tomllib.loads((Path(__file__).parent / "exceptions.toml").read_text("utf-8"))


def check(folder: Path, scratch: Path) -> list[str]:
    """Every deviation, one line each."""
    shape = ServeProcess(folder, scratch, {"max_original_bytes": 128 * 1024 * 1024})
    differences: dict[str, list[float]] = defaultdict(list)
    findings: list[str] = []
    answered = 0
    for entry in entries(folder):
        for problem in deviations(shape, entry, differences):
            allowed = _EXCEPTIONS.get(entry.key, "")
            state = "excepted" if allowed else "DEVIATES"
            print(f"{state}  {entry.key}: {problem}  {allowed}", flush=True)
            if not allowed:
                findings.append(f"{entry.key}: {problem}")
        answered += 1
    shape.stop()
    for name, values in sorted(differences.items()):
        print(f"{name:>14}: mean dE00 median {statistics.median(values):.2f}, worst {max(values):.2f}")
    print(f"good: {answered} files")
    return findings


def deviations(shape: ServeProcess, entry: Entry, differences: dict[str, list[float]]) -> Iterator[str]:
    """The deviations of a file's renditions."""
    if entry.expected != "ok":
        answer = shape.request("GET", format_path(Target(_sizes()[0]), entry.key), {})
        if answer.status != 415:
            yield f"expected 415, got {answer.status}"
        return
    picture = oracle.upright(entry.path)
    for size in _sizes():
        reference = oracle.fitted(picture, size.width_px, size.height_px)
        for form in (None, *Format):
            target = Target(size, form)
            answer = shape.request("GET", format_path(target, entry.key), {})
            for problem in _compare(answer, reference, target, differences):
                yield f"{target}: {problem}"


def _sizes() -> list[Size]:
    return [rule.size for rule in Settings().size_rules]


def _compare(
    answer: Answer, reference: Image.Image, target: Target, differences: dict[str, list[float]]
) -> Iterator[str]:
    if answer.status != 200:
        yield f"status {answer.status} {answer.body[:200]!r}"
        return
    shown = Image.open(io.BytesIO(answer.body))
    if shown.getexif().get_ifd(ExifTags.IFD.GPSInfo) or b"GPSLatitude" in answer.body:
        yield "the rendition contains GPS data"
    if any(abs(a - b) > 1 for a, b in zip(shown.size, reference.size, strict=True)):
        yield f"{shown.size}, Pillow's thumbnail is {reference.size}"
        return
    if shown.size != reference.size:
        reference = reference.resize(shown.size, Image.Resampling.LANCZOS)
    mean, _ = difference(oracle.on_white(shown), oracle.on_white(reference))
    differences[str(target)].append(mean)
    if mean > MAX_MEAN_DIFFERENCE.get(
        Format(answer.headers["content-type"].removeprefix("image/")), MAX_ENCODED_DIFFERENCE
    ):
        yield f"mean dE00 {mean:.2f}"
