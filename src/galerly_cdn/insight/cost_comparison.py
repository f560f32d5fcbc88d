"""Compares the estimate: with the specification's figures, and with the alternatives that it names. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.insight.cost import EDGE_GB, EDGE_S, MONTH_HOURS, Quantity, Workload, estimate, priced
from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from galerly_cdn.insight.cost import Estimate, Line
    from galerly_cdn.insight.prices import Price

_PLANS = ("cloudinary-free", "cloudinary-plus", "cloudinary-advanced")
_RESIZER = "first requests: resizer"


class SpecificationFigure(Value, frozen=True):
    """A figure of the specification's cost analysis, and the one that the prices give for its example.

    `specification_usd` is None for what the specification leaves out.
    """

    item: str
    specification_usd: float | None
    computed_usd: float
    note: str


class Alternative(Value, frozen=True):
    """Another way to serve the same views. The amount is None where no public price is known."""

    name: str
    specification: str
    """The specification's figure for 100,000 views."""
    per_100k_views_usd: float | None
    note: str


class Machines(Value, frozen=True, kw_only=True):
    """Own machines: their number, disk for each, and the price of an hour if it is not `machine-hour`'s."""

    count: int = 1
    hour_usd: float | None = None
    disk_gb: float = 50


def specification_figures(prices: Mapping[str, Price]) -> tuple[SpecificationFigure, ...]:
    """The specification's example (1000 originals, 100,000 views), figure by figure, at list price."""
    found = estimate(Workload(), prices, free_tier=False)
    edge = estimate(Workload(is_lambda_edge=True), prices, free_tier=False)
    edge_usd = _sum(edge, "views", "viewer function")
    renders = _sum(found, "uploads", _RESIZER)
    uploads_requests = found.one_off_usd - renders - _sum(found, "uploads", "uploads: janitor")
    misses = _sum(found, "views", "misses: resizer")
    views = found.sum_usd("views")
    rows: tuple[tuple[str, float | None, float, str], ...] = (
        (
            "storage, each month",
            0.16,
            found.sum_usd("storage"),
            "For 4 renditions of an original. With WebP and AVIF there are up to 12.",
        ),
        (
            "renders of the uploads, once",
            0.07,
            renders,
            "A second was billed as a GB-second: the memory was left out; so were calls and cold starts.",
        ),
        ("S3 requests of the uploads, once", None, uploads_requests, "Left out."),
        ("bytes to viewers", 0.85, _sum(found, "views", "bytes"), ""),
        ("HTTPS requests", None, _sum(found, "views", "HTTPS"), "Left out."),
        (
            "viewer function",
            0.0006,
            _sum(found, "views", "viewer function"),
            f"It runs for every view, not for every miss. As Lambda@Edge: ${edge_usd:.3f}.",
        ),
        ("renders of the misses", 0.017, misses, "The memory was left out."),
        (
            "S3 requests and Origin Shield of the misses",
            None,
            _sum(found, "views", "misses") - misses,
            "Left out.",
        ),
        ("100,000 views", 0.87, views, "The sum of the five lines above."),
        (
            "monitoring, logs and queues, each month",
            None,
            found.sum_usd("operation"),
            "Left out. Partly free: see `--free-tier`.",
        ),
        (
            "janitor for the uploads, once",
            None,
            _sum(found, "uploads", "uploads: janitor"),
            "Left out: the specification has no janitor.",
        ),
    )
    return tuple(SpecificationFigure(*row) for row in rows)


def _sum(found: Estimate, group: str, start: str) -> float:
    return sum(line.amount_usd for line in found.lines if line.group == group and line.item.startswith(start))


