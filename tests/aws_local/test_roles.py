"""What each function's role allows is what it needs: without any one statement something named fails."""

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
PAGES = {f"resized/{one.rendition_key(KEY)}" for one in Settings().page_targets}

# What each function is for, each promise by name.


async def resizer(stack: deployed_stack.Stack) -> set[str]:
    await stack.put(KEY, RED)
    answer = await stack.ask(PATH)
    found = {"answers"} if answer.status == 200 else set()
    found |= {"stores"} if stack.renditions() else set()
    found |= {"says what is not there"} if (await stack.ask("/resize/150x150/none")).status == 404 else set()
    return found | logs(stack, "Resizer")


async def prewarm(stack: deployed_stack.Stack) -> set[str]:
    await stack.put(KEY, RED)
    await stack.later(0)
    found = {"warms"} if stack.renditions() == PAGES else set()
    again = stack.watch("PrewarmFunction")
    await stack.put(KEY, RED)
    await stack.later(0)
    has_put = any(one.method == "PUT" for one in again)
    found |= {"leaves what is there"} if found and not has_put else set()
    await stack.put("g/gone.jpg", RED)
    await stack.remove("g/gone.jpg")
    before = stack.queue("PrewarmQueue")
    await stack.later(0)
    found |= {"is done with what is gone"} if stack.queue("PrewarmQueue") == before - 1 else set()
    return found | logs(stack, "PrewarmFunction")


async def janitor(stack: deployed_stack.Stack) -> set[str]:
    await stack.put(KEY, RED)
    first = await stack.ask(PATH)
    await stack.later(90)
    found = {"is done with the new"} if stack.queue("JanitorQueue") == 0 else set()
    await stack.put(KEY, BLUE)
    await stack.later(90)
    found |= {"deletes"} if not stack.renditions() else set()
    found |= {"invalidates"} if (await stack.ask(PATH)).body != first.body else set()
    await stack.remove(KEY)
    before = stack.queue("JanitorQueue")
    await stack.later(90)
    found |= {"is done with what is gone"} if stack.queue("JanitorQueue") < before else set()
    return found | logs(stack, "JanitorFunction")


def logs(stack: deployed_stack.Stack, function: str) -> set[str]:
    return {"logs"} if stack.chain.functions[function].lines else set()


def without(role: str, policy: int, *place: str | int) -> str:
    """The template without what lies at a place of one of a role's policies."""
    way = "/".join(map(str, place))
    return local_cloudfront.changed(
        local_cloudfront.put(f"{role}/Properties/Policies/{policy}/PolicyDocument/Statement/{way}", None)
    )


RESIZER = {"answers", "stores", "says what is not there", "logs"}
PREWARM = {"warms", "leaves what is there", "is done with what is gone", "logs"}
JANITOR = {"is done with the new", "deletes", "invalidates", "is done with what is gone", "logs"}

FUNCTIONS: dict[str, tuple[Callable[[deployed_stack.Stack], Awaitable[set[str]]], set[str]]] = {
    "ResizerRole": (resizer, RESIZER),
    "PrewarmRole": (prewarm, PREWARM),
    "JanitorRole": (janitor, JANITOR),
}
"""What checks each role's function, and what it promises."""


