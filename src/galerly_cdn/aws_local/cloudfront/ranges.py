"""How much of an object does the viewer get: all, a range, or the word that nothing has changed? Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.http.viewer_exchange import ViewerResponse
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest

_RANGE = re.compile(r"bytes=(?P<first>\d*)-(?P<last>\d*)")
_OF_CONTENT = {"content-disposition", "content-length", "content-type"}
"""What a 304 does not say (RFC 9110 §15.4.5)."""


def apply_conditions(response: ViewerResponse, request: ViewerRequest) -> ViewerResponse:
    """RFC 9110 §13 and §14 of what is a 200; a HEAD without its body."""
    if response.status == 200:
        response = _unchanged(response, request) or _part(response, request) or response
    return replaced(response, body=b"") if request.method == "HEAD" else response


def _unchanged(response: ViewerResponse, request: ViewerRequest) -> ViewerResponse | None:
    """304 where If-None-Match has the ETag; without one, If-Modified-Since the date (RFC 9110 §13.2.2)."""
    etag, modified = (response.headers.get(name) for name in ("etag", "last-modified"))
    if (asked := request.headers.get("if-none-match")) is not None:
        known = {one.strip().removeprefix("W/") for one in asked.split(",")}
        is_known = etag is not None and bool({"*", etag.removeprefix("W/")} & known)
    else:
        is_known = modified is not None and request.headers.get("if-modified-since") == modified
    if not is_known:
        return None
    headers = {name: value for name, value in response.headers.items() if name not in _OF_CONTENT}
    return ViewerResponse(304, headers)


def _part(response: ViewerResponse, request: ViewerRequest) -> ViewerResponse | None:
    """206 or 416 of a single range; None for any other, which may be ignored (RFC 9110 §14.2)."""
    if request.method != "GET" or not (asked := _RANGE.fullmatch(request.headers.get("range", ""))):
        return None
    if request.headers.get("if-range", response.headers.get("etag")) != response.headers.get("etag"):
        return None
    length = len(response.body)
    if asked["first"]:
        first = int(asked["first"])
        if asked["last"] and int(asked["last"]) < first:
            return None
        last = min(int(asked["last"] or length - 1), length - 1)
    elif asked["last"]:
        first, last = max(0, length - int(asked["last"])), length - 1
    else:
        return None
    if first > last:
        return ViewerResponse(
            416, {**response.headers, "content-range": f"bytes */{length}", "content-length": "0"}
        )
    body = response.body[first : last + 1]
    told = {"content-range": f"bytes {first}-{last}/{length}", "content-length": str(len(body))}
    return ViewerResponse(206, response.headers | told, body)