def alternatives(
    work: Workload, prices: Mapping[str, Price], machines: Machines, *, free_tier: bool
) -> tuple[Alternative, ...]:
    """What 100,000 views of the workload cost by other means, for the specification's table."""

    def per_100k(lines: tuple[Line, ...]) -> float:
        return sum(line.amount_usd for line in lines) / work.views * 100_000 if work.views else 0.0

    def quantities(*found: Quantity) -> float:
        return per_100k(priced(found, prices, free_tier=free_tier))

    def aws(found: Workload) -> float:
        lines = estimate(found, prices, free_tier=free_tier).lines
        return per_100k(tuple(line for line in lines if line.group == "views"))

    hours = machines.count * MONTH_HOURS
    ours = {} if machines.hour_usd is None else {"machine-hour": replaced_hour(prices, machines.hour_usd)}
    machine_lines = priced(tuple(_machines(work, machines, hours)), {**prices, **ours}, free_tier=free_tier)
    hour_usd = prices["machine-hour"].usd if machines.hour_usd is None else machines.hour_usd
    needed = _cloudinary_credits(work)
    plan = next((name for name in _PLANS if prices[name].per >= needed), None)
    return (
        Alternative("this deployment", "$0.87", aws(work), "The lines of the group `views`."),
        Alternative(
            "the same, Lambda@Edge as viewer function",
            "",
            aws(replaced(work, is_lambda_edge=True)),
            "`aws deploy --lambda-edge on`.",
        ),
        Alternative(
            "direct S3, no resizing",
            "$0.90",
            quantities(*_direct(work)),
            "Every view sends an original; the specification counted the bytes of a resized picture.",
        ),
        Alternative(
            "Lambda@Edge with Sharp",
            "$2.50+",
            quantities(*_sharp(work)),
            "Renders the misses at the edge and stores nothing, so that every region's miss renders again. "
            "The specification gives no derivation. A response is limited to 1 MB.",
        ),
        Alternative(
            "Cloudinary",
            "$5-10",
            None if plan is None or not work.views else prices[plan].usd / work.views * 100_000,
            f"{needed:,.0f} credits in the first month (bytes out, storage and transformations): "
            + (f"the plan {plan}." if plan else "more than the plans with a public price include."),
        ),
        Alternative("imgix", "", None, "No public price by bytes and renders."),
        Alternative(
            f"own machines: {machines.count} at ${hour_usd:g} an hour",
            "",
            per_100k(machine_lines),
            "Machines, disks and bytes out, whatever the views are: more views make 100,000 of them cheaper.",
        ),
    )


def replaced_hour(prices: Mapping[str, Price], hour_usd: float) -> Price:
    """The price of a machine's hour that the user gave."""
    return replaced(prices["machine-hour"], usd=hour_usd, source="--machine-hour", is_checked=True)


def _direct(work: Workload) -> Iterator[Quantity]:
    yield Quantity("views", "bytes", work.views * work.original_bytes / 1e9, "s3-bytes")
    yield Quantity("views", "reads", work.views, "s3-get")


def _sharp(work: Workload) -> Iterator[Quantity]:
    """A viewer-request function for every view, and an origin-response function that renders every miss."""
    for region, share in work.viewers:
        sent = work.views * work.view_bytes / 1e9 * share
        yield Quantity("views", "bytes", sent, f"cloudfront-bytes-{region}")
    for region, share in work.viewers:
        yield Quantity("views", "requests", work.views * share, f"cloudfront-requests-{region}")
    compute = work.views * EDGE_S * EDGE_GB + work.misses * work.render_s * work.memory_gb
    yield Quantity("views", "calls", work.views + work.misses, "lambda-edge-calls")
    yield Quantity("views", "compute", compute, "lambda-edge-compute")
    yield Quantity("views", "reads", work.misses, "s3-get")


def _machines(work: Workload, machines: Machines, hours: float) -> Iterator[Quantity]:
    yield Quantity("views", "machines", hours, "machine-hour")
    yield Quantity("views", "disks", machines.count * machines.disk_gb, "machine-disk")
    yield Quantity("views", "bytes", work.views * work.view_bytes / 1e9, "machine-bytes")


def _cloudinary_credits(work: Workload) -> float:
    """A credit is 1 GB sent, 1 GB stored or 1000 transformations (Cloudinary, "Billing and plans")."""
    stored = work.originals * (work.original_bytes + work.renditions * work.rendition_bytes)
    sent = work.views * work.view_bytes
    return (sent + stored) / 1e9 + work.originals * work.renditions / 1000
