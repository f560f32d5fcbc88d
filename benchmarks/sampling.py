"""Compares measurements on a machine whose speed drifts: alternating runs, and ratios within each round."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")


class Spread(NamedTuple):
    """The median and the quartiles."""

    median: float
    low: float
    high: float

    def show(self, digits: int = 2) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


def interleave(candidates: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every candidate once per round. Each round starts with another one, so none is always first."""
    names = list(candidates)
    results: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(candidates[name]())
    return results


def spread(values: Sequence[float]) -> Spread:
    """The median and the quartiles, by linear interpolation; a single value is all three."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(theirs: Iterable[float], ours: Iterable[float]) -> list[float]:
    """`theirs` divided by `ours`, for each round. Raises `ValueError` for different lengths."""
    return [a / b for a, b in zip(theirs, ours, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by a `share` (0 to 1) of the values."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
