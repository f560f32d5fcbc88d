"""The cost estimate: the pinned figures of the specification's example, and which price a line uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.insight.cost import REGIONS, Workload, estimate, per_100k_views_usd
from galerly_cdn.insight.cost_comparison import Machines, alternatives, specification_figures
from galerly_cdn.insight.prices import packaged_prices
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from galerly_cdn.insight.cost import Estimate, Line

PRICES = packaged_prices()
EXAMPLE = Workload()
EVERYTHING = Workload(
    replaced=10, has_prewarm=True, render_ratio=0.5, viewers=tuple((region, 1 / 8) for region in REGIONS)
)
"""A workload with every line but those of Lambda@Edge and of the resizer's first renders."""
WORKLOADS = (EVERYTHING, replaced(EVERYTHING, has_prewarm=False, is_lambda_edge=True))


def amount(found: Estimate, group: str, *starts: str) -> float:
    """The sum of the lines of a group whose items begin with one of these texts."""
    lines = [line for line in found.lines if line.group == group and line.item.startswith(starts)]
    assert lines
    return sum(line.amount_usd for line in lines)


def key(line: Line) -> tuple[str, str]:
    return line.group, line.item


# the pinned figures, with their formulas


def test_storage_of_the_example_is_0_161() -> None:
    found = estimate(EXAMPLE, PRICES, free_tier=False).sum_usd("storage")
    assert found == pytest.approx((1000 * 0.005 + 4 * 1000 * 0.0005) * 0.023)
    assert round(found, 3) == 0.161


def test_renders_of_the_example_at_the_deployed_memory_are_0_094() -> None:
    """Lambda's GB has 1024 MB, and its cold starts are billed."""
    found = amount(estimate(EXAMPLE, PRICES, free_tier=False), "uploads", "first requests: resizer")
    seconds = 4000 * 1 + 4000 * 0.01 * 0.8
    assert found == pytest.approx(seconds * 1769 / 1024 * 0.0000133334 + 4000 * 0.20 / 1e6)
    assert round(found, 3) == 0.094


def test_100k_views_of_the_example_are_0_99() -> None:
    found = estimate(EXAMPLE, PRICES, free_tier=False)
    bytes_out = 100_000 * 0.0001 * 0.085
    requests = 100_000 * (0.0100 / 10_000 + 0.10 / 1e6)
    renders = (1000 + 1000 * 0.01 * 0.8) * 1769 / 1024 * 0.0000133334 + 1000 * 0.20 / 1e6
    store = (1000 + 5 * 1000) * 0.0004 / 1000 + 1000 * 0.005 / 1000 + 2000 * 0.0075 / 10_000
    assert found.sum_usd("views") == pytest.approx(bytes_out + requests + renders + store)
    assert round(per_100k_views_usd(found, EXAMPLE), 2) == 0.99


def test_100k_views_of_the_example_within_the_free_tier_are_0_01() -> None:
    found = estimate(EXAMPLE, PRICES, free_tier=True)
    assert round(found.sum_usd("views"), 2) == 0.01  # S3's requests and Origin Shield


@pytest.mark.parametrize(("free_tier", "usd"), [(False, 7.68), (True, 2.52)])
def test_operation_of_the_example_is_the_amount_of_the_guide(*, free_tier: bool, usd: float) -> None:
    assert round(estimate(EXAMPLE, PRICES, free_tier=free_tier).sum_usd("operation"), 2) == usd


def test_specification_figures_have_their_own_and_the_computed_amount() -> None:
    rows = {
        row.item: (row.specification_usd, round(row.computed_usd, 3)) for row in specification_figures(PRICES)
    }
    assert rows == {
        "storage, each month": (0.16, 0.161),
        "renders of the uploads, once": (0.07, 0.094),
        "S3 requests of the uploads, once": (None, 0.040),
        "bytes to viewers": (0.85, 0.85),
        "HTTPS requests": (None, 0.1),
        "viewer function": (0.0006, 0.01),
        "renders of the misses": (0.017, 0.023),
        "S3 requests and Origin Shield of the misses": (None, 0.009),
        "100,000 views": (0.87, 0.992),
        "monitoring, logs and queues, each month": (None, 7.682),
        "janitor for the uploads, once": (None, 0.035),
    }  # fmt: skip


def test_example_has_the_four_named_sizes_of_the_specification() -> None:
    names = {rule.name: str(rule.size) for rule in Settings().size_rules if rule.name}
    assert names == {
        "tiny": "150x150", "small": "400x400", "thumbnail": "800x600", "medium": "2000x2000",
    }  # fmt: skip
    assert EXAMPLE.renditions == len(names)


@pytest.mark.parametrize("targets", [20, 45, 225])
def test_longer_allow_list_changes_only_the_janitors_reads(targets: int) -> None:
    found = estimate(replaced(EXAMPLE, targets=targets), PRICES, free_tier=False)
    before = estimate(EXAMPLE, PRICES, free_tier=False)
    differing = {one.item for one in set(found.lines) ^ set(before.lines)}
    assert differing <= {"uploads: janitor, S3 reads"}
    assert round(found.sum_usd("storage"), 3) == 0.161
    assert round(per_100k_views_usd(found, EXAMPLE), 2) == 0.99
    renders = [one.amount_usd for one in found.lines if one.item.startswith("first requests: resizer")]
    assert round(sum(renders), 3) == 0.094


