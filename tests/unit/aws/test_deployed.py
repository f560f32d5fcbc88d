"""What is deployed is tried, and destroyed without losing what cannot be made again."""

from __future__ import annotations

import http.server
import io
import threading
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from galerly_cdn import cli
from galerly_cdn.aws.deploy import http_viewer, smoke_test, stack, verify_account
from galerly_cdn.aws.deploy.http_viewer import ViewerResponse
from galerly_cdn.settings.table import Settings
from tests.support.cloudformation_stubs import OUTPUTS, Cdn, follows, told
from tests.support.fake_aws import Amazon, amazon

__all__ = ["amazon"]


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "_POLL_S", 0.001)
    monkeypatch.setattr(smoke_test, "_PAUSE_S", 0.001)


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, ["aws", *arguments], input=answer)


# what is tried afterwards


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
def test_whatever_is_not_as_it_should_be_is_noticed_and_the_guest_cleans_up(
    amazon: Amazon, instead: dict[str, ViewerResponse], failed: list[str]
) -> None:
    amazon.expects("s3", "put_object", None)
    amazon.expects("s3", "delete_objects", None)
    guest = smoke_test.SmokeViewer(smoke_test.Deployed.of(OUTPUTS), Cdn(**instead))
    unmet = [one for one in smoke_test.run(guest, Settings()) if not one.is_met]
    assert len(unmet) == len(failed)
    assert all(word in one.what for word, one in zip(failed, unmet, strict=True))


def test_where_all_is_private_every_picture_is_refused(amazon: Amazon) -> None:
    amazon.expects("s3", "put_object", None)
    amazon.expects("s3", "delete_objects", None)
    cdn = Cdn(**{"resize/": ViewerResponse(403, {})})
    guest = smoke_test.SmokeViewer(smoke_test.Deployed.of(OUTPUTS), cdn)
    found = list(smoke_test.run(guest, Settings(private_prefixes=("/",))))
    assert [one.found for one in found if one.what.startswith("https")] == ["403"] * 6 + ["403 Error"] * 2


# verify


HIT, MISS = ({"x-cache": f"{word} from cloudfront"} for word in ("Hit", "Miss"))
AS_EXPECTED = {
    "lambda-url": [ViewerResponse(403, {}, text='{"Message":"Forbidden"}')],
    "801x600/clients/": [ViewerResponse(403, {}, text="<Error><Code>MissingKey</Code></Error>")],
    "/a%20b.jpg": [ViewerResponse(200, MISS), ViewerResponse(200, HIT), ViewerResponse(200, MISS)],
    "/late.jpg": [ViewerResponse(404, {}), ViewerResponse(404, {}), ViewerResponse(200, MISS)],
    "?stored=1": [ViewerResponse(200, MISS)],
    "/noise.png": [ViewerResponse(302, {"location": "?stored=1"}), ViewerResponse(200, MISS)],
}
PRIVATE = Settings(private_prefixes=("clients",))


class Scripted(Cdn):
    """Answers addresses that hold a word as it is told, the last answer for ever."""

    def __init__(self, answers: dict[str, list[ViewerResponse]]) -> None:
        super().__init__()
        self._answers = {word: list(listed) for word, listed in answers.items()}

    def __call__(self, address: str) -> ViewerResponse:
        for word, listed in self._answers.items():
            if word in address:
                return listed.pop(0) if len(listed) > 1 else listed[0]
        return super().__call__(address)


def is_verified(amazon: Amazon, utilization: str = "21", log: str = "Init Duration: 712.25 ms") -> None:
    """What AWS is asked on the way."""
    for puts in (1, len(verify_account.NAMES) + 2):
        for _ in range(puts):
            amazon.expects("s3", "put_object", None)
        amazon.expects("s3", "delete_objects", None)
    amazon.expects("cloudfront", "describe_function", {"Name": "photos-viewer", "Stage": "LIVE"}, ETag="E1")
    result = {"ComputeUtilization": utilization}
    amazon.expects("cloudfront", "test_function", None, TestResult=result)
    batch = {"Paths": {"Quantity": 1, "Items": ["#o-1"]}, "CallerReference": "x"}
    made = {"Id": "I1", "Status": "Completed", "CreateTime": 0, "InvalidationBatch": batch}
    amazon.expects("cloudfront", "create_invalidation", None, Invalidation=made)
    amazon.expects("cloudfront", "get_invalidation", None, Invalidation=made)
    resource = {"PhysicalResourceId": "photos-ResizerLogs-1", **RESOURCE}
    amazon.expects("cloudformation", "describe_stack_resource", None, StackResourceDetail=resource)
    lines = [{"message": f"REPORT RequestId: 1\t{line}"} for line in log.splitlines()]
    amazon.expects("logs", "filter_log_events", None, events=lines)


