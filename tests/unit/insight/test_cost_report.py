"""The month of a report, and what each gallery costs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import SettingsError
from galerly_cdn.insight.cost import Workload, estimate
from galerly_cdn.insight.cost_report import gallery_costs, month_fields, read_report
from galerly_cdn.insight.prices import packaged_prices
from galerly_cdn.serialization import convert

WEEK = 7 * 24 / 730
GALLERIES = {
    "wedding": {"requests": 7000, "bytes": 800_000_000, "renders": 20, "hits": 6900},
    "coast": {"requests": 2000, "bytes": 100_000_000, "renders": 80, "hits": 1900},
}
REPORT: dict[str, Any] = {
    "requests": 10_000,
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
        (json.dumps(REPORT | {"days": 0}).encode(), "Expected `float` > 0.0 - at `$.days`"),
        (json.dumps(REPORT | {"hit_ratio": 95}).encode(), "Expected `float` <= 1.0 - at `$.hit_ratio`"),
    ],
)
def test_file_that_is_no_report_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_report(text, "report.json")
    expected = f"report.json is not the JSON of `galerly-cdn report --json`: {problem}"
    assert refused.value.problems == [expected]


def test_gallery_pays_for_its_bytes_requests_and_renders() -> None:
    report = read()
    found = estimate(convert(Workload, month_fields(report)), packaged_prices(), free_tier=False)
    wedding, coast, others = gallery_costs(report, found)
    assert (wedding.gallery, coast.gallery, others.gallery) == ("wedding", "coast", "")
    assert others.requests == pytest.approx(1000 / WEEK)
    lines = {"bytes": 0.0, "requests": 0.0, "renders": 0.0}
    for line in found.lines:
        if line.group == "views":
            lines["renders" if line.driver == "misses" else line.driver] += line.amount_usd
    usd = 0.8 * lines["bytes"] + 0.7 * lines["requests"] + 0.2 * lines["renders"]
    assert wedding.monthly_usd == pytest.approx(usd)


@given(
    galleries=st.dictionaries(
        st.text(max_size=3),
        st.fixed_dictionaries({name: st.integers(0, 10**9) for name in ("requests", "bytes", "renders")}),
        max_size=4,
    ),
    free_tier=st.booleans(),
    hit_ratio=st.floats(0, 1),
)
def test_galleries_and_others_cost_what_the_views_cost(
    *, galleries: dict[str, dict[str, int]], free_tier: bool, hit_ratio: float
) -> None:
    sums = {
        name: 1 + sum(one[name] for one in galleries.values()) for name in ("requests", "bytes", "renders")
    }
    report = read(by_gallery=galleries, hit_ratio=hit_ratio, **sums)
    found = estimate(convert(Workload, month_fields(report)), packaged_prices(), free_tier=free_tier)
    rows = gallery_costs(report, found)
    assert [row.gallery for row in rows[: len(galleries)]] == sorted(
        galleries, key=lambda name: (-next(r.monthly_usd for r in rows if r.gallery == name), name)
    )
    assert sum(row.monthly_usd for row in rows) == pytest.approx(found.sum_usd("views") if galleries else 0)
