"""Tests of the smoke test, `aws verify` and `aws destroy`, over expected AWS calls."""

from __future__ import annotations

import functools
import http.server
import io
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from galerly_cdn import cli
from galerly_cdn.aws.deploy import buckets, http_viewer, open_points, smoke_test, stack, verify_account
from galerly_cdn.aws.deploy import logs as stack_logs
from galerly_cdn.aws.deploy.http_viewer import ViewerResponse
from galerly_cdn.aws.errors import AwsRefused, DeploymentFailed
from galerly_cdn.cli.aws import deploy, deployed
from galerly_cdn.settings.table import Settings
from tests.support.cloudformation_stubs import (
    ACCOUNT,
    OUTPUTS,
    FakeCdn,
    described_stack,
    drift,
    expect_operation,
    expect_protection,
)
from tests.support.fake_aws import ANY, FakeAws, aws

if TYPE_CHECKING:
    from tests.support.s3_servers import S3Server

__all__ = ["aws"]


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "_POLL_S", 0.001)
    monkeypatch.setattr(smoke_test, "_PAUSE_S", 0.001)


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, ["aws", *arguments], input=answer)


# smoke test


@pytest.mark.parametrize(
    ("instead", "failed"),
    [
        ({"801x600": ViewerResponse(200, {})}, ["/resize/801x600/"]),
        ({"absent": ViewerResponse(403, {})}, ["/absent.jpg"]),
        ({"http://": ViewerResponse(200, {})}, ["http://"]),
        ({"s3.us-east-1": ViewerResponse(200, {})}, ["s3.us-east-1"]),
        ({"lambda-url": ViewerResponse(200, {})}, ["lambda-url"]),
        ({"400x400": ViewerResponse(200, {"x-cache": "Miss from cloudfront"})}, ["/400x400/"]),
        ({"400x400": ViewerResponse(502, {"x-cache": "Error from cloudfront"})}, ["/400x400/", "/400x400/"]),
        ({"400x400": ViewerResponse(0, {}, "timed out")}, ["/400x400/", "/400x400/"]),
    ],
    ids=str,
)
def test_smoke_test_wrong_response_fails_check_and_cleans_up(
    aws: FakeAws, instead: dict[str, ViewerResponse], failed: list[str]
) -> None:
    aws.expect("s3", "put_object", None)
    aws.expect("s3", "delete_objects", None)
    viewer = smoke_test.SmokeViewer(smoke_test.Deployed.from_outputs(OUTPUTS), FakeCdn(**instead))
    unmet = [one for one in smoke_test.run(viewer, Settings()) if not one.is_met]
    assert len(unmet) == len(failed)
    assert all(part in check.what for part, check in zip(failed, unmet, strict=True))


def test_smoke_test_all_private_expects_refusals(aws: FakeAws) -> None:
    aws.expect("s3", "put_object", None)
    aws.expect("s3", "delete_objects", None)
    cdn = FakeCdn(**{"resize/": ViewerResponse(403, {})})
    viewer = smoke_test.SmokeViewer(smoke_test.Deployed.from_outputs(OUTPUTS), cdn)
    checks = list(smoke_test.run(viewer, Settings(private_prefixes=("/",))))
    assert [check.found for check in checks if check.what.startswith("https")] == ["403"] * (9 + 2) + [
        "403 Error"
    ] * 2


# verify


HIT, MISS = ({"x-cache": f"{result} from cloudfront"} for result in ("Hit", "Miss"))
AS_EXPECTED = {
    "lambda-url": [ViewerResponse(403, {}, text='{"Message":"Forbidden"}')],
    "801x600/clients/": [ViewerResponse(403, {}, text="<Error><Code>MissingKey</Code></Error>")],
    "/a%20b.jpg": [ViewerResponse(200, MISS), ViewerResponse(200, HIT), ViewerResponse(200, MISS)],
    "/late.jpg": [ViewerResponse(404, {}), ViewerResponse(404, {}), ViewerResponse(200, MISS)],
    "?stored=1": [ViewerResponse(200, MISS)],
    "/noise.png": [ViewerResponse(302, {"location": "?stored=1"}), ViewerResponse(200, MISS)],
}
PRIVATE = Settings(private_prefixes=("clients",))


