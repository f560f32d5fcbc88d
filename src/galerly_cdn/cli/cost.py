"""The command `cost`: what the AWS deployment costs, line by line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from galerly_cdn.insight.cost import Workload
    from galerly_cdn.insight.cost_report import TrafficReport

_NOT_NEGATIVE = click.FloatRange(0, 1e15)
_RATIO = click.FloatRange(0, 1)


@click.command(epilog="Example: galerly-cdn cost --views 1000000 --hit-ratio 0.97 --html cost.html")
@click.option("--views", type=_NOT_NEGATIVE, help="Requests for pictures in a month. [100000]")
@click.option("--hit-ratio", type=_RATIO, help="Share that CloudFront's caches answer. [0.99]")
@click.option(
    "--render-ratio", type=_RATIO, help="Share of the misses that are rendered; S3 has the others. [1]"
)
@click.option("--view-kb", type=_NOT_NEGATIVE, help="Size of a picture that is sent, in kB. [100]")
@click.option("--originals", type=_NOT_NEGATIVE, help="Originals that are uploaded and kept. [1000]")
@click.option("--original-mb", type=_NOT_NEGATIVE, help="Size of an original, in MB. [5]")
@click.option(
    "--renditions", type=_NOT_NEGATIVE, help="Renditions of an original: sizes × formats in use. [4]"
)
@click.option("--rendition-kb", type=_NOT_NEGATIVE, help="Size of a stored rendition, in kB. [500]")
@click.option("--replaced", type=_NOT_NEGATIVE, help="Originals replaced or deleted in a month. [0]")
@click.option("--render-s", type=_NOT_NEGATIVE, help="Seconds of a render in Lambda. [1]")
@click.option("--memory-mb", type=click.FloatRange(128, 10240), help="Memory of the functions. [1769]")
@click.option(
    "--viewers",
    metavar="REGION=SHARE,…",
    help="Where the viewers are, such as europe=0.7,japan=0.3. [north-america=1]",
)
@click.option("--shield/--no-shield", "has_shield", default=True, help="The template's OriginShield. [on]")
@click.option("--janitor/--no-janitor", "has_janitor", default=True, help="The template's Janitor. [on]")
@click.option("--prewarm/--no-prewarm", "has_prewarm", default=False, help="The template's Prewarm. [off]")
@click.option("--lambda-edge", "is_lambda_edge", is_flag=True, help="The viewer function is Lambda@Edge.")
@click.option("--free-tier", is_flag=True, help="Subtract what AWS gives each month for free.")
@click.option("--machines", type=click.IntRange(min=1), default=1, help="Own machines, for comparison. [1]")
@click.option("--machine-hour", type=_NOT_NEGATIVE, help="Dollars for an hour of an own machine.")
@click.option(
    "--from-report",
    "report_file",
    type=click.File("rb"),
    metavar="FILE",
    help="Take views, hits, renders, bytes and galleries from the JSON of `galerly-cdn report` (- is stdin).",
)
@click.option(
    "--prices",
    "prices_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file whose prices replace those of galerly-cdn.",
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with charts to this file."
)
@terminal.JSON
def cost(  # noqa: PLR0913 - its options
    *,
    viewers: str | None,
    free_tier: bool,
    machines: int,
    machine_hour: float | None,
    report_file: BinaryIO | None,
    prices_file: Path | None,
    html: Path | None,
    as_json: bool,
    **fields: float | None,
) -> None:
    """Estimate what the AWS deployment costs each month and once.

    The defaults are the specification's example: 1000 originals and 100,000 views. Prices are list prices
    without tax; each has its source and date in the JSON.
    """
    from galerly_cdn.insight import cost_page, cost_text
    from galerly_cdn.insight.cost_comparison import Machines
    from galerly_cdn.insight.cost_report import read_report
    from galerly_cdn.insight.cost_result import cost_report
    from galerly_cdn.insight.prices import packaged_prices, replaced_prices

    report = None
    if report_file is not None:
        report = read_report(report_file.read(), getattr(report_file, "name", "stdin"))
    prices = packaged_prices()
    if prices_file is not None:
        prices = replaced_prices(prices_file.read_bytes(), str(prices_file))
    own = Machines(count=machines, hour_usd=machine_hour)
    found = cost_report(_workload(fields, report, viewers), prices, own, report, free_tier=free_tier)
    if html is not None:
        html.write_text(cost_page.render_page(found, prices), "utf-8")
    terminal.print_value(found, cost_text.format_report(found), as_json=as_json)


def _workload(fields: dict[str, float | None], report: TrafficReport | None, viewers: str | None) -> Workload:
    """Raises `UsageError` for an option that is no quantity."""
    from galerly_cdn.insight import cost_options

    try:
        return cost_options.read_workload(fields, report, viewers)
    except cost_options.OptionError as error:
        raise click.UsageError(f"--{error.name.replace('_', '-')}: {error.problem}") from error
