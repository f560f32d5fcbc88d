"""Can this request be read in one way only? What may not is refused (RFC 9112; CWE-444).

Pure. A proxy in front may take a lenient view of a request that we take another view of; what one of us
believes to be a body is to the other the next viewer's request.
"""

from __future__ import annotations

import re

from galerly_cdn.errors import BadRequest, MethodNotAllowed

_HOSTS = {"1.0": (0, 1), "1.1": (1,)}
"""The versions we speak, and how many Host headers each may have (RFC 9112 §3.2)."""
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding"})
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:\[\]%-]*")
_ABSOLUTE = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
_TARGET = re.compile(rb"/[!-\"$-~]*")


def check_head(version: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the request has a body, when its framing can be read in one way only (RFC 9112 §6.3).

    Raises `BadRequest` for what proxies have been seen to read differently.
    """
    hosts = lengths = codings = 0
    has_body = False
    for name, value in headers:
        if name not in _FRAMING:
            continue
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                raise BadRequest("host")
        elif name == b"content-length":
            lengths += 1
            if not value.isdigit():
                raise BadRequest("content-length")
            has_body = has_body or value.strip(b"0") != b""
        else:
            codings += 1
            has_body = True
            if value.lower() != b"chunked":
                raise BadRequest("transfer-encoding")
    if version not in _HOSTS or hosts not in _HOSTS[version]:
        raise BadRequest("version or host")
    if lengths + codings > 1 or (codings and version == "1.0"):
        raise BadRequest("more than one framing")
    return has_body


def origin_form(method: bytes, target: bytes) -> bytes:
    """The request target as `/path?query` (RFC 9112 §3.2): absolute-form loses its authority.

    Raises `MethodNotAllowed` for what only CONNECT and OPTIONS send, `BadRequest` for the rest.
    """
    if method == b"CONNECT" or (method == b"OPTIONS" and target == b"*"):
        raise MethodNotAllowed
    absolute = None if target.startswith(b"/") else _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    if not _TARGET.fullmatch(target):
        raise BadRequest("target")
    return target
