"""Applies conditional requests and ranges to a whole object: 304, 206 or 416 (RFC 9110 §13, §14)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.http.viewer_exchange import ViewerResponse
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest

_RANGE = re.compile(r"bytes=(?P<first>\d*)-(?P<last>\d*)")
_CONTENT_HEADERS = {"content-disposition", "content-length", "content-type"}
"""Headers that a 304 omits (RFC 9110 §15.4.5)."""


def apply_conditions(response: ViewerResponse, request: ViewerRequest) -> ViewerResponse:
    """Applies the request's conditions and range to a 200. Removes the body of the response to a HEAD."""
    if response.status == 200:
        response = _not_modified(response, request) or _partial_content(response, request) or response
    return replaced(response, body=b"") if request.method == "HEAD" else response


def _not_modified(response: ViewerResponse, request: ViewerRequest) -> ViewerResponse | None:
    """304 if If-None-Match has the ETag or, without that header, If-Modified-Since has the date (§13.2.2)."""
    etag, modified = (response.headers.get(name) for name in ("etag", "last-modified"))
    if (condition := request.headers.get("if-none-match")) is not None:
        known = {tag.strip().removeprefix("W/") for tag in condition.split(",")}
        is_known = etag is not None and bool({"*", etag.removeprefix("W/")} & known)
    else:
        is_known = modified is not None and request.headers.get("if-modified-since") == modified
    if not is_known:
        return None
    headers = {name: value for name, value in response.headers.items() if name not in _CONTENT_HEADERS}
    return ViewerResponse(304, headers)


def _partial_content(response: ViewerResponse, request: ViewerRequest) -> ViewerResponse | None:
    """206 or 416 for a single range. None for any other Range, which a server may ignore (RFC 9110 §14.2)."""
    if request.method != "GET" or not (byte_range := _RANGE.fullmatch(request.headers.get("range", ""))):
        return None
    if request.headers.get("if-range", response.headers.get("etag")) != response.headers.get("etag"):
        return None
    length = len(response.body)
    if byte_range["first"]:
        first = int(byte_range["first"])
        if byte_range["last"] and int(byte_range["last"]) < first:
            return None
        last = min(int(byte_range["last"] or length - 1), length - 1)
    elif byte_range["last"]:
        first, last = max(0, length - int(byte_range["last"])), length - 1
    else:
        return None
    if first > last:
        return ViewerResponse(
            416, {**response.headers, "content-range": f"bytes */{length}", "content-length": "0"}
        )
    body = response.body[first : last + 1]
    partial = {"content-range": f"bytes {first}-{last}/{length}", "content-length": str(len(body))}
    return ViewerResponse(206, response.headers | partial, body)
