"""A function URL requires a signature and both permissions, and responds to errors of the function."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from galerly_cdn.aws.functions import function_url
from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity, SigningOrigin
from galerly_cdn.aws_local.functions.function_url import FunctionUrl
from galerly_cdn.aws_local.functions.runtime import Crashed, FunctionFailed, Throttled, TimedOut
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
from galerly_cdn.aws_local.iam.policies import Permission
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.aws_local.http.origin_exchange import OriginResponse

HOST = "abc.lambda-url.us-east-1.on.aws"
PATH = "/resized/800x600.webp/g/.a-20b-2B-C3-BC.jpg"
KEY = "g/a%20b%2B%C3%BC.jpg"
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
    """A fake runtime: records events, and returns a result or raises it."""

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
    """A request signed as CloudFront signs it."""
    draft = AWSRequest(
        "GET",
        f"https://{HOST}{path}" + (f"?{query}" if query else ""),
        headers={"x-galerly-private": "1", "x-galerly-key": KEY, "Host": HOST},
    )
    SigV4Auth(Credentials("local", secret), service, region).add_auth(draft)
    headers = {name.lower(): value for name, value in draft.headers.items()}
    return OriginRequest("GET", "https", HOST, path, query, headers)


async def send(
    request: OriginRequest, function: Function, permissions: tuple[Permission, ...] = (BY_URL, BY_CALL)
) -> OriginResponse:
    url = FunctionUrl(
        function,
        permissions=permissions,
        credentials=CREDENTIALS,
        region="us-east-1",
        caller_arn=DISTRIBUTION,
    )
    return await url.respond(request)


async def test_a_signed_request_invokes_the_function_and_returns_its_result() -> None:
    result = {
        "statusCode": 404,
        "headers": {"Cache-Control": "no-store"},
        "body": base64.b64encode(b"\xff\x00").decode(),
        "isBase64Encoded": True,
    }
    function = Function(result)
    response = await send(signed(query="a=1"), function)
    assert (response.status, response.body) == (404, b"\xff\x00")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-length"] == "2"
    (event,) = function.events
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", PATH, "a=1")
    assert function_url.read_event(event).raw_path == PATH.encode()
    assert function_url.read_event(event).encoded_key == KEY.encode()
    assert function_url.read_event(event).is_private
    assert not event["isBase64Encoded"]


async def test_a_result_without_a_status_is_the_json_body_of_a_200() -> None:
    response = await send(signed(), Function({"a": 1}))
    assert (response.status, json.loads(response.body)) == (200, {"a": 1})
    assert response.headers["content-type"] == "application/json"


WRONG = {
    "unsigned": replaced(signed(), headers={}),
    "another service": signed(service="s3"),
    "another region": signed(region="eu-west-1"),
    "another secret": signed(secret="guessed"),
    "another path": replaced(signed(), raw_path="/resized/800x600.webp/g/other.jpg"),
    "another encoding of the path": replaced(signed(), raw_path=PATH.replace("b", "%62")),
    "another query": replaced(signed(), query="a=1"),
    "another method": replaced(signed(), method="HEAD"),
    "another host": replaced(
        signed(), host="xyz.lambda-url.us-east-1.on.aws", headers=signed().headers | {"host": "xyz"}
    ),
    "another value of a header": replaced(signed(), headers=signed().headers | {"x-galerly-private": "0"}),
    "another date": replaced(signed(), headers=signed().headers | {"x-amz-date": "20200101T000000Z"}),
    "no signature": replaced(signed(), headers=signed().headers | {"authorization": "Bearer x"}),
}


@pytest.mark.parametrize("request_", WRONG.values(), ids=WRONG)
async def test_a_request_without_a_valid_signature_is_403_and_does_not_invoke(
    request_: OriginRequest,
) -> None:
    function = Function({})
    response = await send(request_, function)
    assert (response.status, response.body) == FORBIDDEN
    assert function.events == []


@pytest.mark.parametrize(
    ("name", "status"),
    [
        *(("a.jpg", 200), (".a-20b.jpg", 200), ("a_b.-~", 200)),
        *((f"a{one}b.jpg", 403) for one in ("%20", "%2B", "%2b", "%61", "+", "(", "'", "!", "*", "=", ":")),
    ],
)
async def test_a_path_that_cloudfront_signs_unlike_lambda_is_403(name: str, status: int) -> None:
    """CloudFront signs the path as it sends it; Lambda encodes it again before it verifies the signature."""
    function = Function({"statusCode": 200})
    url = FunctionUrl(
        function,
        permissions=(BY_URL, BY_CALL),
        credentials=CREDENTIALS,
        region="us-east-1",
        caller_arn=DISTRIBUTION,
    )
    cloudfront = SigningOrigin(url, Identity("local", "only here"), "lambda", DISTRIBUTION)
    path = f"/resized/800x600/g/{name}"
    response = await cloudfront.respond(OriginRequest("GET", "https", HOST, path, "", {}))
    assert response.status == status
    assert len(function.events) == (status == 200)


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
async def test_a_request_without_both_permissions_is_403(permissions: tuple[Permission, ...]) -> None:
    function = Function({})
    response = await send(signed(), function, permissions)
    assert (response.status, response.body) == FORBIDDEN
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
    ids=["throttled", "timed out", "crashed", "failed", "invalid base64"],
)
async def test_an_error_of_the_function_has_lambdas_status(result: object, status: int) -> None:
    assert (await send(signed(), Function(result))).status == status
