"""Each role allows exactly what its function needs: without any one statement a named feature fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.aws_local.cloudformation import yaml_template
from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.http_client import HttpClient
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.aws_local.iam.policies import IdentityStatement
from galerly_cdn.aws_local.iam.roles import Role
from galerly_cdn.aws_local.s3 import role_check
from galerly_cdn.aws_local.s3.role_check import RoleCheck
from galerly_cdn.errors import SettingsError
from galerly_cdn.settings.table import Settings
from tests.support import deployed_stack, local_cloudfront, pictures, s3_servers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


KEY = "g/a.jpg"
PATH = f"/resize/150x150/{KEY}"
RED, BLUE = (pictures.jpeg(60, 40, quality=quality) for quality in (50, 90))
TRUST = "ResizerRole/Properties/AssumeRolePolicyDocument"
PAGES = {f"resized/{one.rendition_key(KEY)}" for one in Settings().warm_targets}

# Each function returns the names of the features that work.


async def resizer(stack: deployed_stack.DeployedStack) -> set[str]:
    await stack.put(KEY, RED)
    response = await stack.request(PATH)
    working = {"responds"} if response.status == 200 else set()
    working |= {"stores"} if stack.renditions() else set()
    working |= (
        {"reports missing originals as 404"}
        if (await stack.request("/resize/150x150/none")).status == 404
        else set()
    )
    return working | logs(stack, "Resizer")


async def prewarm(stack: deployed_stack.DeployedStack) -> set[str]:
    await stack.put(KEY, RED)
    await stack.advance(0)
    working = {"renders"} if stack.renditions() == PAGES else set()
    again = stack.record_s3_requests("PrewarmFunction")
    await stack.put(KEY, RED)
    await stack.advance(0)
    has_put = any(one.method == "PUT" for one in again)
    working |= {"keeps existing renditions"} if working and not has_put else set()
    await stack.put("g/gone.jpg", RED)
    await stack.remove("g/gone.jpg")
    before = stack.queue_length("PrewarmQueue")
    await stack.advance(0)
    working |= {"ignores deleted originals"} if stack.queue_length("PrewarmQueue") == before - 1 else set()
    return working | logs(stack, "PrewarmFunction")


async def janitor(stack: deployed_stack.DeployedStack) -> set[str]:
    await stack.put(KEY, RED)
    first = await stack.request(PATH)
    await stack.advance(150)
    working = {"ignores new originals"} if stack.queue_length("JanitorQueue") == 0 else set()
    await stack.put(KEY, BLUE)
    await stack.advance(150)
    working |= {"deletes"} if not stack.renditions() else set()
    working |= {"invalidates"} if (await stack.request(PATH)).body != first.body else set()
    await stack.remove(KEY)
    before = stack.queue_length("JanitorQueue")
    await stack.advance(150)
    working |= {"ignores deleted originals"} if stack.queue_length("JanitorQueue") < before else set()
    return working | logs(stack, "JanitorFunction")


def logs(stack: deployed_stack.DeployedStack, function: str) -> set[str]:
    return {"logs"} if stack.running.functions[function].log_lines else set()


def without(role: str, policy: int, *path: str | int) -> str:
    """The template without the element at a path in one of a role's policies."""
    joined = "/".join(map(str, path))
    return local_cloudfront.changed_template(
        local_cloudfront.set_value(
            f"{role}/Properties/Policies/{policy}/PolicyDocument/Statement/{joined}", None
        )
    )


RESIZER = {"responds", "stores", "reports missing originals as 404", "logs"}
PREWARM = {"renders", "keeps existing renditions", "ignores deleted originals", "logs"}
JANITOR = {"ignores new originals", "deletes", "invalidates", "ignores deleted originals", "logs"}

FUNCTIONS: dict[str, tuple[Callable[[deployed_stack.DeployedStack], Awaitable[set[str]]], set[str]]] = {
    "ResizerRole": (resizer, RESIZER),
    "PrewarmRole": (prewarm, PREWARM),
    "JanitorRole": (janitor, JANITOR),
}
"""By role: the function that finds the working features, and all features."""


