"""The prices of the cost estimate: `prices.toml`, and a file of the user's that replaces some of them."""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
import tomllib
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import Meta, ValidationError, Value, convert

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGED = "prices.toml"
_INHERITED = ("unit", "per", "free", "free_with")
"""What a price in the user's file takes from the packaged price of the same name."""

_Amount = Annotated[float, Meta(ge=0)]
_Quantity = Annotated[float, Meta(gt=0)]


class Price(Value, frozen=True):
    """`usd` dollars for each `per` units. The fields are described in `prices.toml`."""

    usd: _Amount
    unit: str
    source: Annotated[str, Meta(min_length=1)]
    date: dt.date
    per: _Quantity = 1
    free: _Amount = 0
    free_with: str = ""
    above: tuple[tuple[_Quantity, _Amount], ...] = ()
    is_checked: bool = True

    def amount_usd(self, start: float, end: float) -> float:
        """The price of a month's units from number `start` to `end`, in dollars, by the tiers of `above`.

        A unit's tier depends on how many come before it in the month, free units included.
        """
        lows = [0.0, *(bound for bound, _ in self.above)]
        rates = [self.usd, *(usd for _, usd in self.above)]
        return sum(
            max(0.0, min(end, high) - max(start, low)) * usd / self.per
            for usd, low, high in zip(rates, lows, [*lows[1:], math.inf], strict=True)
        )


Prices = dict[str, Price]


@functools.cache
def packaged_prices() -> Mapping[str, Price]:
    """The prices of `prices.toml`."""
    return _parse(resources.files("galerly_cdn.insight").joinpath(_PACKAGED).read_bytes(), _PACKAGED, {})


def replaced_prices(content: bytes, file: str) -> Mapping[str, Price]:
    """The packaged prices, with those replaced that a file of the user's names.

    A table `[name]` replaces the price of that name: `usd`, `source` and `date` are required, so that no new
    price has the old price's source; `per`, `free` and the unit are kept where the table does not set them.

    Raises `SettingsError` with the file's name and the line of each problem.
    """
    packaged = packaged_prices()
    return {**packaged, **_parse(content, file, packaged)}


def _parse(content: bytes, file: str, packaged: Mapping[str, Price]) -> Prices:
    try:
        text = content.decode()
        tables: dict[str, Any] = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError([f"{file}, line {line}: not UTF-8"]) from error
    except tomllib.TOMLDecodeError as error:  # its message ends with line and column
        raise SettingsError([f"{file}: {error}"]) from error
    prices: Prices = {}
    problems: list[str] = []
    for name, table in tables.items():
        try:
            prices[name] = _price(name, table, packaged)
        except ValueError as problem:
            field = re.search(r"(?:`\$\.|unknown field `)(\w+)", str(problem))
            line = _line_number(text, name, field[1] if field else "")
            problems.append(f"{file}, line {line}: {name}: {problem}")
    if problems:
        raise SettingsError(problems)
    return prices


def _price(name: str, table: Any, packaged: Mapping[str, Price]) -> Price:  # noqa: ANN401 - raw TOML
    """A table as a price. Raises `ValueError` with a message that names the field in backquotes."""
    if not isinstance(table, dict):
        raise ValueError("a price is a table with `usd`, `source` and `date`")  # noqa: TRY004 - one kind
    if packaged and name not in packaged:
        raise ValueError(f"there is no price of this name; the names are {', '.join(packaged)}")
    kept = {field: getattr(packaged[name], field) for field in _INHERITED} if packaged else {}
    if packaged and table.get("unit", kept["unit"]) != kept["unit"]:
        raise ValueError(f"the unit of this price is {kept['unit']} - at `$.unit`")
    try:
        price = convert(Price, {**kept, **table})
    except ValidationError as error:
        raise ValueError(str(error)) from error
    for field in ("usd", "per", "free"):
        if not math.isfinite(getattr(price, field)):
            raise ValueError(f"not a finite number - at `$.{field}`")
    bounds = [bound for bound, _ in price.above]
    if bounds != sorted(set(bounds)) or not all(math.isfinite(one) for tier in price.above for one in tier):
        raise ValueError("the quantities must rise and be finite - at `$.above`")
    return price


def _line_number(text: str, name: str, field: str) -> int:
    """The line of a field in a table, counted from 1; the table's line if the field is missing."""
    header = re.compile(r"\s*\[+\s*[\"']?([^\]\"']+)[\"']?\s*\]")
    top_level = re.compile(rf"\s*{re.escape(name)}\s*[.=]")  # no table, or a dotted key
    inside = re.compile(rf"\s*{re.escape(field)}\s*=") if field else None
    found, table = 1, ""
    for number, line in enumerate(text.splitlines(), 1):
        matched = header.match(line)
        if matched:
            table = matched[1].strip()
            found = number if table == name else found
        elif (not table and top_level.match(line)) or (table == name and inside and inside.match(line)):
            return number
    return found
