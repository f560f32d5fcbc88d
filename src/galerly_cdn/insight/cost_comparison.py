"""Compares the estimate: with the specification's figures, and with the alternatives that it names. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.insight.cost import (
    EDGE_GB,
    EDGE_S,
    MONTH_HOURS,
    Estimate,
    Quantity,
    Workload,
    estimate,
    per_100k_views_usd,
    priced,
)
from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from galerly_cdn.insight.cost import Group
    from galerly_cdn.insight.prices import Price

_PLANS = ("cloudinary-free", "cloudinary-plus", "cloudinary-advanced")
_FIGURES: tuple[tuple[str, float | None, Group, tuple[str, ...], str], ...] = (
    (
        "storage, each month",
        0.16,
        "storage",
        ("",),
        "For 4 renditions of an original. With WebP and AVIF there are up to 12.",
    ),
    (
        "renders of the uploads, once",
        0.07,
        "uploads",
        ("first requests: resizer",),
        "A second was billed as a GB-second: the memory was left out; so were calls and cold starts.",
    ),
    ("S3 requests of the uploads, once", None, "uploads", ("S3", "first requests: S3"), "Left out."),
    ("bytes to viewers", 0.85, "views", ("bytes",), ""),
    ("HTTPS requests", None, "views", ("HTTPS",), "Left out."),
    (
        "viewer function",
        0.0006,
        "views",
        ("viewer function",),
        "It runs for every view, not for every miss.",
    ),
    ("renders of the misses", 0.017, "views", ("misses: resizer",), "The memory was left out."),
    (
        "S3 requests and Origin Shield of the misses",
        None,
        "views",
        ("misses: S3", "misses: Origin Shield"),
        "Left out.",
    ),
    ("100,000 views", 0.87, "views", ("",), "The sum of the five lines above."),
    (
        "monitoring, logs and queues, each month",
        None,
        "operation",
        ("",),
        "Left out. Partly free: see `--free-tier`.",
    ),
    (
        "janitor for the uploads, once",
        None,
        "uploads",
        ("uploads: janitor",),
        "Left out: the specification has no janitor.",
    ),
)
"""The specification's figures: item, amount, group and starts of the lines that it is for, remark."""


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
    lines = estimate(Workload(), prices, free_tier=False).lines
    return tuple(
        SpecificationFigure(
            item,
            specification_usd,
            sum(line.amount_usd for line in lines if line.group == group and line.item.startswith(starts)),
            note,
        )
        for item, specification_usd, group, starts, note in _FIGURES
    )


def alternatives(
    work: Workload, prices: Mapping[str, Price], machines: Machines, *, free_tier: bool
) -> tuple[Alternative, ...]:
    """What 100,000 views of the workload cost by other means, for the specification's table."""

    def per_100k(quantities: Iterable[Quantity]) -> float:
        return per_100k_views_usd(Estimate(priced(quantities, prices, free_tier=free_tier)), work)

    def deployment(found: Workload) -> float:
        return per_100k_views_usd(estimate(found, prices, free_tier=free_tier), work)

    return (
        Alternative("this deployment", "$0.87", deployment(work), "The lines of the group `views`."),
        Alternative(
            "the same, Lambda@Edge as viewer function",
            "",
            deployment(replaced(work, is_lambda_edge=True)),
            "`aws deploy --lambda-edge on`.",
        ),
        Alternative(
            "direct S3, no resizing",
            "$0.90",
            per_100k(_direct(work)),
            "Every view sends an original; the specification counted the bytes of a resized picture.",
        ),
        Alternative(
            "Lambda@Edge with Sharp",
            "$2.50+",
            per_100k(_sharp(work)),
            "Renders the misses at the edge and stores nothing, so that every region's miss renders again. "
            "The specification gives no derivation. A response is limited to 1 MB.",
        ),
        _cloudinary(work, prices),
        Alternative("imgix", "", None, "No public price by bytes and renders."),
        _own_machines(work, prices, machines, free_tier=free_tier),
    )


def _cloudinary(work: Workload, prices: Mapping[str, Price]) -> Alternative:
    """The smallest plan that includes the credits of the first month.

    A credit is 1 GB sent, 1 GB stored or 1000 transformations (Cloudinary, "Billing and plans").
    """
    stored = work.originals * (work.original_bytes + work.renditions * work.rendition_bytes)
    gigabytes = (work.views * work.view_bytes + stored) / 1e9
    needed = gigabytes + work.originals * work.renditions / 1000
    plan = next((name for name in _PLANS if prices[name].per >= needed), None)
    return Alternative(
        "Cloudinary",
        "$5-10",
        None if plan is None or not work.views else prices[plan].usd / work.views * 100_000,
        f"{needed:,.0f} credits in the first month (bytes out, storage and transformations): "
        + (f"the plan {plan}." if plan else "more than the plans with a public price include."),
    )


def _own_machines(
    work: Workload, prices: Mapping[str, Price], machines: Machines, *, free_tier: bool
) -> Alternative:
    hour = prices["machine-hour"]
    if machines.hour_usd is not None:
        hour = replaced(hour, usd=machines.hour_usd, source="--machine-hour", is_checked=True)
    quantities = (
        Quantity("views", "machines", machines.count * MONTH_HOURS, "machine-hour"),
        Quantity("views", "disks", machines.count * machines.disk_gb, "machine-disk"),
        Quantity("views", "bytes", work.views * work.view_bytes / 1e9, "machine-bytes"),
    )
    found = Estimate(priced(quantities, {**prices, "machine-hour": hour}, free_tier=free_tier))
    return Alternative(
        f"own machines: {machines.count} at ${hour.usd:g} an hour",
        "",
        per_100k_views_usd(found, work),
        "Machines, disks and bytes out, whatever the views are: more views make 100,000 of them cheaper.",
    )


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
