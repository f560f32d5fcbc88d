"""Reads a function URL's event and builds its result: Lambda's payload format 2.0. Pure.

AWS Lambda Developer Guide, "Invoking function URLs": request and response payloads.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.http.responses import Response

MAX_BODY_BYTES = 4_500_000
"""Of a response, before base64 adds a third: Lambda's limit is 6 MB, with the headers."""


class FunctionUrlRequest(Value, frozen=True):
    """A request from CloudFront. The viewer function sets headers that no viewer can send.

    `encoded_key` is the percent-encoded key, which `raw_path` need not tell. `is_stored`: the viewer followed
    a redirect of the resizer; `is_private`: a signature was verified.
    """

    method: str
    raw_path: bytes
    encoded_key: bytes
    client: str
    is_stored: bool
    is_private: bool


def read_event(event: Mapping[str, Any]) -> FunctionUrlRequest:
    """The request in an event. Raises `KeyError` for an event of another kind."""
    http = event["requestContext"]["http"]
    headers = event.get("headers", {})
    return FunctionUrlRequest(
        method=http["method"],
        raw_path=event["rawPath"].encode("utf-8", "surrogatepass"),
        encoded_key=headers.get("x-galerly-key", "").encode("utf-8", "surrogatepass"),
        client=http.get("sourceIp", ""),
        is_stored=headers.get("x-galerly-stored") == "1",
        is_private=headers.get("x-galerly-private") == "1",
    )


def to_result(response: Response, method: str) -> dict[str, Any]:
    """The result for a response; to HEAD it has the headers and no body."""
    body = b"" if method == "HEAD" else response.body
    return {
        "statusCode": response.status,
        "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers},
        "body": base64.b64encode(body).decode("ascii"),
        "isBase64Encoded": True,
    }