RESOURCE = {
    "LogicalResourceId": "ResizerLogs",
    "ResourceType": "AWS::Logs::LogGroup",
    "LastUpdatedTimestamp": 0,
    "ResourceStatus": "CREATE_COMPLETE",
}


def unmet(amazon: Amazon, answers: dict[str, list[ViewerResponse]], **told: str) -> list[str]:
    is_verified(amazon, **told)
    guest = smoke_test.SmokeViewer(smoke_test.Deployed.of(OUTPUTS), Scripted(AS_EXPECTED | answers))
    found = list(verify_account.run_checks(guest, "photos", PRIVATE))
    assert len(found) == 2 * 4 + 5 + 3 + len(verify_account.NAMES) + 3 + 1
    return [one.what for one in found if not one.is_met]


def test_where_all_is_as_expected_nothing_is_complained_of(amazon: Amazon) -> None:
    assert unmet(amazon, {}) == []


@pytest.mark.parametrize(
    ("answers", "what"),
    [
        (
            {"/(1)": [ViewerResponse(403, {})], "/%281%29": [ViewerResponse(403, {})]},
            'made for the first time: "(1)\'!*~.jpg"',
        ),
        (
            {"/a%20b.jpg": [ViewerResponse(200, MISS), ViewerResponse(200, HIT)]},
            "a tag that viewers do not see",
        ),
        (
            {
                "/a%20b.jpg": [
                    ViewerResponse(200, MISS),
                    ViewerResponse(200, HIT | {"x-amz-meta-cache-tag": "o-1"}),
                    ViewerResponse(200, MISS),
                ]
            },
            "a tag that viewers do not see",
        ),
        ({"/late.jpg": [ViewerResponse(404, {})]}, "uploaded after it was asked for"),
        ({"?stored=1": [ViewerResponse(302, {})]}, "a picture above 4.5 MB: asked, followed, again"),
        (
            {"/noise.png": [ViewerResponse(302, {"location": "?stored=1"})]},
            "a picture above 4.5 MB: asked, followed, again",
        ),
        ({"801x600/clients/": [ViewerResponse(403, {}, text="{}")]}, "what is looked at first"),
        ({"lambda-url": [ViewerResponse(403, {}, text="AccessDenied")]}, "the function URL, past CloudFront"),
    ],
    ids=str,
)
def test_whatever_cloudfront_does_otherwise_is_told(
    amazon: Amazon, answers: dict[str, list[ViewerResponse]], what: str
) -> None:
    assert unmet(amazon, answers) == [what]


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ({"utilization": "50"}, "the viewer function’s share of its time"),
        ({"log": ""}, "a cold start"),
        ({"log": "Init Duration: 712.25 ms\nInit Duration: 2000.01 ms"}, "a cold start"),
    ],
    ids=str,
)
def test_what_aws_measures_is_held_to_its_bounds(amazon: Amazon, told: dict[str, str], what: str) -> None:
    assert unmet(amazon, {}, **told) == [what]


def test_noise_is_a_png_that_nothing_makes_smaller() -> None:
    made = verify_account.noise(64)
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (64, 64))
    assert len(made) > 4 * 64 * 64


