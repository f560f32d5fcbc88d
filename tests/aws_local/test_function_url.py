"""A function URL lets in what is signed and permitted, and answers for a function that does not."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from galerly_cdn.aws.functions import function_url
from galerly_cdn.aws_local.functions.function_url import FunctionUrl
from galerly_cdn.aws_local.functions.runtime import Crashed, FunctionFailed, Throttled, TimedOut
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
from galerly_cdn.aws_local.iam.policies import Permission
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.aws_local.http.origin_exchange import OriginResponse

HOST = "abc.lambda-url.us-east-1.on.aws"
PATH = "/resized/800x600.webp/g/a%20b%2B%C3%BC.jpg"
DISTRIBUTION = "arn:aws:cloudfront::1:distribution/E1"
CREDENTIALS = Credentials("local", "only here")
BY_URL = Permission(
    function_name="resizer",
    action="lambda:InvokeFunctionUrl",
    principal="cloudfront.amazonaws.com",
    source_arn=DISTRIBUTION,
    function_url_auth_type="AWS_IAM",
)
BY_CALL = Permission(
    function_name="resizer",
    action="lambda:InvokeFunction",
    principal="cloudfront.amazonaws.com",
    source_arn=DISTRIBUTION,
    invoked_via_function_url=True,
)
FORBIDDEN = (403, b'{"Message":"Forbidden"}')


class Function:
    """In a runtime's place: notes events, gives a result or raises."""

    def __init__(self, result: Any = None) -> None:  # noqa: ANN401 - any JSON
        self.result = result
        self.events: list[Mapping[str, Any]] = []

    async def invoke(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        self.events.append(event)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def signed(
    path: str = PATH,
    *,
    service: str = "lambda",
    region: str = "us-east-1",
    secret: str = "only here",
    query: str = "",
) -> OriginRequest:
    """A request as CloudFront signs it, by botocore."""
    asked = AWSRequest(
        "GET",
        f"https://{HOST}{path}" + (f"?{query}" if query else ""),
        headers={"x-galerly-private": "1", "Host": HOST},
    )
    SigV4Auth(Credentials("local", secret), service, region).add_auth(asked)
    headers = {name.lower(): value for name, value in asked.headers.items()}
    return OriginRequest("GET", "https", HOST, path, query, headers)


async def ask(
    request: OriginRequest, function: Function, permissions: tuple[Permission, ...] = (BY_URL, BY_CALL)
) -> OriginResponse:
    front = FunctionUrl(
        function,
        permissions=permissions,
        credentials=CREDENTIALS,
        region="us-east-1",
        caller_arn=DISTRIBUTION,
    )
    return await front.respond(request)


async def test_a_signed_request_is_an_event_and_its_result_the_answer() -> None:
    result = {
        "statusCode": 404,
        "headers": {"Cache-Control": "no-store"},
        "body": base64.b64encode(b"\xff\x00").decode(),
        "isBase64Encoded": True,
    }
    function = Function(result)
    found = await ask(signed(query="a=1"), function)
    assert (found.status, found.body) == (404, b"\xff\x00")
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["content-length"] == "2"
    (event,) = function.events
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", PATH, "a=1")
    assert function_url.read_event(event).raw_path == PATH.encode()
    assert function_url.read_event(event).is_private
    assert not event["isBase64Encoded"]


async def test_a_result_without_a_status_is_the_body_of_a_200() -> None:
    found = await ask(signed(), Function({"a": 1}))
    assert (found.status, json.loads(found.body)) == (200, {"a": 1})
    assert found.headers["content-type"] == "application/json"


WRONG = {
    "unsigned": replaced(signed(), headers={}),
    "another service": signed(service="s3"),
    "another region": signed(region="eu-west-1"),
    "another secret": signed(secret="guessed"),
    "another path": replaced(signed(), raw_path="/resized/800x600.webp/g/other.jpg"),
    "another spelling": replaced(signed(), raw_path=PATH.replace("%20", "+")),
    "another query": replaced(signed(), query="a=1"),
    "another method": replaced(signed(), method="HEAD"),
    "another host": replaced(
        signed(), host="xyz.lambda-url.us-east-1.on.aws", headers=signed().headers | {"host": "xyz"}
    ),
    "another mark": replaced(signed(), headers=signed().headers | {"x-galerly-private": "0"}),
    "another date": replaced(signed(), headers=signed().headers | {"x-amz-date": "20200101T000000Z"}),
    "no signature": replaced(signed(), headers=signed().headers | {"authorization": "Bearer x"}),
}


@pytest.mark.parametrize("request_", WRONG.values(), ids=WRONG)
async def test_what_is_not_signed_as_it_is_never_reaches_the_function(request_: OriginRequest) -> None:
    function = Function({})
    found = await ask(request_, function)
    assert (found.status, found.body) == FORBIDDEN
    assert function.events == []


@pytest.mark.parametrize(
    "permissions",
    [
        (),
        (BY_URL,),
        (BY_CALL,),
        (BY_URL, replaced(BY_CALL, invoked_via_function_url=False)),
        (replaced(BY_URL, function_url_auth_type="NONE"), BY_CALL),
        (replaced(BY_URL, source_arn="arn:aws:cloudfront::1:distribution/E2"), BY_CALL),
        (BY_URL, replaced(BY_CALL, source_arn="arn:aws:cloudfront::1:distribution/E2")),
        (BY_URL, replaced(BY_CALL, principal="s3.amazonaws.com")),
    ],
)
async def test_both_permissions_are_needed_for_this_distribution(permissions: tuple[Permission, ...]) -> None:
    function = Function({})
    found = await ask(signed(), function, permissions)
    assert (found.status, found.body) == FORBIDDEN
    assert function.events == []


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Throttled(), 429),
        (TimedOut(), 504),
        (Crashed(), 502),
        (FunctionFailed(), 502),
        ({"statusCode": 200, "body": "%", "isBase64Encoded": True}, 502),
    ],
    ids=["throttled", "late", "crashed", "failed", "nonsense"],
)
async def test_lambda_answers_for_a_function_that_does_not(result: object, status: int) -> None:
    assert (await ask(signed(), Function(result))).status == status
