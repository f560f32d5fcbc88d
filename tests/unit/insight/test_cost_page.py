"""The page of `cost --html`: complete in one file, escaped, and its charts inside their frame."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.insight import cost_chart
from galerly_cdn.insight.cost import Workload
from galerly_cdn.insight.cost_comparison import Machines
from galerly_cdn.insight.cost_page import render_page
from galerly_cdn.insight.cost_report import read_report
from galerly_cdn.insight.cost_result import cost_report
from galerly_cdn.insight.cost_text import format_price, format_quantity, format_usd
from galerly_cdn.insight.prices import packaged_prices

if TYPE_CHECKING:
    from galerly_cdn.insight.cost_result import CostReport

PRICES = packaged_prices()
GALLERY = "<script>alert(1)</script>"
TRAFFIC = read_report(
    (
        '{"requests": 10, "pictures": 10, "hits": 9, "hit_ratio": 0.9, "bytes": 99, "renders": 1, "days": 1,'
        f'"by_gallery": [{{"name": "{GALLERY}", "requests": 9, "pictures": 9, "hits": 9, "bytes": 9,'
        '"renders": null}]}'
    ).encode(),
    "report.json",
)


def made(work: Workload) -> CostReport:
    return cost_report(work, PRICES, Machines(), TRAFFIC, free_tier=False)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_shows_every_line_and_sum_and_gallery_as_text() -> None:
    report = made(Workload())
    page = Elements(render_page(report, PRICES))
    for line in report.lines:
        assert line.item in page.text
        assert format_price(line) in page.text
    for amount in (report.monthly_usd, report.one_off_usd, report.per_100k_views_usd):
        assert format_usd(amount) in page.text
    assert all(row.note in page.text for row in report.specification)
    assert all(one.note in page.text for one in report.alternatives)
    assert GALLERY in page.text
    assert "{" not in re.sub(r"<style>.*?</style>", "", render_page(report, PRICES), flags=re.DOTALL)


def test_page_loads_nothing_and_has_no_script() -> None:
    page = Elements(render_page(made(Workload()), PRICES))
    assert {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements} == set()
    assert not [attributes for _, attributes in page.elements if {"src", "href", "style"} & set(attributes)]


@pytest.mark.parametrize(
    "work",
    [
        Workload(),
        Workload(views=0, originals=0),
        Workload(hit_ratio=0),
        Workload(hit_ratio=1),
        Workload(views=1e10),
        Workload(views=1),
    ],
)
def test_curves_and_marker_are_inside_the_plot(work: Workload) -> None:
    page = render_page(made(work), PRICES)
    points = [
        (float(x), float(y))
        for d in re.findall(r'class="curve curve-\d" d="([^"]+)"', page)
        for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", d)
    ]
    circles = re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', page)
    assert len(circles) == 2
    assert len(points) > 100
    for x, y in [*points, *((float(x), float(y)) for x, y in circles)]:
        assert cost_chart.LEFT <= x <= cost_chart.WIDTH - cost_chart.RIGHT
        assert cost_chart.TOP <= y <= cost_chart.HEIGHT - cost_chart.BOTTOM


@given(st.floats(1e-6, 1e12))
def test_ticks_are_few_and_reach_the_highest_value(high: float) -> None:
    ticks = cost_chart.nice_ticks(high)
    assert 3 <= len(ticks) <= 7
    assert ticks[0] == 0
    assert ticks[-1] >= high * (1 - 1e-9)
    assert ticks[-2] < high


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0"),
        (0.0000123, "$0.0000123"),
        (0.00074, "$0.00074"),
        (0.1, "$0.10"),
        (0.161, "$0.161"),
        (0.9923, "$0.992"),
        (0.99999, "$1.00"),
        (45.04, "$45.04"),
        (12345.678, "$12,345.68"),
    ],
)
def test_amount_has_at_least_two_decimals_and_three_digits(amount: float, text: str) -> None:
    assert format_usd(amount) == text


@pytest.mark.parametrize(
    ("quantity", "text"),
    [(5, "5"), (0.07, "0.07"), (13.8203, "13.82"), (1727.54, "1,728"), (6.57e5, "657,000"),
     (1.2e-6, "0.0000012")],
)  # fmt: skip
def test_quantity_is_short(quantity: float, text: str) -> None:
    assert format_quantity(quantity) == text


@given(st.floats(1e-9, 1e9))
def test_amount_is_near_its_text(amount: float) -> None:
    assert math.isclose(float(format_usd(amount).replace(",", "")[1:]), amount, rel_tol=0.006)
