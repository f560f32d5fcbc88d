"""The month of a report, and what each gallery costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import SettingsError
from galerly_cdn.insight.cost import Workload, estimate
from galerly_cdn.insight.cost_report import gallery_costs, month_fields, read_report
from galerly_cdn.insight.prices import packaged_prices
from galerly_cdn.serialization import convert

if TYPE_CHECKING:
    from galerly_cdn.insight.cost import Estimate

WEEK = 7 * 24 / 730
GALLERIES = [
    {"name": "wedding", "requests": 7000, "pictures": 7000, "hits": 6900, "bytes": 8e8, "renders": 20},
    {"name": "coast", "requests": 2000, "pictures": 2000, "hits": 1700, "bytes": 1e8, "renders": 80},
]
REPORT: dict[str, Any] = {
    "requests": 10_000,
    "pictures": 10_000,
    "hits": 9500,
    "hit_ratio": 0.95,
    "bytes": 1_000_000_000,
    "errors": 3,
    "renders": 100,
    "days": 7,
    "by_gallery": GALLERIES,
}


def read(**changed: Any) -> Any:  # noqa: ANN401 - a report's fields
    return read_report(json.dumps(REPORT | changed).encode(), "report.json")


def test_month_of_a_report_is_in_proportion_to_its_days() -> None:
    fields = month_fields(read())
    assert fields["views"] == pytest.approx(10_000 / WEEK)
    assert fields["hit_ratio"] == 0.95
    assert fields["render_ratio"] == pytest.approx(100 / 500)
    assert fields["view_bytes"] == 100_000


@pytest.mark.parametrize(
    "changed",
    [
        {"requests": 0, "hit_ratio": None, "bytes": 0, "renders": 0},
        {"hit_ratio": 1.0},
        {"renders": 1_000_000},
        {"requests": 1e18, "bytes": 1e18, "days": 2e-6},
        {"renders": None, "by_gallery": [row | {"renders": None} for row in GALLERIES]},
    ],
)
def test_month_of_an_unusual_report_is_a_valid_workload(changed: dict[str, Any]) -> None:
    work = convert(Workload, month_fields(read(**changed)))
    assert estimate(work, packaged_prices(), free_tier=False).monthly_usd > 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "Input data was truncated"),
        (b'{"lines": []}', "Object missing required field `requests`"),
        (json.dumps(REPORT | {"days": 0}).encode(), "Expected `float` > 1e-06 - at `$.days`"),
        (json.dumps(REPORT | {"hit_ratio": 95}).encode(), "Expected `float` <= 1.0 - at `$.hit_ratio`"),
    ],
)
def test_file_that_is_no_report_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_report(text, "report.json")
    expected = f"report.json is not the JSON of `galerly-cdn report --json`: {problem}"
    assert refused.value.problems == [expected]


def amounts(found: Estimate) -> dict[str, float]:
    """The amounts of the lines of the views, by what they are in proportion to."""
    sums: dict[str, float] = {}
    for line in found.lines:
        if line.group == "views":
            sums[line.driver] = sums.get(line.driver, 0.0) + line.amount_usd
    return sums


@pytest.mark.parametrize(
    ("renders", "share_of_renders"), [(True, 20 / 100), (False, 100 / 500)], ids=["logged", "not logged"]
)
def test_gallery_pays_for_its_bytes_requests_misses_and_renders(
    *, renders: bool, share_of_renders: float
) -> None:
    report = read() if renders else read(renders=None)
    work = convert(Workload, month_fields(report) | {"views": 2 * 10_000 / WEEK})
    found = estimate(work, packaged_prices(), free_tier=False)
    by_name = {row.gallery: row for row in gallery_costs(report, work, found)}
    assert list(by_name)[-1] is None
    assert by_name[None].requests == pytest.approx(2 * 1000 / WEEK)
    assert by_name["coast"].bytes == pytest.approx(2 * 1e8 / WEEK)
    assert by_name["coast"].renders == (pytest.approx(2 * 80 / WEEK) if renders else None)
    usd = amounts(found)
    expected = 0.8 * usd["bytes"] + 0.7 * usd["requests"] + 100 / 500 * usd["misses"]
    assert by_name["wedding"].monthly_usd == pytest.approx(expected + share_of_renders * usd["renders"])


_COUNTS = ("requests", "pictures", "hits", "bytes", "renders")


@given(
    galleries=st.lists(
        st.fixed_dictionaries(
            {"name": st.text(max_size=3), **{one: st.integers(0, 10**9) for one in _COUNTS}}
        ),
        max_size=4,
    ),
    free_tier=st.booleans(),
    hit_ratio=st.floats(0, 1),
)
def test_galleries_and_others_cost_what_the_views_cost(
    *, galleries: list[dict[str, Any]], free_tier: bool, hit_ratio: float
) -> None:
    sums = {name: 1 + sum(one[name] for one in galleries) for name in _COUNTS}
    report = read(by_gallery=galleries, hit_ratio=hit_ratio, **sums)
    work = convert(Workload, month_fields(report))
    found = estimate(work, packaged_prices(), free_tier=free_tier)
    rows = gallery_costs(report, work, found)
    named = [row for row in rows if row.gallery is not None]
    assert sorted(row.gallery or "" for row in named) == sorted(one["name"] for one in galleries)
    assert [row.monthly_usd for row in named] == sorted((row.monthly_usd for row in named), reverse=True)
    assert sum(row.monthly_usd for row in rows) == pytest.approx(found.sum_usd("views") if galleries else 0)