class ScriptedCdn(FakeCdn):
    """Responds to addresses with a part in `responses` from its list; the last response repeats."""

    def __init__(self, responses: dict[str, list[ViewerResponse]]) -> None:
        super().__init__()
        self._responses = {part: list(listed) for part, listed in responses.items()}

    def __call__(self, address: str) -> ViewerResponse:
        for part, listed in self._responses.items():
            if part in address:
                return listed.pop(0) if len(listed) > 1 else listed[0]
        return super().__call__(address)


def expect_verification(
    aws: FakeAws,
    utilization: str = "21",
    log: str = "Init Duration: 712.25 ms",
    drifted: str = "",
) -> None:
    """The AWS calls of `aws verify`."""
    for puts in (1, len(verify_account.NAMES) + 3):
        for _ in range(puts):
            aws.expect("s3", "put_object", None)
        aws.expect("s3", "delete_objects", None)
    aws.expect("cloudfront", "describe_function", {"Name": "photos-viewer", "Stage": "LIVE"}, ETag="E1")
    result = {"ComputeUtilization": utilization}
    aws.expect("cloudfront", "test_function", None, TestResult=result)
    for bucket in ("Bucket", "AccessLogs"):
        request = {"StackName": "photos", "LogicalResourceId": bucket}
        aws.expect(
            "cloudformation",
            "detect_stack_resource_drift",
            request,
            StackResourceDrift=drift(bucket, drifted),
        )
    batch = {"Paths": {"Quantity": 1, "Items": ["#o-1"]}, "CallerReference": "x"}
    created = {"Id": "I1", "Status": "Completed", "CreateTime": 0, "InvalidationBatch": batch}
    aws.expect("cloudfront", "create_invalidation", None, Invalidation=created)
    aws.expect("cloudfront", "get_invalidation", None, Invalidation=created)
    aws.expect("cloudformation", "describe_stack_resource", None, StackResourceDetail=DETAIL)
    lines = [{"message": f"REPORT RequestId: 1\t{line}"} for line in log.splitlines()]
    aws.expect("logs", "filter_log_events", None, events=lines)


RESOURCE = {
    "LogicalResourceId": "ResizerLogs",
    "ResourceType": "AWS::Logs::LogGroup",
    "LastUpdatedTimestamp": 0,
    "ResourceStatus": "CREATE_COMPLETE",
}
DETAIL = {"PhysicalResourceId": "photos-ResizerLogs-1", **RESOURCE}


def unmet(aws: FakeAws, responses: dict[str, list[ViewerResponse]], **results: str) -> list[str]:
    expect_verification(aws, **results)
    viewer = smoke_test.SmokeViewer(
        smoke_test.Deployed.from_outputs(OUTPUTS), ScriptedCdn(AS_EXPECTED | responses)
    )
    checks = list(verify_account.run_checks(viewer, "photos", PRIVATE))
    assert len(checks) == 2 * 9 + 5 + 5 + len(verify_account.NAMES) + 4 + 1
    return [check.what for check in checks if not check.is_met]


def test_verify_expected_results_meet_all_checks(aws: FakeAws) -> None:
    assert unmet(aws, {}) == []


@pytest.mark.parametrize(
    ("responses", "what"),
    [
        (
            {"/(1)": [ViewerResponse(403, {})], "/%281%29": [ViewerResponse(403, {})]},
            'first request of "(1)\'!*~.jpg"',
        ),
        (
            {"/a%20b.jpg": [ViewerResponse(200, MISS), ViewerResponse(200, HIT)]},
            "a cache tag hidden from viewers",
        ),
        (
            {
                "/a%20b.jpg": [
                    ViewerResponse(200, MISS),
                    ViewerResponse(200, HIT | {"x-amz-meta-cache-tag": "o-1"}),
                    ViewerResponse(200, MISS),
                ]
            },
            "a cache tag hidden from viewers",
        ),
        ({"/late.jpg": [ViewerResponse(404, {})]}, "an upload after a 404"),
        (
            {"?stored=1": [ViewerResponse(302, {})]},
            "a picture above 4.5 MB: first, redirected and second request",
        ),
        (
            {"/noise.png": [ViewerResponse(302, {"location": "?stored=1"})]},
            "a picture above 4.5 MB: first, redirected and second request",
        ),
        ({"801x600/clients/": [ViewerResponse(403, {}, text="{}")]}, "checked first"),
        ({"lambda-url": [ViewerResponse(403, {}, text="AccessDenied")]}, "the function URL, past CloudFront"),
    ],
    ids=str,
)
def test_verify_unexpected_response_fails_its_check(
    aws: FakeAws, responses: dict[str, list[ViewerResponse]], what: str
) -> None:
    assert unmet(aws, responses) == [what]