BROKEN: list[tuple[str, int, tuple[str | int, ...], set[str]]] = [
    ("ResizerRole", 0, (0,), {"answers", "stores", "says what is not there"}),
    ("ResizerRole", 0, (0, "Resource", 0), {"answers", "stores", "says what is not there"}),
    ("ResizerRole", 0, (0, "Resource", 1), {"answers", "stores"}),
    ("ResizerRole", 0, (1,), {"stores"}),
    ("ResizerRole", 0, (2,), {"answers", "stores", "says what is not there"}),
    ("ResizerRole", 1, (0,), {"logs"}),
    ("PrewarmRole", 0, (0,), PREWARM - {"logs"}),
    ("PrewarmRole", 0, (0, "Resource", 0), PREWARM - {"logs"}),
    ("PrewarmRole", 0, (0, "Resource", 1), {"leaves what is there"}),
    ("PrewarmRole", 0, (1,), {"warms", "leaves what is there"}),
    ("PrewarmRole", 0, (2,), {"is done with what is gone"}),
    ("PrewarmRole", 1, (1,), {"logs"}),
    ("JanitorRole", 0, (0,), JANITOR - {"logs"}),
    ("JanitorRole", 0, (0, "Resource", 0), JANITOR - {"logs"}),
    ("JanitorRole", 0, (0, "Resource", 1), JANITOR - {"logs"}),
    ("JanitorRole", 0, (1,), JANITOR - {"deletes", "logs"}),
    ("JanitorRole", 0, (1, "Action", 0), JANITOR - {"deletes", "logs"}),
    ("JanitorRole", 0, (1, "Action", 1), {"is done with the new"}),
    ("JanitorRole", 0, (2,), {"deletes", "invalidates", "is done with what is gone"}),
    ("JanitorRole", 0, (3,), {"invalidates", "is done with what is gone"}),
    ("JanitorRole", 0, (5,), {"logs"}),
]
"""A role, a policy of it, a place there, and what fails without what lies there."""
POLLING = [("PrewarmRole", 1, 0), ("JanitorRole", 0, 4)]
"""Statements that Lambda asks for before anything runs."""


@pytest.mark.parametrize(("role", "policy", "place", "broken"), BROKEN)
@pytest.mark.server("versitygw", "node")
async def test_without_any_one_permission_something_named_fails(
    tmp_path: Path, role: str, policy: int, place: tuple[str | int, ...], broken: set[str]
) -> None:
    check, promised = FUNCTIONS[role]
    async with deployed_stack.stack(
        tmp_path, without(role, policy, *place), **({"Prewarm": "on"} if role == "PrewarmRole" else {})
    ) as stack:
        assert promised - await check(stack) == broken


@pytest.mark.parametrize("role", ["ResizerRole", "PrewarmRole", "JanitorRole"])
@pytest.mark.server("versitygw", "node")
async def test_with_its_role_a_function_does_all_it_is_for(tmp_path: Path, role: str) -> None:
    check, promised = FUNCTIONS[role]
    async with deployed_stack.stack(
        tmp_path, **({"Prewarm": "on"} if role == "PrewarmRole" else {})
    ) as stack:
        assert await check(stack) == promised


def test_every_statement_of_every_role_is_told_of() -> None:
    """A permission more is a row more, or nobody knows what it is for."""
    roles = {
        name: one["Properties"]["Policies"]
        for name, one in yaml_template.read(local_cloudfront.PLAIN)["Resources"].items()
        if one["Type"] == "AWS::IAM::Role"
    }
    written = [
        (role, policy, number)
        for role, policies in roles.items()
        for policy, one in enumerate(policies)
        for number, _ in enumerate(one["PolicyDocument"]["Statement"])
    ]
    told = [(role, policy, place[0]) for role, policy, place, _ in BROKEN if len(place) == 1]
    assert sorted(written) == sorted([*told, *POLLING])


# What Lambda itself does by a role.


@pytest.mark.parametrize(("role", "policy", "statement"), POLLING)
@pytest.mark.parametrize("action", [None, 0, 1, 2])
def test_a_function_that_may_not_take_messages_is_not_deployed(
    role: str, policy: int, statement: int, action: int | None
) -> None:
    place = (statement,) if action is None else (statement, "Action", action)
    with pytest.raises(SettingsError, match="its role may not sqs:"):
        local_cloudfront.planned(without(role, policy, *place), Prewarm="on")


