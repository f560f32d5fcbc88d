"""Estimates what the AWS deployment costs, as `galerly-cdn cost` does, by a form or a report."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated, NamedTuple

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.admin.routes import Route
from galerly_cdn.insight import cost_page, cost_result
from galerly_cdn.insight.cost import REGIONS
from galerly_cdn.insight.cost_comparison import Machines
from galerly_cdn.insight.cost_options import OptionError, read_workload, write_options
from galerly_cdn.insight.prices import packaged_prices
from galerly_cdn.serialization import Meta, ValidationError, Value, convert, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.dashboard.report import MadeReport
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.http.responses import Response

PATH = f"{PAGES_PATH}/cost"
_Quantity = Annotated[float, Meta(ge=0, le=1e15)] | None
_Ratio = Annotated[float, Meta(ge=0, le=1)] | None


class CostForm(Value, frozen=True, kw_only=True):
    """The fields as a browser sends them; one that is left empty, and a box that is not ticked, is empty."""

    views: str = ""
    hit_ratio: str = ""
    render_ratio: str = ""
    view_kb: str = ""
    viewers: str = ""
    originals: str = ""
    original_mb: str = ""
    renditions: str = ""
    rendition_kb: str = ""
    replaced: str = ""
    render_s: str = ""
    memory_mb: str = ""
    machines: str = ""
    machine_hour: str = ""
    has_shield: str = ""
    has_janitor: str = ""
    has_prewarm: str = ""
    is_lambda_edge: str = ""
    free_tier: str = ""


class CostOptions(Value, frozen=True, kw_only=True):
    """The options of `galerly-cdn cost`; None is one that is not given."""

    views: _Quantity = None
    hit_ratio: _Ratio = None
    render_ratio: _Ratio = None
    view_kb: _Quantity = None
    viewers: str | None = None
    originals: _Quantity = None
    original_mb: _Quantity = None
    renditions: _Quantity = None
    rendition_kb: _Quantity = None
    replaced: _Quantity = None
    render_s: _Quantity = None
    memory_mb: Annotated[float, Meta(ge=128, le=10240)] | None = None
    machines: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    machine_hour: _Quantity = None
    has_shield: bool = True
    has_janitor: bool = True
    has_prewarm: bool = False
    is_lambda_edge: bool = False
    free_tier: bool = False


class Field(NamedTuple):
    """A field of the form, and what is beside it."""

    name: str
    label: str
    hint: str = ""
    is_number: bool = True


GROUPS = (
    (
        "Views",
        (
            Field("views", "Views a month"),
            Field("hit_ratio", "Share of hits", "answered by CloudFront’s caches, 0 to 1"),
            Field("render_ratio", "Share of renders", "of the misses; S3 has the others, 0 to 1"),
            Field("view_kb", "Size of a view, kB"),
            Field("viewers", "Viewers", "europe=0.7,japan=0.3", is_number=False),
        ),
    ),
    (
        "Photographs",
        (
            Field("originals", "Originals"),
            Field("original_mb", "Size of an original, MB"),
            Field("renditions", "Renditions of an original", "sizes × formats in use"),
            Field("rendition_kb", "Size of a rendition, kB"),
            Field("replaced", "Originals replaced a month"),
        ),
    ),
    (
        "Functions and own machines",
        (
            Field("render_s", "Seconds of a render"),
            Field("memory_mb", "Memory of the functions, MB", "128 to 10240"),
            Field("machines", "Own machines", "for comparison"),
            Field("machine_hour", "Dollars for their hour", "empty: a list price"),
        ),
    ),
)
BOXES = {
    "has_shield": "Origin Shield",
    "has_janitor": "Janitor",
    "has_prewarm": "Prewarm",
    "is_lambda_edge": "Lambda@Edge as viewer function",
    "free_tier": "Subtract the free tier",
}
_LABELS = {field.name: field.label for _, fields in GROUPS for field in fields}
_OF_WORKLOAD = tuple(
    name
    for name in CostOptions.__annotations__
    if name not in {"viewers", "machines", "machine_hour", "free_tier"}
)


class CostPage:
    """The page *Cost*. `report` returns the last report, whose figures are the defaults."""

    def __init__(self, site: Site, report: Callable[[], MadeReport | None]) -> None:
        self._site = site
        self._report = report

    def routes(self) -> tuple[Route, ...]:
        """The route of the page; the form's fields are its query."""
        return (Route("GET", PATH, self._respond, "What the AWS deployment costs", {}),)

    async def _respond(self, request: AdminRequest) -> Response:
        form = request.parse_query(CostForm)
        sent = {name: text.strip() for name, text in fields_of(form).items() if text.strip()}
        made = self._report()
        values: dict[str, object] = {
            "groups": GROUPS,
            "boxes": BOXES,
            "regions": REGIONS,
            "made": made if made is not None and made.traffic is not None else None,
        }
        try:
            options = _options(sent, is_sent=bool(request.query))
            body, fields = await asyncio.to_thread(_estimate, options, made)
        except OptionError as error:
            problem = f"{_LABELS.get(error.name, error.name)}: {error.problem}"
            _, fields = await asyncio.to_thread(_estimate, CostOptions(), made)
            unticked = dict.fromkeys(BOXES, "")
            kept = {**_texts(fields), **unticked, **sent}
            values |= {"error": problem, "wrong": error.name, "body": "", "fields": kept}
            return await self._site.render(request, "cost.html", values, 400)
        values |= {"error": None, "wrong": "", "body": body, "fields": {**_texts(fields), **sent}}
        return await self._site.render(request, "cost.html", values)


def _options(sent: Mapping[str, str], *, is_sent: bool) -> CostOptions:
    """The form's options; boxes that are not ticked are off once the form was sent. Raises `OptionError`."""
    unticked = dict.fromkeys(BOXES, "false") if is_sent else {}
    try:
        return convert(CostOptions, {**unticked, **sent})
    except ValidationError as error:
        name = re.search(r"\$\.(\w+)", str(error))
        raise OptionError(name[1] if name else "", _problem(str(error))) from error


def _problem(error: str) -> str:
    """A sentence for people, of a message such as "Expected `float` >= 0.0 - at `$.views`"."""
    bound = re.search(r"([<>])= ([\d.]+)", error)
    if bound is None:
        return "not a number."
    return f"not a number of at {'least' if bound[1] == '>' else 'most'} {float(bound[2]):g}."


def _estimate(options: CostOptions, made: MadeReport | None) -> tuple[str, dict[str, object]]:
    """The HTML of the estimate, and the fields that it was made of. Raises `OptionError`."""
    given = {name: getattr(options, name) for name in _OF_WORKLOAD}
    traffic = made.traffic if made is not None else None
    workload = read_workload(given, traffic, options.viewers)
    own = Machines(count=options.machines, hour_usd=options.machine_hour)
    prices = packaged_prices()
    found = cost_result.cost_report(workload, prices, own, traffic, free_tier=options.free_tier)
    others = {
        "machines": options.machines,
        "machine_hour": "" if options.machine_hour is None else options.machine_hour,
        "free_tier": options.free_tier,
    }
    return cost_page.render_body(found, prices), {**write_options(workload), **others}


def _texts(fields: Mapping[str, object]) -> dict[str, object]:
    """Numbers as a browser shows them in a field: 0.97, 100000."""
    return {
        name: f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
        for name, value in fields.items()
    }