def test_open_points_are_those_that_verify_checks_and_the_guide_lists(aws: FakeAws) -> None:
    expect_verification(aws)
    viewer = smoke_test.SmokeViewer(smoke_test.Deployed.from_outputs(OUTPUTS), ScriptedCdn(AS_EXPECTED))
    checked = [
        open_points.checked(one, "photos") for one in verify_account.run_checks(viewer, "photos", PRIVATE)
    ]
    decisions = {one.decision for one in checked if one.decision}
    assert decisions == {point.decision for point in open_points.OPEN_POINTS}
    assert [one.what for one in checked[:8] if one.decision] == []  # the smoke test's
    guide = Path("docs/aws.md").read_text("utf-8")
    for point in open_points.OPEN_POINTS:
        assert point.decision in guide
        assert point.switch in guide


def expect_full_verification(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stack is deployed and destroyed by commands that only note that they were called."""
    called: list[str] = []
    for module, command in ((deploy, "deploy"), (deployed, "destroy")):
        callback = functools.partial(lambda what, **_options: called.append(what), command)
        monkeypatch.setattr(getattr(module, command), "callback", callback)
    message = "Stack with id photos does not exist"
    aws.expect_error("cloudformation", "describe_stacks", "ValidationError", message)
    aws.expect("cloudformation", "describe_stacks", None, **described_stack("CREATE_COMPLETE"))
    return called


@pytest.mark.parametrize(("utilization", "exit_code"), [("21", 0), ("50", 1)])
def test_verify_full_deploys_checks_destroys_and_writes_one_report(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, utilization: str, exit_code: int
) -> None:
    called = expect_full_verification(aws, monkeypatch)
    monkeypatch.setattr(http_viewer, "fetch", ScriptedCdn(AS_EXPECTED))
    expect_verification(aws, utilization)
    aws.expect("cloudformation", "describe_stacks", None, **described_stack("CREATE_COMPLETE"))
    file = tmp_path / "report.json"
    done = run("verify", "--stack", "photos", "--full", "--yes", "--report", str(file))
    assert done.exit_code == exit_code, done.output
    assert called == ["deploy", "destroy"]
    report = json.loads(file.read_text("utf-8"))
    unmet = [one["switch"] for one in report["checks"] if not one["is_met"]]
    assert unmet == ["`--lambda-edge on`"] * exit_code
    assert report["failure"] == ""
    assert not [word for word in ("photos", ACCOUNT, "d1.cloudfront") if word in file.read_text("utf-8")]


def test_verify_full_destroys_and_reports_after_a_failed_check(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called = expect_full_verification(aws, monkeypatch)
    aws.expect("cloudformation", "describe_stacks", None, **described_stack("CREATE_COMPLETE"))
    aws.expect_error("s3", "put_object", "AccessDenied", "not you")
    aws.expect("s3", "delete_objects", None)
    file = tmp_path / "report.json"
    done = run("verify", "--stack", "photos", "--full", "--yes", "--report", str(file))
    assert (done.exit_code, called) == (1, ["deploy", "destroy"])
    assert "AccessDenied: not you" in json.loads(file.read_text("utf-8"))["failure"]


def test_verify_full_refuses_an_existing_stack(aws: FakeAws) -> None:
    aws.expect("cloudformation", "describe_stacks", None, **described_stack("CREATE_COMPLETE"))
    done = run("verify", "--stack", "photos", "--full", "--yes")
    assert (done.exit_code, "the stack photos exists" in done.stderr) == (1, True)


# logs


def expect_log_groups(aws: FakeAws, *names: str) -> None:
    resources = [
        {
            "LogicalResourceId": name,
            "PhysicalResourceId": f"photos-{name}-1",
            "ResourceType": "AWS::Logs::LogGroup" if name.endswith("Logs") else "AWS::Lambda::Function",
            "ResourceStatus": "CREATE_COMPLETE",
            "Timestamp": 0,
        }
        for name in names
    ]
    aws.expect(
        "cloudformation", "describe_stack_resources", {"StackName": "photos"}, StackResources=resources
    )


def log_events(*events: tuple[str, int, str]) -> dict[str, Any]:
    return {"events": [{"eventId": one, "timestamp": at, "message": text} for one, at, text in events]}


def test_logs_merges_all_functions_and_lambda_edges_regions(aws: FakeAws) -> None:
    expect_log_groups(aws, "ResizerLogs", "PrewarmLogs", "ViewerEdge")
    regions = [{"RegionName": name, "RegionOptStatus": "ENABLED"} for name in ("us-east-1", "eu-west-1")]
    aws.expect("account", "list_regions", None, Regions=regions)
    edge = "/aws/lambda/us-east-1.photos-ViewerEdge"
    aws.expect("logs", "describe_log_groups", {"logGroupNamePrefix": "/aws/lambda/us-east-1.photos-"})
    aws.expect("logs", "describe_log_groups", None, logGroups=[{"logGroupName": edge}])
    aws.expect(
        "logs", "filter_log_events", None, **log_events(("1", 2000, "resized\n"), ("2", 4000, "again"))
    )
    aws.expect("logs", "filter_log_events", None, **log_events(("3", 3000, "warmed")))
    aws.expect(
        "logs", "filter_log_events", {"logGroupName": edge, "startTime": ANY}, **log_events(("4", 1000, "e"))
    )
    done = run("logs", "--stack", "photos")
    assert done.stdout.splitlines() == [
        "1970-01-01 00:00:01  ViewerEdge  e",
        "1970-01-01 00:00:02  Resizer  resized",
        "1970-01-01 00:00:03  Prewarm  warmed",
        "1970-01-01 00:00:04  Resizer  again",
    ]


def test_log_reader_reads_late_lines_and_none_twice(aws: FakeAws) -> None:
    reader = stack_logs.LogReader([stack_logs.LogGroup("g", "us-east-1", "Resizer")], 50_000)
    first, late, last = ("1", 60_000, "first"), ("2", 59_000, "late"), ("3", 61_000, "last")
    for start, events in ((50_000, [first]), (50_000, [late, first, last]), (51_000, [late, first, last])):
        aws.expect(
            "logs", "filter_log_events", {"logGroupName": "g", "startTime": start}, **log_events(*events)
        )
    assert [[line.text for line in reader.read()] for _ in range(3)] == [["first"], ["late", "last"], []]


@pytest.mark.parametrize(
    ("results", "what"),
    [
        ({"utilization": "50"}, "the viewer function’s share of its time"),
        ({"drifted": "AccessLogs"}, "the settings of AccessLogs"),
        ({"log": ""}, "a cold start"),
        ({"log": "Init Duration: 712.25 ms\nInit Duration: 2000.01 ms"}, "a cold start"),
    ],
    ids=str,
)
def test_verify_measurement_above_limit_fails_its_check(
    aws: FakeAws, results: dict[str, str], what: str
) -> None:
    assert unmet(aws, {}, **results) == [what]


def test_noise_is_incompressible_png() -> None:
    picture = verify_account.noise(64)
    with Image.open(io.BytesIO(picture)) as image:
        image.load()
        assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (64, 64))
    assert len(picture) > 4 * 64 * 64


def test_verify_command_exits_with_1_if_check_fails(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    for log, exit_code in (("Init Duration: 1.5 ms", 0), ("", 1)):
        aws.expect("cloudformation", "describe_stacks", None, **described_stack("UPDATE_COMPLETE"))
        expect_verification(aws, log=log)
        monkeypatch.setattr(http_viewer, "fetch", ScriptedCdn(AS_EXPECTED))
        done = run("verify", "--stack", "photos")
        assert done.exit_code == exit_code
        assert ("FAILED  a cold start: none in the log yet (expected:" in done.stdout) == bool(exit_code)


class _Server(http.server.BaseHTTPRequestHandler):
    """A redirect at /moved, a picture at /a.jpg, a refusal elsewhere."""

    def do_GET(self) -> None:
        status, media_type, body = {
            "/moved": (302, "text/plain", b""),
            "/a.jpg": (200, "image/jpeg", b"\xff\xd8"),
        }.get(self.path, (403, "application/json", b'{"Message":"Forbidden"}'))
        self.send_response(status)
        for name, value in (("Content-Type", media_type), ("Location", "/a.jpg"), ("X-Cache", "Miss from x")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Log nothing."""


def test_fetch_returns_redirects_and_error_texts() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        moved, picture, refused = (http_viewer.fetch(address + path) for path in ("/moved", "/a.jpg", "/"))
        server.shutdown()
    assert (str(moved), moved.headers["location"]) == ("302 Miss", "/a.jpg")
    assert (str(picture), picture.text) == ("200 Miss", "")
    assert (str(refused), refused.text) == ("403 Miss", '{"Message":"Forbidden"}')
    gone = http_viewer.fetch(address)
    assert (gone.status, gone.cache) == (0, "")
    assert str(gone).startswith("no response: ")


# destroy


def versions(*keys: str) -> dict[str, Any]:
    return {"Versions": [{"Key": key, "VersionId": "1", "Size": 10**9} for key in keys]}


def expect_buckets(aws: FakeAws, *statuses: str) -> None:
    """A stack with a topic and the buckets b0, b1, …, which have these statuses."""
    aws.expect(
        "cloudformation", "describe_stacks", None, **described_stack("CREATE_COMPLETE", {"BucketName": "b0"})
    )
    resources = [
        {"LogicalResourceId": f"B{number}", "PhysicalResourceId": f"b{number}", "ResourceStatus": status}
        for number, status in enumerate(statuses)
    ]
    listed = [{"ResourceType": "AWS::S3::Bucket", "Timestamp": 0, **one} for one in resources]
    listed.append({**RESOURCE, "ResourceType": "AWS::SNS::Topic", "Timestamp": 0})
    for one in listed:
        one.pop("LastUpdatedTimestamp", None)
    aws.expect("cloudformation", "describe_stack_resources", {"StackName": "photos"}, StackResources=listed)


def test_destroy_keeps_buckets_and_prints_their_cost(aws: FakeAws) -> None:
    expect_buckets(aws, "UPDATE_COMPLETE", "CREATE_COMPLETE")
    aws.expect("s3", "list_object_versions", {"Bucket": "b0"}, **versions("originals/a", "originals/b"))
    aws.expect_error("s3", "list_object_versions", "NoSuchBucket", parameters={"Bucket": "b1"})
    expect_operation(aws, "delete_stack", ("DELETE_IN_PROGRESS", []), ("DELETE_COMPLETE", []))
    done = run("destroy", "--stack", "photos", answer="y\n")
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        ["b0: 2 objects, 2.0 GB; stays: about $0.05 a month", "photos is deleted."],
    )


