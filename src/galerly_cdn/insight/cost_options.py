"""Reads a workload as people write it: lengths in kB or MB, regions with their shares. Pure.

The command and the dashboard have the same options.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from galerly_cdn.insight.cost import REGIONS, Workload
from galerly_cdn.insight.cost_report import month_fields
from galerly_cdn.serialization import convert, fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.insight.cost_report import TrafficReport

_UNITS = {"view_kb": 1e3, "original_mb": 1e6, "rendition_kb": 1e3}
"""Options with their units in bytes; the other options are fields of a `Workload`."""


class OptionError(ValueError):
    """An option cannot be used: its name, and a sentence that says why."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


def read_workload(
    options: Mapping[str, float | None], report: TrafficReport | None, viewers: str | None
) -> Workload:
    """The workload: options override the report, which overrides the specification's example.

    None is an option that is not given. Raises `OptionError`.
    """
    given: dict[str, object] = {} if report is None else dict(month_fields(report))
    for name, value in options.items():
        if value is None:
            continue
        if math.isnan(value):  # which is in every range
            raise OptionError(name, "not a number.")
        if name in _UNITS:
            given[f"{name[:-3]}_bytes"] = value * _UNITS[name]
        else:
            given[name] = value
    if viewers is not None:
        given["viewers"] = parse_viewers(viewers)
    return convert(Workload, given)


def write_options(workload: Workload) -> dict[str, object]:
    """The options that `read_workload` reads as this workload, by name; `viewers` is text."""
    options = fields_of(workload)
    for name, unit in _UNITS.items():
        options[name] = options.pop(f"{name[:-3]}_bytes") / unit
    options["viewers"] = ",".join(f"{region}={share:g}" for region, share in workload.viewers)
    return options


def parse_viewers(text: str) -> tuple[tuple[str, float], ...]:
    """Shares by region: `europe=0.7,japan=0.3`. Raises `OptionError`."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        matched = re.fullmatch(r"\s*([a-z-]+)=([0-9]*\.?[0-9]+)\s*", part)
        if matched is None or matched[1] not in REGIONS or matched[1] in shares:
            raise OptionError(
                "viewers", f"{part!r} is not REGION=SHARE; the regions are {', '.join(REGIONS)}."
            )
        shares[matched[1]] = float(matched[2])
    if abs(sum(shares.values()) - 1) > 0.001:
        raise OptionError("viewers", f"the shares add up to {sum(shares.values()):g}, not to 1.")
    return tuple(shares.items())
