"""Writes a report for a terminal: targets first, then tables with small bars. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.insight.lowest_day import causes, describe_day
from galerly_cdn.insight.outcomes import Tier
from galerly_cdn.insight.units import count, duration, length, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from galerly_cdn.insight.report import Group, Report, Target

ROWS = 10
"""Rows of a table; the JSON has all of them."""
_BAR = 16
_EIGHTHS = " ▏▎▍▌▋▊▉"
_TIERS = {
    Tier.CLOUDFRONT: "CloudFront",
    Tier.NGINX: "nginx",
    Tier.SERVER: "galerly-cdn serve",
    Tier.RESIZER: "the resizer",
}


def terminal_report(report: Report) -> str:
    """The report as lines of text."""
    return "\n".join(printable(line) for line in _lines(report))


def state(target: Target) -> str:
    """`met`, `missed` or `unknown`."""
    return "unknown" if target.is_met is None else "met" if target.is_met else "missed"


def title(report: Report) -> str:
    """How many requests there are."""
    return f"{count(report.requests)} request{'' if report.requests == 1 else 's'}"


def logged_by(report: Report) -> str:
    """The end of a sentence that names the outermost tier; empty without requests."""
    which = "it" if report.requests == 1 else "them"
    return f", as {_TIERS[report.tier]} logged {which}" if report.tier else ""


def period(report: Report) -> str:
    """From the first request to the last one, to the minute; empty without requests."""
    first, last = (time[:16].replace("T", " ") for time in (report.first, report.last))
    return f"{first} – {last} UTC" if report.first else ""


def malformed(report: Report) -> str:
    """A sentence on lines that could not be read; empty if there are none."""
    lines = report.lines
    if not lines.malformed:
        return ""
    return f"Malformed lines, not in these figures: {count(lines.malformed)} of {count(lines.read)}."


def _lines(report: Report) -> Iterator[str]:
    yield f"{title(report)}{logged_by(report)}: {period(report)}" if report.requests else title(report)
    if sentence := malformed(report):
        yield sentence
    yield ""
    yield from _targets(report.targets)
    yield ""
    if report.lowest_day:
        yield describe_day(report.lowest_day)
        yield from (f"- {line}" for line in causes(report))
        yield ""
    yield from _pairs(report)
    groups = (("day", report.by_day), ("size", report.by_size), ("format", report.by_format))
    for name, rows in (*groups, ("gallery", report.by_gallery)):
        yield from _groups(name, rows)
    for listing in listings(report):
        yield ""
        yield from table(listing.header, listing.rows[:ROWS])


def _targets(targets: Iterable[Target]) -> Iterator[str]:
    for target in targets:
        value = target.value or "not known"
        yield f"{state(target):<8} {target.title:<34} {value}  (wanted {target.wanted})"
        if target.is_met is not True and target.advice:
            yield f"{'':<8} {target.advice}"


def _pairs(report: Report) -> Iterator[str]:
    pairs = [
        ("pictures", count(report.pictures)),
        ("cache hits", count(report.cache_hits)),
        ("store hits", count(report.store_hits)),
        ("renders", count(report.renders)),
        ("shared renders", count(report.shared_renders)),
        ("errors", count(report.errors)),
        ("sent", length(report.bytes)),
    ]
    if report.saved_bytes is not None:
        pairs.append(("saved", f"{length(report.saved_bytes)} against originals"))
    for name, times in (("hit", report.hit_time), ("render", report.render_time)):
        if times:
            values = (times.p50_ms, times.p95_ms, times.p99_ms)
            pairs.append((f"time to a {name}", " / ".join(map(duration, values)) + "  (p50 / p95 / p99)"))
    if report.growth:
        pairs.append(("new renditions", f"{count(report.growth.renditions)}, {length(report.growth.bytes)}"))
    for name, value in pairs:
        yield f"{name:<16} {value}"


def _groups(name: str, groups: Sequence[Group]) -> Iterator[str]:
    """A table of groups. The days are all shown, in their order; of others the largest."""
    shown = groups if name == "day" else groups[:ROWS]
    if not shown:
        return
    most = max(group.requests for group in shown)
    rows = [
        (
            group.name or "/",
            count(group.requests),
            percent(group.hit_ratio),
            length(group.bytes),
            count(group.errors),
            count(group.renders),
            _bar(group.requests / most),
        )
        for group in shown
    ]
    yield ""
    yield from table((name, "requests", "hits", "sent", "errors", "renders", ""), rows)
    if len(groups) > len(shown):
        yield f"… and {count(len(groups) - len(shown))} more"


class Listing(NamedTuple):
    """A table of the most important ones of a kind."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def listings(report: Report) -> list[Listing]:
    """The tables beside the groups; those without a row are left out."""
    errors = [(str(one.status), count(one.requests)) for one in report.by_status]
    reasons = [(one.reason, count(one.requests)) for one in report.by_reason]
    photographs = [(one.key, count(one.requests), length(one.bytes)) for one in report.top_photographs]
    slowest = [
        (one.key, count(one.renders), duration(one.max_ms), duration(one.mean_ms))
        for one in report.slowest_originals
    ]
    refused = [(one.size, count(one.requests), count(one.clients)) for one in report.refused_sizes]
    sweeps = [
        (one.client, f"{count(one.different)} {one.kind}", count(one.requests)) for one in report.sweeps
    ]
    found = [
        Listing("Errors by status", ("status", "responses"), errors),
        Listing("Errors by reason", ("reason", "responses"), reasons),
        Listing("Photographs requested most", ("photograph", "requests", "sent"), photographs),
        Listing("Slowest originals", ("slowest original", "renders", "longest", "mean"), slowest),
        Listing("Refused sizes", ("refused size", "requests", "clients"), refused),
        Listing("Clients that sweep", ("client that sweeps", "different", "requests"), sweeps),
    ]
    return [listing for listing in found if listing.rows]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Aligned columns: the first one and the last one of bars to the left, the others to the right."""
    safe = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    for row in safe:
        cells = [
            cell.ljust(width) if number == 0 or not header[number] else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def printable(text: str) -> str:
    """Without control sequences: a key or a client's address comes from a request."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _bar(part: float) -> str:
    eighths = round(part * _BAR * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
