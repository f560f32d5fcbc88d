"""The command `cost`: its options, its JSON, its files, and how it refuses what it cannot use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.insight.cost import REGIONS

if TYPE_CHECKING:
    from pathlib import Path

PRICE = '[s3-storage]\nusd = 0.046\nsource = "a contract"\ndate = 2026-12-01\n'
REPORT = {
    "requests": 20_000,
    "pictures": 20_000,
    "hits": 19_000,
    "hit_ratio": 0.95,
    "bytes": 4_000_000_000,
    "errors": 0,
    "renders": 250,
    "days": 365 / 12,
    "by_gallery": [
        {
            "name": "a <b>",
            "requests": 20_000,
            "pictures": 20_000,
            "hits": 19_000,
            "bytes": 4_000_000_000,
            "renders": 250,
        }
    ],
}


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, ["cost", *map(str, arguments)], input=stdin)


def found(*arguments: str | Path, stdin: str | None = None) -> dict[str, Any]:
    result = run(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def items(value: dict[str, Any]) -> str:
    return " | ".join(line["item"] for line in value["lines"])


def test_json_has_lines_sums_and_the_specification() -> None:
    value = found()
    sums = {"monthly_usd": 8.84, "one_off_usd": 0.17, "per_100k_views_usd": 0.99}
    assert {name: round(value[name], 2) for name in sums} == sums
    in_a_month = [line["amount_usd"] for line in value["lines"] if line["group"] != "uploads"]
    assert sum(in_a_month) == pytest.approx(value["monthly_usd"])
    assert all(line["source"] and line["date"] and line["price"] for line in value["lines"])
    assert value["specification"][0]["specification_usd"] == 0.16


def test_text_has_a_formula_for_each_line_and_the_sums() -> None:
    lines = [" ".join(line.split()) for line in run().output.splitlines()]
    assert "HTTPS requests: north-america 100,000 × $0.01 per 10,000 requests = $0.10" in lines
    assert "first requests: resizer, compute 6,910 × $0.0000133334 per GB-second = $0.0921" in lines
    assert "CloudFront's additional metrics 8 × $0.30 per metric ° = $2.40" in lines
    assert "100,000 views $0.992" in lines
    assert "direct S3, no resizing $45.04 $0.90" in " ".join(lines)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (("--views", "5"), "views", 5),
        (("--view-kb", "120"), "view_bytes", 120_000),
        (("--original-mb", "12"), "original_bytes", 12_000_000),
        (("--rendition-kb", "80"), "rendition_bytes", 80_000),
        (("--memory-mb", "3008"), "memory_mb", 3008),
        (("--hit-ratio", "0.9"), "hit_ratio", 0.9),
        (("--render-ratio", "0.5"), "render_ratio", 0.5),
        (("--originals", "7"), "originals", 7),
        (("--renditions", "12"), "renditions", 12),
        (("--replaced", "9"), "replaced", 9),
        (("--render-s", "0.4"), "render_s", 0.4),
        (("--viewers", "europe=.75, india=0.25"), "viewers", [["europe", 0.75], ["india", 0.25]]),
        (("--no-shield",), "has_shield", False),
        (("--no-janitor",), "has_janitor", False),
        (("--prewarm",), "has_prewarm", True),
        (("--lambda-edge",), "is_lambda_edge", True),
    ],
)
def test_option_sets_its_field_of_the_workload(arguments: tuple[str, ...], field: str, value: object) -> None:
    assert found(*arguments)["workload"][field] == value


@pytest.mark.parametrize(
    ("option", "shown", "hidden"),
    [
        ("--no-shield", "", "Origin Shield"),
        ("--no-janitor", "", "janitor,"),
        ("--prewarm", "prewarm: compute", "first requests"),
        ("--lambda-edge", "viewer function: compute", "viewer function |"),
    ],
)
def test_switch_changes_the_lines(option: str, shown: str, hidden: str) -> None:
    assert hidden in items(found())
    assert hidden not in items(found(option))
    assert shown in items(found(option))


def test_free_tier_leaves_what_has_no_free_units() -> None:
    value = found("--free-tier")
    paid = {line["price"] for line in value["lines"] if line["amount_usd"]}
    assert paid == {
        "cloudfront-metrics",
        "cloudwatch-alarms",
        "eventbridge",
        "log-delivery",
        "origin-shield",
        "s3-get",
        "s3-put",
        "s3-storage",
    }


def test_month_without_views_has_no_cost_of_views() -> None:
    value = found("--views", "0", "--originals", "0")
    assert {line["group"] for line in value["lines"]} == {"operation"}
    assert value["per_100k_views_usd"] == 0


def test_report_sets_the_month_and_options_override_it(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(REPORT))
    work = found("--from-report", file)["workload"]
    assert {name: round(work[name], 6) for name in ("views", "hit_ratio", "render_ratio", "view_bytes")} == {
        "views": 20_000,
        "hit_ratio": 0.95,
        "render_ratio": 0.25,
        "view_bytes": 200_000,
    }
    assert found("--from-report", file, "--views", "1")["workload"]["views"] == 1


def test_report_on_stdin_shows_its_galleries() -> None:
    text = json.dumps(REPORT)
    value = found("--from-report", "-", stdin=text)
    assert [one["gallery"] for one in value["by_gallery"]] == ["a <b>"]
    line = next(line for line in run("--from-report", "-", stdin=text).output.splitlines() if "a <b>" in line)
    assert line.split()[2:6] == ["20,000", "4.000", "GB", "250"]


def test_price_file_changes_the_lines_of_its_price(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(PRICE)
    storage = [line for line in found("--prices", file)["lines"] if line["group"] == "storage"]
    assert {line["source"] for line in storage} == {"a contract"}
    assert sum(line["amount_usd"] for line in storage) == pytest.approx(2 * 0.161)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--viewers", "mars=1"), f"the regions are {', '.join(REGIONS)}"),
        (("--viewers", "europe=0.5"), "the shares add up to 0.5, not to 1"),
        (("--viewers", "europe=0.5,europe=0.5"), "'europe=0.5' is not REGION=SHARE"),
        (("--hit-ratio", "99"), "99.0 is not in the range 0<=x<=1"),
        (("--views", "-1"), "-1.0 is not in the range"),
        (("--views", "inf"), "inf is not in the range"),
        (("--views", "nan"), "--views: not a number"),
        (("--from-report", "absent.json"), "absent.json"),
    ],
)
def test_unusable_option_is_a_usage_error(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_unusable_price_file_is_refused_with_every_line(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(PRICE.replace("0.046", "-1") + "[s3-pet]\nusd = 1\n")
    result = run("--prices", file)
    assert result.exit_code == 2
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        f"{file}, line 2",
        f"{file}, line 5",
    ]


def test_absent_price_file_is_a_failure(tmp_path: Path) -> None:
    result = run("--prices", tmp_path / "absent.toml")
    assert result.exit_code == 1
    assert result.stderr == f"galerly-cdn: {tmp_path / 'absent.toml'}: No such file or directory\n"