@pytest.mark.parametrize(("answer", "exit_code"), [("y\nb0\n", 0), ("y\nB0\n", 1), ("n\n", 1), ("", 1)])
def test_destroy_erases_originals_only_after_bucket_name(aws: FakeAws, answer: str, exit_code: int) -> None:
    expect_buckets(aws, "CREATE_COMPLETE")
    aws.expect("s3", "list_object_versions", {"Bucket": "b0"}, **versions("originals/a"))
    if exit_code == 0:
        expect_operation(aws, "delete_stack", ("DELETE_COMPLETE", []))
        markers = {"DeleteMarkers": [{"Key": "gone", "VersionId": "2"}]}
        aws.expect("s3", "list_object_versions", {"Bucket": "b0"}, **versions("originals/a"), **markers)
        objects = [{"Key": "originals/a", "VersionId": "1"}, {"Key": "gone", "VersionId": "2"}]
        deleted = {"Bucket": "b0", "Delete": {"Objects": objects, "Quiet": True}}
        aws.expect("s3", "delete_objects", deleted)
        aws.expect("s3", "delete_bucket", {"Bucket": "b0"})
    done = run("destroy", "--stack", "photos", "--originals", "delete", answer=answer)
    assert done.exit_code == exit_code


def test_erase_again_when_late_logs_refill_the_bucket(aws: FakeAws) -> None:
    for keys, code in ((("a", "b"), "BucketNotEmpty"), (("late",), "")):
        aws.expect("s3", "list_object_versions", {"Bucket": "b"}, **versions(*keys))
        aws.expect("s3", "delete_objects", None)
        if code:
            aws.expect_error("s3", "delete_bucket", code, parameters={"Bucket": "b"}, status=409)
    aws.expect("s3", "delete_bucket", {"Bucket": "b"})
    erased: list[int] = []
    buckets.erase("b", erased.append)
    assert erased == [2, 3]


