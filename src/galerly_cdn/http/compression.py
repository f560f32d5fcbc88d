"""Compresses text for a viewer whose Accept-Encoding names gzip (RFC 9110 §12.5.3). Pure.

Pictures and originals are compressed already, and no compressed page holds a secret.
"""

from __future__ import annotations

import functools
import gzip
import re
from typing import TYPE_CHECKING

from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from galerly_cdn.http.responses import Response

_MIN_BYTES = 1024
"""A smaller body fits into the packet of its headers either way."""
_MAX_HEADER_BYTES = 1024
_LEVEL = 6
_GZIP = re.compile(rb"(?:x-)?gzip(?:\s*;\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?", re.IGNORECASE)


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether gzip is named with a weight above 0; `*` does not name it."""
    if len(accept_encoding) > _MAX_HEADER_BYTES:
        return False
    for element in accept_encoding.split(b","):
        matched = _GZIP.fullmatch(element.strip(b" \t"))
        if matched is not None:
            return matched[1] is None or float(matched[1]) > 0
    return False


def compressed(response: Response, accept_encoding: bytes) -> Response:
    """The response, with a compressed body if the viewer accepts it; its length is given in both cases."""
    if len(response.body) < _MIN_BYTES:
        return response
    headers = [*response.headers, (b"vary", b"Accept-Encoding")]
    if not accepts_gzip(accept_encoding):
        return replaced(response, headers=headers)
    body = _gzip(response.body)
    headers = [
        (name, b"%d" % len(body)) if name == b"content-length" else (name, value) for name, value in headers
    ]
    return replaced(response, headers=[*headers, (b"content-encoding", b"gzip")], body=body)


@functools.lru_cache(maxsize=8)  # the page's assets, and a page that several viewers open
def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, _LEVEL, mtime=0)
