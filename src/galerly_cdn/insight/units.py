"""Writes counts, ratios, lengths and durations for people. Pure."""

from __future__ import annotations

import math

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def count(number: int | None) -> str:
    """A number with thousands separated; `?` if it is not known."""
    return "?" if number is None else f"{number:,}"


def percent(ratio: float | None, digits: int = 2) -> str:
    """A ratio in percent, rounded down: 99.999 % are not all."""
    if ratio is None:
        return "–"
    factor = 10**digits
    # 0.07 * 100 is more than 7 in binary, 0.29 * 100 is less than 29
    return f"{math.floor(round(ratio * 100 * factor, 6)) / factor:.{digits}f} %"


def length(length_bytes: int | None) -> str:
    """A length with a unit, in powers of 1000."""
    if length_bytes is None:
        return "?"
    value = float(length_bytes)
    power = 0
    while abs(value) >= 1000 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    if power:
        return f"{value:.1f} {_UNITS[power]}"
    return "1 byte" if length_bytes == 1 else f"{length_bytes} bytes"


def duration(milliseconds: float) -> str:
    """A duration with a unit."""
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 1000 else f"{milliseconds:.1f} ms"