def test_erase_of_a_bucket_that_stays_full_raises(aws: FakeAws) -> None:
    for _ in range(5):
        aws.expect("s3", "list_object_versions", {"Bucket": "b"})
        aws.expect_error("s3", "delete_bucket", "BucketNotEmpty", status=409)
    with pytest.raises(AwsRefused, match="BucketNotEmpty"):
        buckets.erase("b")


def test_erase_refused_deletion_raises(aws: FakeAws) -> None:
    aws.expect("s3", "list_object_versions", {"Bucket": "b"}, **versions("a"))
    aws.expect("s3", "delete_objects", None, Errors=[{"Key": "a", "Message": "locked"}])
    with pytest.raises(AwsRefused, match="b/a: locked"):
        buckets.erase("b")


def test_erase_deletes_all_pages_of_a_large_bucket(moto: S3Server) -> None:
    bucket = moto.bucket()
    moto.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    for number in range(25):
        bucket.put(f"originals/{number % 20}", b"1")
    client = functools.partial(boto3.client, endpoint_url=moto.endpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3, "client", client)
        erased: list[int] = []
        buckets.erase(bucket.name, erased.append)
    assert erased[-1] == 25
    assert bucket.name not in {one["Name"] for one in moto.client.list_buckets()["Buckets"]}