def test_the_command_ends_with_1_where_something_differs(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    for log, exit_code in (("Init Duration: 1.5 ms", 0), ("", 1)):
        amazon.expects("cloudformation", "describe_stacks", None, **told("UPDATE_COMPLETE"))
        is_verified(amazon, log=log)
        monkeypatch.setattr(http_viewer, "fetch", Scripted(AS_EXPECTED))
        done = run("verify", "--stack", "photos")
        assert done.exit_code == exit_code
        assert ("FAILED  a cold start: none in the log yet (expected:" in done.stdout) == bool(exit_code)


class _Edge(http.server.BaseHTTPRequestHandler):
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

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """In silence."""


def test_what_is_seen_is_the_answer_itself_and_the_words_of_a_refusal() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Edge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        moved, picture, refused = (http_viewer.fetch(address + path) for path in ("/moved", "/a.jpg", "/"))
        server.shutdown()
    assert (str(moved), moved.headers["location"]) == ("302 Miss", "/a.jpg")
    assert (str(picture), picture.text) == ("200 Miss", "")
    assert (str(refused), refused.text) == ("403 Miss", '{"Message":"Forbidden"}')
    gone = http_viewer.fetch(address)
    assert (gone.status, gone.cache) == (0, "")
    assert str(gone).startswith("no answer: ")


# destroy


def versions(*keys: str) -> dict[str, Any]:
    return {"Versions": [{"Key": key, "VersionId": "1", "Size": 10**9} for key in keys]}


def has_buckets(amazon: Amazon, *statuses: str) -> None:
    """A stack with the buckets b0, b1, …, each as CloudFormation says; and a topic."""
    amazon.expects("cloudformation", "describe_stacks", None, **told("CREATE_COMPLETE", {"BucketName": "b0"}))
    resources = [
        {"LogicalResourceId": f"B{number}", "PhysicalResourceId": f"b{number}", "ResourceStatus": status}
        for number, status in enumerate(statuses)
    ]
    told_of = [{"ResourceType": "AWS::S3::Bucket", "Timestamp": 0, **one} for one in resources]
    told_of.append({**RESOURCE, "ResourceType": "AWS::SNS::Topic", "Timestamp": 0})
    for one in told_of:
        one.pop("LastUpdatedTimestamp", None)
    amazon.expects(
        "cloudformation", "describe_stack_resources", {"StackName": "photos"}, StackResources=told_of
    )


def test_destroying_keeps_the_originals_and_says_what_they_cost(amazon: Amazon) -> None:
    has_buckets(amazon, "UPDATE_COMPLETE", "CREATE_COMPLETE")
    amazon.expects("s3", "list_object_versions", {"Bucket": "b0"}, **versions("originals/a", "originals/b"))
    amazon.refuses("s3", "list_object_versions", "NoSuchBucket", asked={"Bucket": "b1"})
    follows(amazon, "delete_stack", ("DELETE_IN_PROGRESS", []), ("DELETE_COMPLETE", []))
    done = run("destroy", "--stack", "photos", answer="y\n")
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        ["b0: 2 objects, 2.0 GB; stays: about $0.05 a month", "photos is gone."],
    )


@pytest.mark.parametrize(("answer", "exit_code"), [("y\nb0\n", 0), ("y\nB0\n", 1), ("n\n", 1), ("", 1)])
def test_originals_are_erased_only_by_the_bucket_s_name(amazon: Amazon, answer: str, exit_code: int) -> None:
    has_buckets(amazon, "CREATE_COMPLETE")
    amazon.expects("s3", "list_object_versions", {"Bucket": "b0"}, **versions("originals/a"))
    if exit_code == 0:
        follows(amazon, "delete_stack", ("DELETE_COMPLETE", []))
        markers = {"DeleteMarkers": [{"Key": "gone", "VersionId": "2"}]}
        amazon.expects("s3", "list_object_versions", {"Bucket": "b0"}, **versions("originals/a"), **markers)
        objects = [{"Key": "originals/a", "VersionId": "1"}, {"Key": "gone", "VersionId": "2"}]
        deleted = {"Bucket": "b0", "Delete": {"Objects": objects, "Quiet": True}}
        amazon.expects("s3", "delete_objects", deleted)
        amazon.expects("s3", "delete_bucket", {"Bucket": "b0"})
    done = run("destroy", "--stack", "photos", "--originals", "delete", answer=answer)
    assert done.exit_code == exit_code


def test_a_bucket_that_the_stack_never_had_is_not_erased(amazon: Amazon) -> None:
    """Of a first deployment that failed: the name was told, and the bucket is somebody's."""
    has_buckets(amazon, "CREATE_FAILED", "DELETE_COMPLETE")
    follows(amazon, "delete_stack", ("DELETE_COMPLETE", []))
    done = run("destroy", "--stack", "photos", "--originals", "delete", "--yes")
    assert (done.exit_code, done.stdout) == (0, "photos is gone.\n")


def test_another_s_stack_is_told_from_ours(amazon: Amazon) -> None:
    other = told("CREATE_COMPLETE")
    other["Stacks"][0]["Outputs"] = []
    amazon.expects("cloudformation", "describe_stacks", None, **other)
    done = run("verify", "--stack", "photos")
    assert (done.exit_code, "the stack tells no 'CloudFrontAddress'" in done.stderr) == (1, True)


def test_there_is_nothing_to_destroy(amazon: Amazon) -> None:
    message = "Stack with id photos does not exist"
    amazon.refuses("cloudformation", "describe_stacks", "ValidationError", message)
    done = run("destroy", "--stack", "photos")
    assert (done.exit_code, "there is no stack photos" in done.stderr) == (1, True)
