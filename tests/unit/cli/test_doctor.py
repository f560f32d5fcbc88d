"""Tests of the command `doctor`: output, JSON and exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.insight.doctor import machine

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(cli.main, ["doctor", *arguments], env=variables)


def test_doctor_healthy_machine_exits_with_0(tmp_path: Path) -> None:
    result = run(GALERLY_RENDITIONS=str(tmp_path))
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].startswith(f"{len(machine.CHECKS)} checks: 0 failed, ")


def test_doctor_failed_check_says_what_to_do_and_exits_with_1() -> None:
    result = run("--url", "http://absent.invalid")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[-1] == "dns")
    assert [line.split()[0] for line in lines[at : at + 5]] == ["failed", "checked", "found", "why", "to"]


def test_doctor_json_is_a_line_for_each_finding() -> None:
    result = run("--json", "--url", "http://absent.invalid")
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.output.splitlines()]
    (dns,) = [one for one in found if one["check"] == "dns"]
    assert set(dns) == {"check", "subject", "status", "what", "found", "why", "remedy"}
    assert (dns["subject"], dns["status"]) == ("url", "failed")


@pytest.mark.parametrize(
    "url", ["cdn.example.com", "ftp://cdn.example.com", "https://", "https://[::1", "https://h:x"]
)
def test_doctor_malformed_url_is_usage_error(url: str) -> None:
    result = run("--url", url)
    assert result.exit_code == 2
    assert "write https://cdn.example.com" in result.output
