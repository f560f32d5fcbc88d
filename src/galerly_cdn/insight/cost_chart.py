"""Draws line charts as SVG coordinates: scales, ticks and paths. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 80, 16, 16, 64
"""Margins around the plot, in the units of the viewBox."""


class Tick(NamedTuple):
    """A mark on an axis, at this coordinate."""

    at: float
    label: str


class Curve(NamedTuple):
    """A line of a chart: the attribute `d` of its path, and the y coordinate of its end."""

    name: str
    d: str
    end_y: float


class Chart(NamedTuple):
    """A chart with its axes. `marker` is where the estimate's own workload is."""

    title: str
    summary: str
    x_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    marker: tuple[float, float]


class Axis(NamedTuple):
    """The range of an axis, and the texts of its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    label: Callable[[float], str]

    def position(self, value: float) -> float:
        """Where a value is between 0 (low) and 1 (high)."""
        return (value - self.low) / (self.high - self.low)


def nice_ticks(high: float) -> tuple[float, ...]:
    """Four to six round numbers from 0 to at least `high`."""
    if high <= 0:
        return (0.0, 1.0)
    rough = high / 5
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    return tuple(number * step for number in range(math.ceil(high / step - 1e-9) + 1))


def draw(  # noqa: PLR0913 - a chart's parts
    title: str,
    x_title: str,
    x_axis: Axis,
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    marked: tuple[float, float],
    *,
    summary: str,
    y_label: Callable[[float], str],
) -> Chart:
    """A chart of series of points (x, y), whose y axis begins at 0. `marked` is the point of the workload."""
    ticks = nice_ticks(max(y for _, points in series for _, y in points))
    y_axis = Axis(0.0, ticks[-1], ticks, y_label)

    def x_at(value: float) -> float:
        return round(LEFT + x_axis.position(value) * (WIDTH - LEFT - RIGHT), 1)

    def y_at(value: float) -> float:
        return round(HEIGHT - BOTTOM - y_axis.position(value) * (HEIGHT - TOP - BOTTOM), 1)

    curves = tuple(
        Curve(name, "M" + " L".join(f"{x_at(x)} {y_at(y)}" for x, y in points), y_at(points[-1][1]))
        for name, points in series
    )
    return Chart(
        title,
        summary,
        x_title,
        tuple(Tick(x_at(value), x_axis.label(value)) for value in x_axis.ticks),
        tuple(Tick(y_at(value), y_label(value)) for value in ticks),
        curves,
        (x_at(marked[0]), y_at(marked[1])),
    )
