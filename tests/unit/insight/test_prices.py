"""The prices of the package, and a user's file that replaces some: checked, with the line of each problem."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import SettingsError
from galerly_cdn.insight.cost import REGIONS
from galerly_cdn.insight.prices import Price, packaged_prices, replaced_prices

PUT = '[s3-put]\nusd = 0.0054\nsource = "a bill"\ndate = 2026-12-01\n'


def tiered(*above: tuple[float, float]) -> Price:
    return Price(usd=0.10, unit="GB", source="s", date=dt.date(2026, 12, 1), above=above)


def test_every_packaged_price_has_source_date_and_falling_tiers() -> None:
    for name, price in packaged_prices().items():
        rates = [price.usd, *(usd for _, usd in price.above)]
        assert rates == sorted(rates, reverse=True), name
        assert "." in price.source, name
        assert price.date >= dt.date(2026, 11, 23), name


def test_every_region_has_a_price_of_bytes_and_of_requests() -> None:
    prices = packaged_prices()
    for what in ("bytes", "requests"):
        regions = [name for name in prices if name.startswith(f"cloudfront-{what}-")]
        assert regions == [f"cloudfront-{what}-{region}" for region in REGIONS]


@pytest.mark.parametrize(
    ("start", "end", "usd"),
    [
        (0, 10, 1.0),
        (0, 100, 10.0),
        (0, 150, 10.0 + 50 * 0.08),
        (90, 110, 10 * 0.10 + 10 * 0.08),
        (200, 300, 100 * 0.08),
        (0, 1500, 10.0 + 900 * 0.08 + 500 * 0.05),
        (5, 5, 0.0),
    ],
)
def test_amount_counts_each_tier_by_its_own_price(start: float, end: float, usd: float) -> None:
    assert tiered((100, 0.08), (1000, 0.05)).amount_usd(start, end) == pytest.approx(usd)


@given(st.lists(st.floats(0, 1e7), min_size=3, max_size=3).map(sorted))
def test_amount_of_a_range_is_the_sum_of_its_parts(bounds: list[float]) -> None:
    price = tiered((100, 0.08), (1000, 0.05))
    low, middle, high = bounds
    parts = price.amount_usd(low, middle) + price.amount_usd(middle, high)
    assert parts == pytest.approx(price.amount_usd(low, high))


def test_replaced_price_keeps_unit_quantity_and_free_units_and_no_tiers() -> None:
    text = '[cloudfront-bytes-europe]\nusd = 0.06\nsource = "a contract"\ndate = 2026-12-01\n'
    prices = replaced_prices(text.encode(), "my.toml")
    old, new = packaged_prices()["cloudfront-bytes-europe"], prices["cloudfront-bytes-europe"]
    assert (new.usd, new.source, new.above, new.is_checked) == (0.06, "a contract", (), True)
    assert (new.unit, new.per, new.free, new.free_with) == (old.unit, old.per, old.free, old.free_with)
    assert {name: price for name, price in prices.items() if price != new} == {
        name: price for name, price in packaged_prices().items() if name != "cloudfront-bytes-europe"
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (PUT.replace("0.0054", '"0,0054"'), "line 2: s3-put: Expected `float`, got `str` - at `$.usd`"),
        (PUT.replace("0.0054", "-1"), "line 2: s3-put: Expected `float` >= 0.0 - at `$.usd`"),
        (PUT.replace("0.0054", "inf"), "line 2: s3-put: not a finite number - at `$.usd`"),
        (PUT.replace("0.0054", "nan"), "line 2: s3-put: Expected `float` >= 0.0 - at `$.usd`"),
        (PUT + "per = 0\n", "line 5: s3-put: Expected `float` > 0.0 - at `$.per`"),
        (PUT.replace("2026-12-01", '"soon"'), "line 4: s3-put: Invalid RFC3339 encoded date - at `$.date`"),
        ("# mine\n\n[s3-put]\nusd = 1\n", "line 3: s3-put: Object missing required field `source`"),
        (PUT + "\n[s3-pet]\nusd = 1\n", "line 6: s3-pet: there is no price of this name"),
        ("s3-put = 0.005\n", "line 1: s3-put: a price is a table with `usd`, `source` and `date`"),
        (PUT + "currency = 'EUR'\n", "line 5: s3-put: Object contains unknown field `currency`"),
        (PUT + 'unit = "GB"\n', "line 5: s3-put: the unit of this price is requests - at `$.unit`"),
        (PUT + "above = [[10, 0.1], [5, 0.2]]\n", "line 5: s3-put: the quantities must rise"),
        (PUT + "above = [[10, -1]]\n", "line 5: s3-put: Expected `float` >= 0.0 - at `$.above[0][1]`"),
        (PUT.replace("usd =", "usd"), ": Expected '=' after a key in a key/value pair (at line 2"),
        (PUT.replace("a bill", "a bill\udcff"), "line 3: not UTF-8"),
    ],
)  # fmt: skip
def test_price_file_with_a_problem_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        replaced_prices(text.encode(errors="surrogateescape"), "my.toml")
    (line,) = refused.value.problems
    assert line.startswith(f"my.toml, {problem}" if problem.startswith("line") else f"my.toml{problem}")
