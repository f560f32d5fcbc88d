"""Tests of the command `doctor`: output, JSON and exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.aws.deploy import http_viewer, verify_account
from galerly_cdn.aws.deploy.http_viewer import ViewerResponse
from galerly_cdn.aws.deploy.smoke_test import Check
from galerly_cdn.insight.doctor import machine, stack
from galerly_cdn.render.sample_images import SPECIMENS
from tests.support.fake_aws import FakeAws, aws
from tests.support.shapes import ServeProcess
from tests.support.stack_facts_stubs import StackResponses

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["aws"]


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(cli.main, ["doctor", *arguments], env=variables)


def test_doctor_healthy_machine_exits_with_0(tmp_path: Path) -> None:
    result = run(GALERLY_RENDITIONS=str(tmp_path))
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].startswith(f"{len(machine.CHECKS)} checks: 0 failed, ")


def test_doctor_folder_that_holds_the_renditions_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    result = run(GALERLY_RENDITIONS=str(tmp_path))
    assert result.exit_code == 0, result.output


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


def test_doctor_store_is_checked_by_option_or_setting(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    for result in (run("--store", absent), run(GALERLY_STORE=absent)):
        assert result.exit_code == 1
        assert "there is no folder" in result.output


def test_doctor_url_without_picture_takes_one_of_the_store(tmp_path: Path) -> None:
    cdn = ServeProcess(tmp_path / "originals", tmp_path / "resized")
    try:
        cdn.put("wedding/1.jpg", SPECIMENS["jpeg"])
        result = run("--store", str(tmp_path), "--url", f"http://127.0.0.1:{cdn.port}/")
    finally:
        cdn.stop()
    assert result.exit_code == 0, result.output
    assert "picture: 200 image/avif" in result.output


def test_doctor_stack_is_checked_and_verified(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    StackResponses().expect(aws)
    points = [Check("a cold start", "at most 2000 ms", "2700 ms", is_met=False)]
    monkeypatch.setattr(verify_account, "run_checks", lambda *_: points)
    aws.client("s3", region_name="us-east-1")
    monkeypatch.setattr(http_viewer, "fetch", lambda _: ViewerResponse(404, {"via": "1.1 x (CloudFront)"}))
    result = run("--stack", "photos", "--verify")
    assert result.exit_code == 1
    assert "found    a cold start: 2700 ms, expected at most 2000 ms" in result.output
    assert result.output.splitlines()[-1].startswith(f"{len(machine.CHECKS) + len(stack.CHECKS)} checks: 1 ")


def test_doctor_absent_stack_is_an_error(aws: FakeAws) -> None:
    message = "Stack with id photos does not exist"
    aws.expect_error("cloudformation", "describe_stacks", "ValidationError", message)
    result = run("--stack", "photos")
    assert (result.exit_code, "there is no stack photos" in result.output) == (1, True)


def test_doctor_verify_without_stack_is_usage_error() -> None:
    assert run("--verify").exit_code == 2


@pytest.mark.parametrize(
    "url", ["cdn.example.com", "ftp://cdn.example.com", "https://", "https://[::1", "https://h:x"]
)
def test_doctor_malformed_url_is_usage_error(url: str) -> None:
    result = run("--url", url)
    assert result.exit_code == 2
    assert "write https://cdn.example.com" in result.output