BROKEN: list[tuple[str, int, tuple[str | int, ...], set[str]]] = [
    ("ResizerRole", 0, (0,), {"responds", "stores", "reports missing originals as 404"}),
    ("ResizerRole", 0, (0, "Resource", 0), {"responds", "stores", "reports missing originals as 404"}),
    ("ResizerRole", 0, (0, "Resource", 1), {"responds", "stores"}),
    ("ResizerRole", 0, (1,), {"stores"}),
    ("ResizerRole", 0, (2,), {"responds", "stores", "reports missing originals as 404"}),
    ("ResizerRole", 1, (0,), {"logs"}),
    ("PrewarmRole", 0, (0,), PREWARM - {"logs"}),
    ("PrewarmRole", 0, (0, "Resource", 0), PREWARM - {"logs"}),
    ("PrewarmRole", 0, (0, "Resource", 1), {"keeps existing renditions"}),
    ("PrewarmRole", 0, (1,), {"renders", "keeps existing renditions"}),
    ("PrewarmRole", 0, (2,), {"ignores deleted originals"}),
    ("PrewarmRole", 1, (1,), {"logs"}),
    ("JanitorRole", 0, (0,), JANITOR - {"logs"}),
    ("JanitorRole", 0, (0, "Resource", 0), JANITOR - {"logs"}),
    ("JanitorRole", 0, (0, "Resource", 1), JANITOR - {"logs"}),
    ("JanitorRole", 0, (1,), JANITOR - {"logs"}),
    ("JanitorRole", 0, (1, "Action", 0), JANITOR - {"logs"}),
    ("JanitorRole", 0, (1, "Action", 1), {"ignores new originals"}),
    ("JanitorRole", 0, (2,), {"deletes", "invalidates", "ignores deleted originals"}),
    ("JanitorRole", 0, (3,), {"invalidates"}),
    ("JanitorRole", 0, (5,), {"logs"}),
]
"""Role, number of the policy, path in its statements, and the features that fail without it."""
POLLING = [("PrewarmRole", 1, 0), ("JanitorRole", 0, 4)]
"""Statements without which Lambda refuses the event source mapping."""
JOBS = [("WarmRole", 0, 0), ("WarmRole", 0, 1)]
"""Statements without which S3 refuses a job; `test_warm_job` removes them."""


@pytest.mark.parametrize(("role", "policy", "place", "broken"), BROKEN)
@pytest.mark.server("versitygw", "node")
async def test_without_one_permission_its_features_fail(
    tmp_path: Path, role: str, policy: int, place: tuple[str | int, ...], broken: set[str]
) -> None:
    find_features, features = FUNCTIONS[role]
    async with deployed_stack.start(
        tmp_path, without(role, policy, *place), **({"Prewarm": "on"} if role == "PrewarmRole" else {})
    ) as stack:
        assert features - await find_features(stack) == broken


@pytest.mark.parametrize("role", ["ResizerRole", "PrewarmRole", "JanitorRole"])
@pytest.mark.server("versitygw", "node")
async def test_with_its_role_all_features_work(tmp_path: Path, role: str) -> None:
    find_features, features = FUNCTIONS[role]
    async with deployed_stack.start(
        tmp_path, **({"Prewarm": "on"} if role == "PrewarmRole" else {})
    ) as stack:
        assert await find_features(stack) == features