def test_destroy_does_not_erase_bucket_that_stack_did_not_create(aws: FakeAws) -> None:
    """After a failed first deployment: the stack names the bucket, which belongs to somebody else."""
    expect_buckets(aws, "CREATE_FAILED", "DELETE_COMPLETE")
    expect_operation(aws, "delete_stack", ("DELETE_COMPLETE", []))
    done = run("destroy", "--stack", "photos", "--originals", "delete", "--yes")
    assert (done.exit_code, done.stdout) == (0, "photos is deleted.\n")


def test_verify_foreign_stack_fails(aws: FakeAws) -> None:
    other = described_stack("CREATE_COMPLETE")
    other["Stacks"][0]["Outputs"] = []
    aws.expect("cloudformation", "describe_stacks", None, **other)
    done = run("verify", "--stack", "photos")
    assert (done.exit_code, "the stack has no output 'CloudFrontAddress'" in done.stderr) == (1, True)


def test_destroy_protected_stack_ends_its_protection_after_asking(aws: FakeAws) -> None:
    for answer in ("n\n", "y\n"):
        described = described_stack("CREATE_COMPLETE", is_protected=True)
        aws.expect("cloudformation", "describe_stacks", None, **described)
        aws.expect("cloudformation", "describe_stack_resources", None, StackResources=[])
        if answer == "y\n":
            expect_protection(aws, is_protected=False)
            expect_operation(aws, "delete_stack", ("DELETE_COMPLETE", []))
        assert run("destroy", "--stack", "photos", answer=answer).exit_code == (answer == "n\n")
        aws.assert_all_called()


def test_differences_of_resource_that_cannot_be_compared_fails(aws: FakeAws) -> None:
    found = drift("Bucket") | {"StackResourceDriftStatus": "NOT_CHECKED"}
    aws.expect("cloudformation", "detect_stack_resource_drift", None, StackResourceDrift=found)
    with pytest.raises(DeploymentFailed, match="Bucket cannot be compared: NOT_CHECKED"):
        stack.Stack("photos", print).differences("Bucket")


def test_destroy_missing_stack_fails(aws: FakeAws) -> None:
    message = "Stack with id photos does not exist"
    aws.expect_error("cloudformation", "describe_stacks", "ValidationError", message)
    done = run("destroy", "--stack", "photos")
    assert (done.exit_code, "there is no stack photos" in done.stderr) == (1, True)
