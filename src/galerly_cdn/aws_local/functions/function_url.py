"""Implements a Lambda function URL: verifies the signature and permissions, and converts HTTP to events.

Source: the AWS Lambda Developer Guide, "Control access to Lambda function URLs" and "Invoking Lambda function
URLs".
"""

from __future__ import annotations

import base64
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from galerly_cdn.aws_local.functions.runtime import Crashed, FunctionFailed, Throttled, TimedOut
from galerly_cdn.aws_local.http import sigv4
from galerly_cdn.aws_local.http.origin_exchange import OriginResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from botocore.credentials import Credentials

    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
    from galerly_cdn.aws_local.iam.policies import Permission

_CLOUDFRONT = "cloudfront.amazonaws.com"


class Invocable(Protocol):
    """Runs a function, as `runtime.Runtime` does."""

    async def invoke(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Raises `Throttled`, `TimedOut`, `Crashed`, `FunctionFailed`."""
        ...


class FunctionUrl:
    """The URL of a function, called by the distribution `caller_arn`, which signs with `credentials`."""

    def __init__(
        self,
        runtime: Invocable,
        *,
        permissions: Iterable[Permission],
        credentials: Credentials,
        region: str,
        caller_arn: str,
    ) -> None:
        self._runtime = runtime
        self._permissions = tuple(permissions)
        self._credentials = credentials
        self._region = region
        self._caller_arn = caller_arn

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """The function's response, or Lambda's error response. Never raises."""
        if not (sigv4.is_signed(request, self._credentials, "lambda", self._region) and self._is_allowed()):
            return _lambda_error(HTTPStatus.FORBIDDEN, "Message", "Forbidden")
        try:
            return _from_result(await self._runtime.invoke(function_url_event(request)))
        except Throttled:
            return _lambda_error(HTTPStatus.TOO_MANY_REQUESTS, "Reason", "ConcurrentInvocationLimitExceeded")
        except TimedOut:
            return _lambda_error(HTTPStatus.GATEWAY_TIMEOUT, "Message", "Gateway Timeout")
        except (Crashed, FunctionFailed, ValueError):
            return _lambda_error(HTTPStatus.BAD_GATEWAY, "Message", "Internal Server Error")

    def _is_allowed(self) -> bool:
        """Whether both permissions are granted.

        New function URLs need both since October 2025, CloudFront needs both since 2026-11-01.
        """
        granted = [
            permission
            for permission in self._permissions
            if permission.principal == _CLOUDFRONT and permission.source_arn in {None, self._caller_arn}
        ]
        return any(
            permission.action == "lambda:InvokeFunctionUrl"
            and permission.function_url_auth_type in {None, "AWS_IAM"}
            for permission in granted
        ) and any(
            permission.action == "lambda:InvokeFunction" and permission.invoked_via_function_url
            for permission in granted
        )


def function_url_event(request: OriginRequest) -> dict[str, Any]:
    """The event of a request, in payload format version 2.0."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.raw_path,
        "rawQueryString": request.query,
        "headers": request.headers,
        "requestContext": {
            "accountId": "anonymous",
            "domainName": request.host,
            "http": {
                "method": request.method,
                "path": request.raw_path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": request.headers.get("user-agent", ""),
            },
            "routeKey": "$default",
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }


def _from_result(result: Any) -> OriginResponse:  # noqa: ANN401 - any JSON
    """A function's result as a response. A result without a statusCode is the JSON body of a 200."""
    if not isinstance(result, dict) or "statusCode" not in result:
        return OriginResponse(200, {"content-type": "application/json"}, json.dumps(result).encode())
    text = result.get("body", "")
    body = base64.b64decode(text, validate=True) if result.get("isBase64Encoded") else text.encode()
    headers = {name.lower(): value for name, value in result.get("headers", {}).items()}
    return OriginResponse(
        result["statusCode"],
        {"content-type": "application/json", "content-length": str(len(body))} | headers,
        body,
    )


def _lambda_error(status: HTTPStatus, name: str, text: str) -> OriginResponse:
    """An error response that Lambda generates in place of the function's."""
    body = json.dumps({name: text}, separators=(",", ":")).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    return OriginResponse(status.value, headers, body)
