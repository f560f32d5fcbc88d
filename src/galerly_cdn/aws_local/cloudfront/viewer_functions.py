"""What does a viewer function make of a request or a response? Events, and what may come back.

Source: the CloudFront Developer Guide, "CloudFront Functions event structure" (version 1.0) and
"Restrictions on all edge functions".
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Literal

from galerly_cdn.aws_local.cloudformation.properties import Property, UnmodelledProperty
from galerly_cdn.aws_local.cloudfront.javascript_engines import Engine, FunctionFailed
from galerly_cdn.aws_local.http.viewer_exchange import Outcome, ViewerRequest, ViewerResponse, error
from galerly_cdn.serialization import ValidationError, Value, convert, replaced

if TYPE_CHECKING:
    from galerly_cdn.aws_local.cloudformation.stack import Stack
    from galerly_cdn.aws_local.cloudfront.distribution import Behavior, Distribution

MAX_CODE_BYTES = 10_240
_KIND = "AWS::CloudFront::Function"
_HIDDEN = {
    *("connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization"),
    *("proxy-connection", "trailer", "upgrade", "transfer-encoding", "cookie"),
}
"""Headers that functions are not shown; cookies they are shown apart."""


class FunctionConfig(Property, frozen=True):
    runtime: Literal["cloudfront-js-2.0"]


class FunctionResource(Property, frozen=True):
    """AWS::CloudFront::Function."""

    function_config: FunctionConfig
    function_code: str
    auto_publish: bool

    def __post_init__(self) -> None:
        if not self.auto_publish:
            raise ValueError("a function that is not published (AutoPublish) runs nowhere")
        size_bytes = len(self.function_code.encode())
        if size_bytes > MAX_CODE_BYTES:
            raise ValueError(f"FunctionCode has {size_bytes} bytes, {MAX_CODE_BYTES} are allowed")


class Field(Value, frozen=True, rename="camel"):
    """A header or parameter; every value in `multi_value` where there are several."""

    value: str
    multi_value: tuple[Field, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(one.value for one in self.multi_value) or (self.value,)


class Body(Value, frozen=True):
    encoding: Literal["text", "base64"]
    data: str


class ChangedRequest(Value, frozen=True):
    """A request as a function returns it."""

    method: str
    uri: str
    querystring: dict[str, Field]
    headers: dict[str, Field]
    cookies: dict[str, Field] = {}


class FunctionResult(Value, frozen=True, rename="camel"):
    """A response as a function returns it."""

    status_code: int
    status_description: str = ""
    headers: dict[str, Field] = {}
    cookies: dict[str, Field] = {}
    body: Body | str = ""


def sources(stack: Stack) -> dict[str, str]:
    """The code of the functions, by ARN. Raises `UnmodelledProperty`."""
    found = stack.all(FunctionResource, _KIND)
    return {str(stack.refer(name, "FunctionARN")): one.function_code for name, one in found.items()}


def check(distribution: Distribution, known: dict[str, str]) -> None:
    """Raises `UnmodelledProperty` where a behaviour names a function that there is not."""
    for behavior in distribution.behaviors:
        for event, arn in behavior.functions.items():
            if arn not in known:
                raise UnmodelledProperty(behavior.pattern, event, f"there is no function {arn}")


class ViewerFunctions:
    """Runs the functions of a behaviour."""

    def __init__(self, engine: Engine, distribution: Distribution) -> None:
        self._engine = engine
        self._distribution = distribution

    async def on_request(
        self, behavior: Behavior, request: ViewerRequest, request_id: str
    ) -> ViewerRequest | Outcome:
        """The request as the viewer-request function leaves it, or the response in its place.

        503 for a function that fails, 502 for one that does what functions may not.
        """
        arn = behavior.functions.get("viewer-request")
        if arn is None:
            return request
        event = self._event("viewer-request", request, request_id)
        try:
            told = await self._engine.call(arn, event)
            if isinstance(told, dict) and "statusCode" in told:
                return Outcome(_response(convert(FunctionResult, told), request), "FunctionGeneratedResponse")
            return _changed(convert(ChangedRequest, told), request)
        except (FunctionFailed, ValidationError, ValueError) as failure:
            return _failure(failure)

    async def on_response(
        self, behavior: Behavior, request: ViewerRequest, found: Outcome, request_id: str
    ) -> Outcome:
        """A response with the headers of the viewer-response function, which sees no error of an origin."""
        arn = behavior.functions.get("viewer-response")
        if arn is None or found.response.status >= 400:
            return found
        event = self._event("viewer-response", request, request_id)
        shown = {
            "statusCode": found.response.status,
            "headers": _fields(found.response.headers),
            "cookies": {},
        }
        try:
            told = convert(FunctionResult, await self._engine.call(arn, {**event, "response": shown}))
            return replaced(found, response=_reheaded(found.response, told))
        except (FunctionFailed, ValidationError, ValueError) as failure:
            return _failure(failure)

    def _event(self, kind: str, request: ViewerRequest, request_id: str) -> dict[str, Any]:
        return {
            "version": "1.0",
            "context": {
                "distributionDomainName": self._distribution.domain,
                "distributionId": self._distribution.id,
                "eventType": kind,
                "requestId": request_id,
            },
            "viewer": {"ip": request.client},
            "request": {
                "method": request.method,
                "uri": request.raw_path,
                "querystring": _parameters(request.query.split("&")),
                "headers": {"host": {"value": request.host}, **_fields(request.headers)},
                "cookies": _parameters(request.headers.get("cookie", "").split("; ")),
            },
        }


def _fields(headers: dict[str, str]) -> dict[str, dict[str, str]]:
    return {name: {"value": value} for name, value in headers.items() if name not in _HIDDEN}


def _parameters(parts: list[str]) -> dict[str, Any]:
    """`a=1&b=2` as fields: the value is the last one, all of them are there where it is said twice."""
    found: dict[str, list[str]] = {}
    for part in filter(None, parts):
        name, _, value = part.partition("=")
        found.setdefault(name, []).append(value)
    return {
        name: {"value": values[-1], "multiValue": [{"value": one} for one in values]}
        if len(values) > 1
        else {"value": values[0]}
        for name, values in found.items()
    }


def _changed(told: ChangedRequest, request: ViewerRequest) -> ViewerRequest:
    """Raises `ValueError` for what a function may not change."""
    headers = _headers(told.headers)
    if told.method != request.method or headers.pop("host", None) != request.host:
        raise ValueError("the method and Host are read-only")
    if not told.uri.startswith("/"):
        raise ValueError("a URI begins with a slash")
    query = "&".join(f"{name}={value}" for name, one in told.querystring.items() for value in one.values)
    return replaced(request, raw_path=told.uri, query=query, headers=headers)


def _reheaded(response: ViewerResponse, told: FunctionResult) -> ViewerResponse:
    """Raises `ValueError` where a viewer-response function changes more than headers."""
    if told.status_code != response.status:
        raise ValueError("the status is read-only")
    return replaced(response, headers=_headers(told.headers))


def _response(told: FunctionResult, request: ViewerRequest) -> ViewerResponse:
    body = told.body if isinstance(told.body, Body) else Body("text", told.body)
    data = base64.b64decode(body.data) if body.encoding == "base64" else body.data.encode()
    headers = {**_headers(told.headers), "server": "CloudFront"}
    return ViewerResponse(told.status_code, headers, b"" if request.method == "HEAD" else data)


def _headers(fields: dict[str, Field]) -> dict[str, str]:
    """Raises `ValueError` for a name that is not in small letters, or that functions may not write."""
    for name in fields:
        if name != name.lower() or name in _HIDDEN:
            raise ValueError(f"the header {name} is not allowed")
    return {name: ", ".join(one.values) for name, one in fields.items()}


def _failure(failure: Exception) -> Outcome:
    if isinstance(failure, FunctionFailed):
        return error(503, "FunctionExecutionError", "The CloudFront function failed.")
    return error(502, "FunctionValidationError", "The CloudFront function returned an invalid value.")
