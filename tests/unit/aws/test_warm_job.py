"""Tests of `aws warm`: the manifest, the price, the job of S3 Batch Operations, and its report."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from botocore.response import StreamingBody
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.aws.deploy import invalidation, warm_job
from galerly_cdn.cli.aws import warm
from galerly_cdn.http.urls import cache_tag
from tests.support.cloudformation_stubs import ACCOUNT, BUCKET, OUTPUTS, described_stack
from tests.support.fake_aws import ANY, FakeAws, aws

__all__ = ["aws"]

JOB = "00000000-0000-0000-0000-000000000001"
ETAG = "9a0364b9e99bb480dd25e1f0284c8555"
DONE, MADE = '{"made":0,"outdated":0,"current":9}', '{"made":3,"outdated":2,"current":6}'


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "_POLL_S", 0.001)
    monkeypatch.setattr(invalidation, "_POLL_S", 1)


def run(*arguments: str, answer: str | None = None) -> Result:
    command = ["aws", "warm", "--stack", "photos", *arguments]
    return CliRunner().invoke(cli.main, command, input=answer)


def test_manifest_has_escaped_photographs_only() -> None:
    names = ["originals/a/é 1,2.jpg", 'originals/a/b"+.png', "originals/a/notes.txt", "originals/c.avif"]
    made = warm_job.manifest("b", names)
    assert made.content.decode() == (
        "b,originals/a/%C3%A9%201%2C2.jpg\nb,originals/a/b%22%2B.png\nb,originals/c.avif\n"
    )
    assert (made.photographs, made.galleries) == (3, 2)


def test_estimate_adds_all_prices() -> None:
    price = warm_job.estimate(warm_job.Manifest(b"", 1000, 10), 4, 1769)
    assert price.renditions == 4000
    assert price.render_dollars == pytest.approx(0.0923, abs=0.0005)  # 4000 s at 1769 MB
    assert price.dollars == pytest.approx(0.251 + 0.0923 + 0.02 + 0.05, abs=0.001)


def test_read_report_counts_the_last_line_of_each_key() -> None:
    report = warm_job.read_report(
        [
            (
                f"b,originals/g/a%20b.jpg,,failed,TemporaryFailure,200,Crashed\n"
                f'b,originals/g/a%20b.jpg,,succeeded,,200,"{MADE.replace(chr(34), chr(34) * 2)}"\n'
            ),
            (
                f'b,originals/g/c.jpg,,succeeded,,200,"{DONE.replace(chr(34), chr(34) * 2)}"\n'
                "b,originals/g/d.jpg,,failed,PermanentFailure,200,undecodable\n"
            ),
        ]
    )
    assert report == warm_job.Report(
        photographs=3,
        made=3,
        outdated=2,
        current=15,
        replaced_keys=("g/a b.jpg",),
        failures={"g/d.jpg": "undecodable"},
    )


# the command


def expect_start(aws: FakeAws, prefix: str = "originals/", *names: str) -> None:
    """The stack is read, and its originals are listed."""
    aws.expect("cloudformation", "describe_stacks", None, **described_stack("CREATE_COMPLETE"))
    aws.expect("sts", "get_caller_identity", {}, Account=ACCOUNT)
    listed = [{"Key": name} for name in names or ("originals/g/a.jpg", "originals/g/b.jpg")]
    aws.expect("s3", "list_objects_v2", {"Bucket": BUCKET, "Prefix": prefix}, Contents=listed)


def expect_job(aws: FakeAws) -> None:
    """The manifest is uploaded, and the job created."""
    aws.expect("s3", "put_object", None, ETag=f'"{ETAG}"')
    arn = f"arn:aws:s3:::{BUCKET}-logs"
    request = warm_job.job_request(warm_job.WarmStack.from_outputs(OUTPUTS), ACCOUNT, "t", ETAG)
    location = {"ObjectArn": ANY, "ETag": ETAG}
    request |= {"ClientRequestToken": ANY, "Manifest": request["Manifest"] | {"Location": location}}
    assert request["Report"]["Bucket"] == arn
    aws.expect("s3control", "create_job", request, JobId=JOB)


def expect_state(aws: FakeAws, status: str, done: int = 0, **more: Any) -> None:  # noqa: ANN401 - a response
    summary = {"TotalNumberOfTasks": 2, "NumberOfTasksSucceeded": done, "NumberOfTasksFailed": 0}
    job = {"JobId": JOB, "Status": status, "ProgressSummary": summary, **more}
    aws.expect("s3control", "describe_job", {"AccountId": ACCOUNT, "JobId": JOB}, Job=job)


def expect_report(aws: FakeAws, *rows: str) -> None:
    key = f"warm/reports/job-{JOB}/results/1.csv"
    aws.expect("s3", "list_objects_v2", None, Contents=[{"Key": key}])
    content = "".join(rows).encode()
    body = StreamingBody(io.BytesIO(content), len(content))
    aws.expect("s3", "get_object", {"Bucket": f"{BUCKET}-logs", "Key": key}, Body=body)


def row(name: str, text: str, status: str = "succeeded") -> str:
    quoted = text.replace('"', '""')
    return f'{BUCKET},originals/{name},,{status},,200,"{quoted}"\n'


def test_warm_all_shows_price_asks_waits_and_invalidates_what_was_replaced(aws: FakeAws) -> None:
    expect_start(aws)
    expect_job(aws)
    expect_state(aws, "Active", 1)
    expect_state(aws, "Complete", 2)
    expect_report(aws, row("g/a.jpg", MADE), row("g/b.jpg", DONE))
    item = f"#{cache_tag('g/a.jpg')}"
    batch = {"Paths": {"Quantity": 1, "Items": [item]}, "CallerReference": "x"}
    created = {"Id": "I1", "Status": "Completed", "CreateTime": 0, "InvalidationBatch": batch}
    parameters = {
        "DistributionId": OUTPUTS["DistributionId"],
        "InvalidationBatch": batch | {"CallerReference": ANY},
    }
    aws.expect("cloudfront", "create_invalidation", parameters, Invalidation=created)
    aws.expect("cloudfront", "get_invalidation", None, Invalidation=created)
    done = run("--all", answer="y\n")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "warm      2 photographs, at most 54 renditions"  # of sizes that are not warmed, too
    assert lines[1].startswith("price     at most $0.26: job $0.25, renders $0.0")
    assert lines[2:] == [
        "complete  2 of 2 photographs, 0 failed",
        (
            "report    2 photographs: 3 renditions made, of which 2 replaced outdated ones; 15 were current; "
            "0 photographs failed"
        ),
    ]
    assert f"job       {JOB}\n" in done.stderr
    assert done.stderr.endswith("invalidated  1 photographs, completed: I1\n")


@pytest.mark.parametrize("arguments", [("--dry-run",), ()])
def test_warm_gallery_without_confirmation_starts_nothing(aws: FakeAws, arguments: tuple[str, ...]) -> None:
    expect_start(aws, "originals/g/")
    done = run("--gallery", "g", *arguments, answer="n\n")
    assert done.exit_code == (0 if arguments else 1)
    assert "price     at most" in done.stdout


def test_warm_status_of_a_failed_photograph_prints_it_and_exits_with_1(aws: FakeAws) -> None:
    aws.expect("cloudformation", "describe_stacks", None, **described_stack("CREATE_COMPLETE"))
    aws.expect("sts", "get_caller_identity", {}, Account=ACCOUNT)
    expect_state(aws, "Complete", 1)
    expect_report(aws, row("g/a.jpg", "undecodable", "failed"), row("g/b.jpg", DONE))
    done = run("--status", JOB, "--json")
    assert (done.exit_code, "failed    g/a.jpg: undecodable" in done.stderr) == (1, True)
    job, report = map(json.loads, done.stdout.splitlines())
    assert (job["status"], report["photographs"], report["current"]) == ("Complete", 2, 9)


def test_warm_status_of_a_failed_job_prints_its_reason(aws: FakeAws) -> None:
    aws.expect("cloudformation", "describe_stacks", None, **described_stack("CREATE_COMPLETE"))
    aws.expect("sts", "get_caller_identity", {}, Account=ACCOUNT)
    expect_state(aws, "Failed", FailureReasons=[{"FailureCode": "x", "FailureReason": "no manifest"}])
    done = run("--status", JOB)
    assert (done.exit_code, done.stdout) == (1, "failed    0 of 2 photographs, 0 failed: no manifest\n")


def test_warm_cancel_cancels_the_job(aws: FakeAws) -> None:
    aws.expect("cloudformation", "describe_stacks", None, **described_stack("CREATE_COMPLETE"))
    aws.expect("sts", "get_caller_identity", {}, Account=ACCOUNT)
    parameters = {"AccountId": ACCOUNT, "JobId": JOB, "RequestedJobStatus": "Cancelled"}
    aws.expect("s3control", "update_job_status", parameters, JobId=JOB, Status="Cancelling")
    done = run("--cancel", JOB)
    assert (done.exit_code, done.stdout) == (0, f"{JOB} is cancelled.\n")


@pytest.mark.parametrize("arguments", [(), ("--all", "--status", JOB), ("--status", JOB, "--cancel", JOB)])
def test_warm_needs_exactly_one_choice(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_warm_of_an_older_stack_says_to_deploy_it(aws: FakeAws) -> None:
    older = described_stack("CREATE_COMPLETE")
    older["Stacks"][0]["Outputs"] = older["Stacks"][0]["Outputs"][:5]
    aws.expect("cloudformation", "describe_stacks", None, **older)
    done = run("--all")
    assert (done.exit_code, "deploy it with this release first" in done.stderr) == (1, True)
