"""The command `report`: where it reads from, what it writes, and its errors."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.cli.report import _since_s
from galerly_cdn.serialization import from_json
from tests.support.logs import DAY_S, MONDAY_S, access_line

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.s3_servers import S3Server

LINES = b"".join(access_line(f"coast/{number}.jpg") + b"\n" for number in range(3))


def run(*arguments: object, **options: Any) -> Result:  # noqa: ANN401 - CliRunner's
    return CliRunner().invoke(cli.main, ["report", *map(str, arguments)], **options)


def report_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return from_json(dict[str, Any], result.output.encode())


def test_report_reads_the_standard_input_and_files(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_bytes(LINES)
    assert report_of(run("--json", input=LINES))["requests"] == 3
    assert report_of(run("-", tmp_path / "access.log", "--json", input=LINES))["requests"] == 6
    assert report_of(run(tmp_path / "access.log", "--gallery", "none", "--json"))["requests"] == 0


def test_report_reads_a_named_pipe_to_its_end(tmp_path: Path) -> None:
    """As `<(zcat access.log.gz)` in a shell."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[LINES])
    writer.start()
    assert report_of(run(tmp_path / "pipe", "--json"))["requests"] == 3
    writer.join()


def test_report_on_a_bucket_reads_every_object_of_the_prefix(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    for number in range(12):
        bucket.put(f"logs/E2/2026/11/30/{number:02}/part.json", LINES)
    bucket.put("logs/E3/part.json", LINES)
    bucket.put("originals/coast/1.jpg", b"x" * 6000)
    options = {"GALERLY_STORE_ENDPOINT": bucket.settings().store_endpoint}
    result = report_of(run(f"s3://{bucket.name}/logs/E2/", "--json", env=options))
    assert result["requests"] == 36
    assert result["saved_bytes"] is None
    saved = report_of(
        run(f"s3://{bucket.name}/logs/E3", "--store", f"s3://{bucket.name}", "--json", env=options)
    )
    assert saved["saved_bytes"] == 5000


def test_report_writes_a_page_and_prints_nothing(tmp_path: Path) -> None:
    result = run("--html", tmp_path / "report.html", input=LINES)
    assert (result.exit_code, result.output) == (0, "")
    assert "<h1>3 requests</h1>" in (tmp_path / "report.html").read_text("utf-8")


def test_report_without_duckdb_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = run(input=LINES)
    assert result.exit_code == 1
    assert "pip install 'galerly-cdn[insight]'" in result.output


def test_report_on_a_missing_file_names_it(tmp_path: Path) -> None:
    result = run(tmp_path / "none.log")
    assert result.exit_code == 1
    assert f"{tmp_path}/none.log: No such file or directory" in result.output


NOW_S = MONDAY_S + DAY_S


@pytest.mark.parametrize(
    ("text", "since_s"),
    [
        ("24h", MONDAY_S),
        ("1d", MONDAY_S),
        ("90m", NOW_S - 5400),
        ("2026-11-30", MONDAY_S),
        ("2026-11-30T12:00", MONDAY_S + DAY_S / 2),
        ("2026-11-30T12:00+02:00", MONDAY_S + DAY_S / 2 - 7200),
    ],
)
def test_since_is_an_age_or_a_time_in_utc(text: str, since_s: float) -> None:
    assert _since_s(text, NOW_S) == since_s


@pytest.mark.parametrize("text", ["yesterday", "7", "7w", "2026-13-01"])
def test_since_that_is_no_time_is_a_usage_error(text: str) -> None:
    result = run("--since", text, input=LINES)
    assert result.exit_code == 2
    assert "--since" in result.output


def test_json_of_the_command_matches_its_schema() -> None:
    import jsonschema_rs

    from docs import generate

    schema = json.loads(generate.report_schema())
    jsonschema_rs.validator_for(schema).validate(report_of(run("--json", input=LINES)))