def test_alternatives_of_the_example() -> None:
    found = alternatives(EXAMPLE, PRICES, Machines(), free_tier=False)
    amounts = {one.name: one.per_100k_views_usd for one in found}
    assert {name: usd if usd is None else round(usd, 2) for name, usd in amounts.items()} == {
        "this deployment": 0.99,
        "the same, Lambda@Edge as viewer function": 1.04,
        "direct S3, no resizing": 45.04,
        "Lambda@Edge with Sharp": 1.10,
        "Cloudinary": 0.0,
        "imgix": None,
        "own machines: 1 at $0.0336 an hour": 29.43,
    }


@pytest.mark.parametrize(
    ("views", "usd", "note"),
    [(1e5, 0.0, "cloudinary-free"), (1e6, 99.0, "cloudinary-plus"), (1e8, None, "more than the plans")],
)
def test_cloudinary_is_the_smallest_plan_with_enough_credits(
    views: float, usd: float | None, note: str
) -> None:
    found = alternatives(Workload(views=views), PRICES, Machines(), free_tier=False)
    (plan,) = (one for one in found if one.name == "Cloudinary")
    assert plan.per_100k_views_usd == (None if usd is None else pytest.approx(usd / views * 100_000))
    assert note in plan.note


def test_own_machines_cost_hours_disks_and_bytes() -> None:
    machines = Machines(count=2, hour_usd=0.05, disk_gb=100)
    found = alternatives(EXAMPLE, PRICES, machines, free_tier=False)[-1]
    assert found.per_100k_views_usd == pytest.approx(2 * 730 * 0.05 + 2 * 100 * 0.08 + 10 * 0.09)


# prices and lines

USED = sorted({line.price for work in WORKLOADS for line in estimate(work, PRICES, free_tier=False).lines})
FOR_ALTERNATIVES = {
    "cloudinary-advanced",
    "cloudinary-free",
    "cloudinary-plus",
    "machine-bytes",
    "machine-disk",
    "machine-hour",
    "s3-bytes",
}


def test_every_packaged_price_is_used() -> None:
    assert sorted(PRICES) == sorted({*USED, *FOR_ALTERNATIVES})


@pytest.mark.parametrize("name", USED)
def test_changed_price_changes_exactly_the_lines_that_use_it(name: str) -> None:
    doubled = {**PRICES, name: replaced(PRICES[name], usd=2 * PRICES[name].usd)}
    for work in WORKLOADS:
        before = estimate(work, PRICES, free_tier=False).lines
        after = estimate(work, doubled, free_tier=False).lines
        assert list(map(key, before)) == list(map(key, after))
        changed = {key(old) for old, new in zip(before, after, strict=True) if old != new}
        assert changed == {key(line) for line in before if line.price == name}
        for old, new in zip(before, after, strict=True):
            assert new.amount_usd == pytest.approx(old.amount_usd * (2 if new.price == name else 1))


@given(
    work=st.builds(
        Workload,
        views=st.floats(0, 1e9),
        hit_ratio=st.floats(0, 1),
        render_ratio=st.floats(0, 1),
        originals=st.floats(0, 1e6),
        replaced=st.floats(0, 1e4),
        has_shield=st.booleans(),
        has_janitor=st.booleans(),
        has_prewarm=st.booleans(),
        is_lambda_edge=st.booleans(),
        viewers=st.sampled_from([(("europe", 0.7), ("japan", 0.3)), (("india", 1.0),)]),
    ),
    free_tier=st.booleans(),
)
def test_amounts_follow_from_quantity_free_units_and_price(work: Workload, *, free_tier: bool) -> None:
    found = estimate(work, PRICES, free_tier=free_tier)
    free_units: dict[str, float] = {}
    for line in found.lines:
        price = PRICES[line.price]
        full = (line.quantity - line.free) * line.usd / line.per
        assert 0 <= line.amount_usd <= full + 1e-6  # rounding: the quantities may be billions
        if not line.is_tiered:
            assert line.amount_usd == pytest.approx(full, abs=1e-6)
        free_units.setdefault(price.free_with or line.price, 0.0)
        free_units[price.free_with or line.price] += line.free
        assert free_units[price.free_with or line.price] <= price.free * free_tier + 1e-6
    assert found.monthly_usd + found.one_off_usd == pytest.approx(
        sum(line.amount_usd for line in found.lines)
    )


def test_free_units_are_shared_by_the_regions() -> None:
    work = Workload(views=15_000_000, viewers=(("europe", 0.5), ("japan", 0.5)))
    lines = [line for line in estimate(work, PRICES, free_tier=True).lines if "bytes to viewers" in line.item]
    assert [(line.quantity, line.free) for line in lines] == [(750, 750), (750, 250)]
    assert lines[1].amount_usd == pytest.approx(500 * 0.114)