def test_every_statement_of_every_role_is_tested() -> None:
    """Each permission needs a row in `BROKEN` that says what it is for."""
    roles = {
        name: resource["Properties"]["Policies"]
        for name, resource in yaml_template.read(local_cloudfront.TEMPLATE)["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
    }
    written = [
        (role, policy, number)
        for role, policies in roles.items()
        for policy, document in enumerate(policies)
        for number, _ in enumerate(document["PolicyDocument"]["Statement"])
    ]
    tested = [(role, policy, place[0]) for role, policy, place, _ in BROKEN if len(place) == 1]
    assert sorted(written) == sorted([*tested, *POLLING, *JOBS])


# Lambda polls queues with the function's role.


@pytest.mark.parametrize(("role", "policy", "statement"), POLLING)
@pytest.mark.parametrize("action", [None, 0, 1, 2])
def test_a_role_that_may_not_poll_the_queue_raises_settings_error(
    role: str, policy: int, statement: int, action: int | None
) -> None:
    place = (statement,) if action is None else (statement, "Action", action)
    with pytest.raises(SettingsError, match="its role may not sqs:"):
        local_cloudfront.read_plan(without(role, policy, *place), Prewarm="on")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("ResizerRole/Properties/ManagedPolicyArns", ["arn:aws:iam::aws:policy/Admin"], "ManagedPolicyArns"),
        ("ResizerRole/Properties/PermissionsBoundary", "arn:x", "PermissionsBoundary"),
        (f"{TRUST}/Statement/0/Principal", {"Service": "ec2.amazonaws.com"}, "ResizerRole: .*Principal"),
        (f"{TRUST}/Statement/0/Principal", {"AWS": "*"}, "ResizerRole: .*Principal"),
        (f"{TRUST}/Statement", [], "ResizerRole: .*Statement"),
        ("ResizerRole/Properties/Policies/0/PolicyDocument/Statement/0/NotAction", "s3:*", "NotAction"),
        ("ResizerRole/Properties/Policies/0/PolicyDocument/Statement/0/Principal", "*", "Principal"),
        (
            "ResizerRole/Properties/Policies/0/PolicyDocument/Statement/0/Condition",
            {"IpAddress": {}},
            "IpAddr",
        ),
        ("Resizer/Properties/Role", "arn:aws:iam::1:role/other", "Resizer: Role: there is no role"),
    ],
)
def test_an_unmodelled_property_of_a_role_raises_unmodelled_property(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(UnmodelledProperty, match=message):
        local_cloudfront.read_plan(local_cloudfront.changed_template(local_cloudfront.set_value(path, value)))


# RoleCheck.


class Server:
    """A fake S3 server: records requests, and responds with a status."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.requests: list[OriginRequest] = []

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.requests.append(request)
        return OriginResponse(self.status, {}, b"the server's")


def request(method: str, target: str, **headers: str) -> OriginRequest:
    path, _, query = target.partition("?")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OriginRequest(method, "http", "127.0.0.1", path, query, named)


RECORD = "/galerly-1/resized/facts/g/a.jpg"
ORIGINAL, RENDITION, BUCKET = "/galerly-1/originals/a%20b.jpg", "/galerly-1/resized/150x150/a", "/galerly-1"


@pytest.mark.parametrize(
    ("function", "method", "target", "status"),
    [
        ("Resizer", "GET", ORIGINAL, 200),
        ("Resizer", "HEAD", ORIGINAL, 200),
        ("Resizer", "GET", RENDITION, 200),
        ("Resizer", "GET", f"{RENDITION}?x-id=GetObject", 200),
        ("Resizer", "PUT", RENDITION, 200),
        ("Resizer", "GET", RECORD, 200),
        ("Resizer", "PUT", RECORD, 200),
        ("Resizer", "DELETE", RECORD, 403),
        ("Resizer", "PUT", ORIGINAL, 403),
        ("Resizer", "PUT", "/galerly-1/else", 403),
        ("Resizer", "DELETE", RENDITION, 403),
        ("Resizer", "DELETE", ORIGINAL, 403),
        ("Resizer", "GET", "/galerly-1/secret", 403),
        ("Resizer", "GET", "/another/originals/a.jpg", 403),
        ("Resizer", "GET", "/galerly-1/originals%2Fa.jpg", 200),
        ("Resizer", "GET", "/galerly-1/resized", 403),
        ("Resizer", "GET", f"{BUCKET}?list-type=2&prefix=", 200),
        ("Resizer", "GET", f"{BUCKET}?versions", 403),
        ("JanitorFunction", "GET", f"{BUCKET}?versions&prefix=a", 200),
        ("JanitorFunction", "DELETE", RENDITION, 200),
        ("JanitorFunction", "GET", RECORD, 200),
        ("JanitorFunction", "DELETE", RECORD, 200),
        ("JanitorFunction", "DELETE", ORIGINAL, 403),
        ("JanitorFunction", "PUT", RENDITION, 403),
        ("PrewarmFunction", "PUT", RENDITION, 200),
        ("PrewarmFunction", "DELETE", RENDITION, 403),
        ("Resizer", "GET", BUCKET, 501),
        ("Resizer", "PUT", BUCKET, 501),
        ("Resizer", "GET", f"{ORIGINAL}?versionId=1", 501),
        ("Resizer", "GET", f"{ORIGINAL}?acl", 501),
        ("Resizer", "POST", f"{RENDITION}?uploads", 501),
        ("JanitorFunction", "POST", f"{BUCKET}?delete", 501),
        ("JanitorFunction", "DELETE", f"{RENDITION}?versionId=1", 501),
    ],
)
async def test_role_check_passes_allowed_requests_and_refuses_others(
    function: str, method: str, target: str, status: int
) -> None:
    plan = local_cloudfront.read_plan(Prewarm="on")
    server = Server()
    (bucket,) = plan.buckets.values()
    s3_request = request(method, target)
    response = await RoleCheck(bucket, plan.functions[function].role, server).respond(s3_request)
    assert response.status == status
    assert server.requests == ([s3_request] if status == 200 else [])
    if status == 501:
        assert (
            f"{method} {s3_request.raw_path}?{s3_request.query} is not modelled".encode()
            in response.body.replace(b"&amp;", b"&")
        )


async def test_s3_action_of_a_copy_is_none() -> None:
    """A copy also reads an object, which the permission s3:PutObject does not cover."""
    s3_request = request("PUT", RENDITION, x_amz_copy_source=ORIGINAL)
    assert role_check.s3_action(s3_request, "resized/150x150/a") is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("place", "status"), [((2,), 403), (None, 404)])
async def test_a_missing_object_is_404_only_with_list_bucket(
    method: str, place: tuple[int] | None, status: int
) -> None:
    text = without("ResizerRole", 0, *place) if place else local_cloudfront.TEMPLATE
    plan = local_cloudfront.read_plan(text)
    (bucket,) = plan.buckets.values()
    response = await RoleCheck(bucket, plan.functions["Resizer"].role, Server(404)).respond(
        request(method, ORIGINAL)
    )
    assert response.status == status


async def test_a_deny_of_the_bucket_policy_overrides_the_role() -> None:
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}
    text = local_cloudfront.changed_template(
        local_cloudfront.set_value("BucketPolicy/Properties/PolicyDocument/Statement/0", deny)
    )
    plan = local_cloudfront.read_plan(text)
    (bucket,) = plan.buckets.values()
    response = await RoleCheck(bucket, plan.functions["Resizer"].role, Server()).respond(
        request("GET", ORIGINAL)
    )
    assert (response.status, b"AccessDenied" in response.body) == (403, True)


KEYS = ["a b+c.jpg", "é/ü&=%.jpg", "~!*'();@$,[]"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.server("versitygw")
async def test_role_check_passes_signed_requests_byte_for_byte(
    versitygw_bucket: s3_servers.Objects, key: str
) -> None:
    """versitygw verifies the signature, so a changed byte would be 403."""
    body = bytes(range(256)) * 40_000  # 10 MB, for which botocore sends Expect: 100-continue
    plan = local_cloudfront.read_plan(BucketName=versitygw_bucket.name)
    anything = IdentityStatement(effect="Allow", action="s3:*", resource="*")
    (bucket,) = plan.buckets.values()
    role_check_ = RoleCheck(bucket, Role((anything,)), HttpClient(versitygw_bucket.server.endpoint, 5.0))
    async with api_server.listen(role_check_) as address:
        client = s3_servers.client(address)
        named = {"Bucket": versitygw_bucket.name, "Key": f"originals/{key}"}
        await asyncio.to_thread(client.put_object, **named, Body=body)
        received = await asyncio.to_thread(client.get_object, **named)
        assert await asyncio.to_thread(received["Body"].read) == body
        head = await asyncio.to_thread(client.head_object, **named)
        assert head["ContentLength"] == len(body)
        listed = await asyncio.to_thread(client.list_objects_v2, Bucket=versitygw_bucket.name)
        assert [item["Key"] for item in listed["Contents"]] == [f"originals/{key}"]
        await asyncio.to_thread(client.delete_object, **named)
    assert versitygw_bucket.names() == []