@pytest.mark.parametrize(
    ("path", "value", "told"),
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
def test_what_a_role_says_that_is_not_modelled_stops_the_start(path: str, value: object, told: str) -> None:
    with pytest.raises(UnmodelledProperty, match=told):
        local_cloudfront.planned(local_cloudfront.changed(local_cloudfront.put(path, value)))


# The guard itself: what a request is, and whether it passes.


class Server:
    """In the S3 server's place: notes what comes through, and answers with a status."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.asked: list[OriginRequest] = []

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.asked.append(request)
        return OriginResponse(self.status, {}, b"the server's")


def request(method: str, target: str, **headers: str) -> OriginRequest:
    path, _, query = target.partition("?")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OriginRequest(method, "http", "127.0.0.1", path, query, named)


ORIGINAL, RENDITION, BUCKET = "/galerly-1/originals/a%20b.jpg", "/galerly-1/resized/150x150/a", "/galerly-1"


@pytest.mark.parametrize(
    ("function", "method", "target", "status"),
    [
        ("Resizer", "GET", ORIGINAL, 200),
        ("Resizer", "HEAD", ORIGINAL, 200),
        ("Resizer", "GET", RENDITION, 200),
        ("Resizer", "GET", f"{RENDITION}?x-id=GetObject", 200),
        ("Resizer", "PUT", RENDITION, 200),
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
async def test_a_request_passes_if_the_role_may_do_it(
    function: str, method: str, target: str, status: int
) -> None:
    plan = local_cloudfront.planned(Prewarm="on")
    server = Server()
    (own,) = plan.buckets.values()
    asked = request(method, target)
    answer = await RoleCheck(own, plan.functions[function].role, server).respond(asked)
    assert answer.status == status
    assert server.asked == ([asked] if status == 200 else [])
    if status == 501:
        assert f"{method} {asked.raw_path}?{asked.query} is not modelled".encode() in answer.body.replace(
            b"&amp;", b"&"
        )


async def test_a_copy_is_not_taken_for_a_put() -> None:
    """It reads as well, and would be let through by the right to write."""
    asked = request("PUT", RENDITION, x_amz_copy_source=ORIGINAL)
    assert role_check.s3_action(asked, "resized/150x150/a") is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("place", "status"), [((2,), 403), (None, 404)])
async def test_what_is_missing_is_404_only_to_who_may_list(
    method: str, place: tuple[int] | None, status: int
) -> None:
    text = without("ResizerRole", 0, *place) if place else local_cloudfront.PLAIN
    plan = local_cloudfront.planned(text)
    (own,) = plan.buckets.values()
    answer = await RoleCheck(own, plan.functions["Resizer"].role, Server(404)).respond(
        request(method, ORIGINAL)
    )
    assert answer.status == status


async def test_what_the_bucket_denies_no_role_allows() -> None:
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}
    text = local_cloudfront.changed(
        local_cloudfront.put("BucketPolicy/Properties/PolicyDocument/Statement/0", deny)
    )
    plan = local_cloudfront.planned(text)
    (own,) = plan.buckets.values()
    answer = await RoleCheck(own, plan.functions["Resizer"].role, Server()).respond(request("GET", ORIGINAL))
    assert (answer.status, b"AccessDenied" in answer.body) == (403, True)


KEYS = ["a b+c.jpg", "é/ü&=%.jpg", "~!*'();@$,[]"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.server("versitygw")
async def test_what_passes_is_what_was_signed_byte_for_byte(
    versitygw_bucket: s3_servers.Objects, key: str
) -> None:
    """versitygw verifies the signature: a byte that is changed on the way would be 403."""
    body = bytes(range(256)) * 40_000  # 10 MB, which botocore announces by Expect: 100-continue
    plan = local_cloudfront.planned(BucketName=versitygw_bucket.name)
    anything = IdentityStatement(effect="Allow", action="s3:*", resource="*")
    (own,) = plan.buckets.values()
    through = RoleCheck(own, Role((anything,)), HttpClient(versitygw_bucket.server.endpoint, 5.0))
    async with api_server.listen(through) as address:
        client = s3_servers.client(address)
        named = {"Bucket": versitygw_bucket.name, "Key": f"originals/{key}"}
        await asyncio.to_thread(client.put_object, **named, Body=body)
        found = await asyncio.to_thread(client.get_object, **named)
        assert await asyncio.to_thread(found["Body"].read) == body
        head = await asyncio.to_thread(client.head_object, **named)
        assert head["ContentLength"] == len(body)
        listed = await asyncio.to_thread(client.list_objects_v2, Bucket=versitygw_bucket.name)
        assert [one["Key"] for one in listed["Contents"]] == [f"originals/{key}"]
        await asyncio.to_thread(client.delete_object, **named)
    assert versitygw_bucket.names() == []
