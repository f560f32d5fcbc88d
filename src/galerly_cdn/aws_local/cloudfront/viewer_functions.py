"""Runs viewer functions: builds their events, and checks what they return.

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
_TYPE = "AWS::CloudFront::Function"
_HIDDEN = {
    *("connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization"),
    *("proxy-connection", "trailer", "upgrade", "transfer-encoding", "cookie"),
}
"""Headers that an event's headers omit. Cookies are a field of their own."""


class FunctionConfig(Property, frozen=True):
    runtime: Literal["cloudfront-js-2.0"]


class FunctionResource(Property, frozen=True):
    """AWS::CloudFront::Function."""

    function_config: FunctionConfig
    function_code: str
    auto_publish: bool

    def __post_init__(self) -> None:
        if not self.auto_publish:
            raise ValueError("without AutoPublish the function is not published, and never runs")
        size_bytes = len(self.function_code.encode())
        if size_bytes > MAX_CODE_BYTES:
            raise ValueError(f"FunctionCode has {size_bytes} bytes, {MAX_CODE_BYTES} are allowed")


class Field(Value, frozen=True, rename="camel"):
    """A header, cookie or query parameter. `multi_value` has all values if there are several."""

    value: str
    multi_value: tuple[Field, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        """All values."""
        return tuple(field.value for field in self.multi_value) or (self.value,)


class Body(Value, frozen=True):
    encoding: Literal["text", "base64"]
    data: str


class ChangedRequest(Value, frozen=True):
    """The request that a function returns."""

    method: str
    uri: str
    querystring: dict[str, Field]
    headers: dict[str, Field]
    cookies: dict[str, Field] = {}


class FunctionResult(Value, frozen=True, rename="camel"):
    """The response that a function returns."""

    status_code: int
    status_description: str = ""
    headers: dict[str, Field] = {}
    cookies: dict[str, Field] = {}
    body: Body | str = ""


def read_sources(stack: Stack) -> dict[str, str]:
    """The functions' code by ARN. Raises `UnmodelledProperty`."""
    functions = stack.all(FunctionResource, _TYPE)
    return {
        str(stack.refer(name, "FunctionARN")): function.function_code for name, function in functions.items()
    }


def check_associations(distribution: Distribution, sources: dict[str, str]) -> None:
    """Raises `UnmodelledProperty` if a behaviour names an unknown function."""
    for behavior in distribution.behaviors:
        for event, arn in behavior.functions.items():
            if arn not in sources:
                raise UnmodelledProperty(behavior.path_pattern, event, f"there is no function {arn}")


class ViewerFunctions:
    """Runs the functions of the distribution's behaviours."""

    def __init__(self, engine: Engine, distribution: Distribution) -> None:
        self._engine = engine
        self._distribution = distribution

    async def on_request(
        self, behavior: Behavior, request: ViewerRequest, request_id: str
    ) -> ViewerRequest | Outcome:
        """The request that the viewer-request function returns, or the response that it returns instead.

        The response is 503 if the function fails, 502 if it returns something that is not allowed.
        """
        arn = behavior.functions.get("viewer-request")
        if arn is None:
            return request
        event = self._event("viewer-request", request, request_id)
        try:
            result = await self._engine.call(arn, event)
            if isinstance(result, dict) and "statusCode" in result:
                response = _generated_response(convert(FunctionResult, result), request)
                return Outcome(response, "FunctionGeneratedResponse")
            return _changed_request(convert(ChangedRequest, result), request)
        except (FunctionFailed, ValidationError, ValueError) as failure:
            return _failure(failure)

    async def on_response(
        self, behavior: Behavior, request: ViewerRequest, outcome: Outcome, request_id: str
    ) -> Outcome:
        """The response with the headers that the viewer-response function returns.

        The function does not run for an error of an origin.
        """
        arn = behavior.functions.get("viewer-response")
        if arn is None or outcome.response.status >= 400:
            return outcome
        event = self._event("viewer-response", request, request_id)
        shown = {
            "statusCode": outcome.response.status,
            "headers": _fields(outcome.response.headers),
            "cookies": {},
        }
        try:
            result = convert(FunctionResult, await self._engine.call(arn, {**event, "response": shown}))
            return replaced(outcome, response=_changed_response(outcome.response, result))
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
    """`["a=1", "b=2"]` as fields. For a repeated name the value is the last one, and multiValue has all."""
    fields: dict[str, list[str]] = {}
    for part in filter(None, parts):
        name, _, value = part.partition("=")
        fields.setdefault(name, []).append(value)
    return {
        name: {"value": values[-1], "multiValue": [{"value": value} for value in values]}
        if len(values) > 1
        else {"value": values[0]}
        for name, values in fields.items()
    }


def _changed_request(result: ChangedRequest, request: ViewerRequest) -> ViewerRequest:
    """Raises `ValueError` if the function changed the method or Host, or returned an invalid URI."""
    headers = _headers(result.headers)
    if result.method != request.method or headers.pop("host", None) != request.host:
        raise ValueError("a function may not change the method or Host")
    if not result.uri.startswith("/"):
        raise ValueError("a URI must begin with a slash")
    query = "&".join(
        f"{name}={value}" for name, field in result.querystring.items() for value in field.values
    )
    return replaced(request, raw_path=result.uri, query=query, headers=headers)


def _changed_response(response: ViewerResponse, result: FunctionResult) -> ViewerResponse:
    """Raises `ValueError` if a viewer-response function changed the status."""
    if result.status_code != response.status:
        raise ValueError("a viewer-response function may not change the status")
    return replaced(response, headers=_headers(result.headers))


def _generated_response(result: FunctionResult, request: ViewerRequest) -> ViewerResponse:
    body = result.body if isinstance(result.body, Body) else Body("text", result.body)
    data = base64.b64decode(body.data) if body.encoding == "base64" else body.data.encode()
    headers = {**_headers(result.headers), "server": "CloudFront"}
    return ViewerResponse(result.status_code, headers, b"" if request.method == "HEAD" else data)


def _headers(fields: dict[str, Field]) -> dict[str, str]:
    """Raises `ValueError` for a name that is not lower-case, or that functions may not set."""
    for name in fields:
        if name != name.lower() or name in _HIDDEN:
            raise ValueError(f"the header {name} is not allowed")
    return {name: ", ".join(field.values) for name, field in fields.items()}


def _failure(failure: Exception) -> Outcome:
    if isinstance(failure, FunctionFailed):
        return error(503, "FunctionExecutionError", "The CloudFront function failed.")
    return error(502, "FunctionValidationError", "The CloudFront function returned an invalid value.")
