"""Refuses requests that two HTTP parsers could read differently (RFC 9112; request smuggling, CWE-444).

A proxy in front may read an ambiguous request in another way than this server: bytes that one of them takes
for a body are to the other the next viewer's request. Pure.
"""

from __future__ import annotations

import re

from galerly_cdn.errors import BadRequest, MethodNotAllowed

_HOST_COUNTS = {"1.0": (0, 1), "1.1": (1,)}
"""The supported HTTP versions, and how many Host headers a request of each may have (RFC 9112 §3.2)."""
_FRAMING_HEADERS = frozenset({b"host", b"content-length", b"transfer-encoding"})
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:\[\]%-]*")
_ABSOLUTE_FORM = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
_ORIGIN_FORM = re.compile(rb"/[!-\"$-~]*")


def check_head(version: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """Check the headers that frame a request, and return whether it has a body (RFC 9112 §6.3).

    Raises `BadRequest` for framing that proxies are known to read differently.
    """
    hosts = lengths = codings = 0
    has_body = False
    for name, value in headers:
        if name not in _FRAMING_HEADERS:
            continue
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                raise BadRequest("the Host header has a character that no host name has")
        elif name == b"content-length":
            lengths += 1
            if not value.isdigit():
                raise BadRequest("Content-Length is not a number")
            has_body = has_body or value.strip(b"0") != b""
        else:
            codings += 1
            has_body = True
            if value.lower() != b"chunked":
                raise BadRequest("Transfer-Encoding is not `chunked`")
    if version not in _HOST_COUNTS or hosts not in _HOST_COUNTS[version]:
        raise BadRequest("the HTTP version or the number of Host headers is not supported")
    if lengths + codings > 1 or (codings and version == "1.0"):
        raise BadRequest("the request's body has more than one framing")
    return has_body


def origin_form(method: bytes, target: bytes) -> bytes:
    """The request target as `/path?query` (RFC 9112 §3.2). The absolute form loses its authority.

    Raises `MethodNotAllowed` for targets that only CONNECT and OPTIONS have, `BadRequest` for other ones.
    """
    if method == b"CONNECT" or (method == b"OPTIONS" and target == b"*"):
        raise MethodNotAllowed
    absolute = None if target.startswith(b"/") else _ABSOLUTE_FORM.match(target)
    if absolute is not None:
        target = target[absolute.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    if not _ORIGIN_FORM.fullmatch(target):
        raise BadRequest("the request target is no path")
    return target
