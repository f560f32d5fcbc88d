"""Builds the HTTP responses (RFC 9110) of renditions, originals and errors: status, headers and body. Pure.

The headers that differ from one request to the next are added in `exchange.py`.
"""

from __future__ import annotations

import functools
import hashlib
import html
import re
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import GalerlyError, RangeNotSatisfiable
from galerly_cdn.http import content_disposition
from galerly_cdn.http.body_stream import Stream
from galerly_cdn.http.lifetimes import IMMUTABLE, NO_STORE, PRIVATE, of_error
from galerly_cdn.model import Head, Rendition
from galerly_cdn.serialization import Value, to_json

if TYPE_CHECKING:
    from galerly_cdn.model import Record
    from galerly_cdn.settings.table import Settings

Headers = list[tuple[bytes, bytes]]

SHARING = frozenset({b"access-control-allow-origin", b"timing-allow-origin"})
"""Headers that let pages of other sites read a response and its timing."""
_PUBLIC_ONLY = SHARING | {b"cross-origin-resource-policy"}
_MAX_RANGE_BYTES = 64
"""Enough for a single range of two 64-bit numbers; long lists are a known attack (CVE-2011-3192)."""
_MAX_CONDITION_BYTES = 8192
_RANGE = re.compile(rb"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_ENTITY_TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
NEGOTIATED = (b"vary", b"Accept")
"""On every response whose format depends on `Accept`, errors included (RFC 9110 §12.5.5)."""
_SANDBOX: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
]


class Response(Value, frozen=True):
    """Status, headers and body. A response to HEAD is sent without the body."""

    status: int
    headers: Headers
    body: bytes = b""
    stream: Stream | None = None
    """In place of `body`, a body that is not held in memory. The sender closes it."""


class Conditions(Value, frozen=True):
    """The request headers that decide between 200, 206, 304 and 416."""

    if_none_match: bytes | None = None
    range: bytes | None = None
    if_range: bytes | None = None


class Problem(Value, frozen=True):
    """An error: its stable code, a sentence for people, and the request's id in the log."""

    code: str
    message: str
    request_id: str


class Failure(Value, frozen=True):
    """The body of an error response."""

    error: Problem


class PreparedLines(Value, frozen=True):
    """The headers of a rendition's public responses as the lines of a head."""

    shared: bytes
    """As `PreparedResponse.shared`."""
    unreadable: bytes
    """The same without `SHARING`."""
    content: bytes
    """As `PreparedResponse.content`, with the length of the whole body."""


class PreparedResponse(Value, frozen=True):
    """A rendition and the headers of its responses, which are built once and kept in memory."""

    rendition: Rendition
    shared: Headers
    """Sent with 200, 206 and 304 (RFC 9110 §15.4.5); the first one is the ETag."""
    content: Headers
    """Sent with 200 and 206 only."""
    lines: PreparedLines

    @property
    def weight_bytes(self) -> int:
        """Its size in memory: the body, and about 2 KiB for headers and record."""
        return len(self.rendition.body) + 2048


class Download(Value, frozen=True):
    """An original to be downloaded."""

    key: str
    head: Head
    media_type: str
    read: Callable[[int, int], AsyncGenerator[bytes, None]]
    """Reads bytes; its arguments are the first one's offset and the number of bytes."""


def prepare(rendition: Rendition, settings: Settings) -> PreparedResponse:
    """Build the headers of a rendition's responses."""
    embedding = tuple(_embedding(settings))
    return PreparedResponse(rendition, *_prepared(rendition.record, embedding, settings.lost_header))


@functools.lru_cache(maxsize=1024)
def _prepared(
    record: Record,
    embedding: tuple[tuple[bytes, bytes], ...],
    lost_header: bool,  # noqa: FBT001 - it is cached
) -> tuple[Headers, Headers, PreparedLines]:
    """The fields of `PreparedResponse` that do not hold the body."""
    shared: Headers = [
        (b"etag", b'"%s"' % record.md5.encode()),
        (b"cache-control", IMMUTABLE),
        *_SANDBOX,
        *embedding,
    ]
    if lost_header and record.lost:
        shared.append((b"galerly-lost", ", ".join(record.lost).encode()))
    content: Headers = [
        (b"content-type", record.format.media_type.encode()),
        (b"content-disposition", content_disposition.inline(record.key, record.format.extension).encode()),
        (b"accept-ranges", b"bytes"),
    ]
    unreadable = [field for field in shared if field[0] not in SHARING]
    length = (b"content-length", b"%d" % record.length_bytes)
    lines = PreparedLines(field_lines(shared), field_lines(unreadable), field_lines([*content, length]))
    return shared, content, lines


def field_lines(fields: Headers) -> bytes:
    """Header fields as the lines of a head (RFC 9112 §5). Raises `ValueError` for one with a line break.

    A line break within a field would begin another one, or another response (response splitting, CWE-113).
    """
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    if lines.count(b"\n") != len(fields) or lines.count(b"\r") != len(fields):
        raise ValueError("a response header has a line break")
    return lines


def picture(prepared: PreparedResponse, conditions: Conditions, *, is_private: bool = False) -> Response:
    """200, 206 or 304. Raises `RangeNotSatisfiable`."""
    body = prepared.rendition.body
    etag = prepared.shared[0][1]
    shared = _private(prepared.shared, PRIVATE) if is_private else prepared.shared
    if is_unmodified(prepared, conditions.if_none_match):
        return Response(304, [*shared])
    selected = _select(conditions, etag, len(body))
    part = body if selected.status == 200 else body[selected.first : selected.first + selected.length_bytes]
    return Response(selected.status, [*shared, *prepared.content, *selected.headers], part)


def is_unmodified(prepared: PreparedResponse, if_none_match: bytes | None) -> bool:
    """Whether the response is 304: the client has the rendition, as its If-None-Match says."""
    return if_none_match is not None and _matches(if_none_match, prepared.shared[0][1])


def original(download: Download, conditions: Conditions, settings: Settings, *, is_private: bool) -> Response:
    """200, 206 or 304. The body is a stream that is not read yet. Raises `RangeNotSatisfiable`."""
    # A digest, because a folder's versions reveal inodes and dates, and a store's may contain quotes.
    etag = b'"%s"' % hashlib.sha256(download.head.version.encode()).hexdigest()[:32].encode()
    shared: Headers = [(b"etag", etag), (b"cache-control", IMMUTABLE), *_SANDBOX, *_embedding(settings)]
    if is_private:
        shared = _private(shared, PRIVATE)
    if conditions.if_none_match is not None and _matches(conditions.if_none_match, etag):
        return Response(304, shared)
    content: Headers = [
        (b"content-type", download.media_type.encode()),
        (b"content-disposition", content_disposition.attachment(download.key).encode()),
        (b"accept-ranges", b"bytes"),
    ]
    selected = _select(conditions, etag, download.head.length_bytes)
    headers = [*shared, *content, *selected.headers]
    if not selected.length_bytes:  # an empty file: there is nothing to read
        return Response(selected.status, headers)
    stream = Stream(download.read(selected.first, selected.length_bytes), selected.length_bytes)
    return Response(selected.status, headers, stream=stream)


def redirect(location: str, settings: Settings) -> Response:
    """302 for this viewer and this moment; it must not be cached."""
    headers: Headers = [
        (b"location", location.encode("ascii")),
        (b"cache-control", b"private, no-store"),
        *_SANDBOX,
        *_embedding(settings),
    ]
    return Response(302, headers)


def authorized() -> Response:
    """204 for this viewer and this moment; it must not be cached."""
    return Response(204, [(b"cache-control", NO_STORE), *_SANDBOX])


def _private(headers: Headers, cache_control: bytes) -> Headers:
    """The headers without those that let other sites read the response, and with another Cache-Control."""
    return [
        (name, cache_control if name == b"cache-control" else value)
        for name, value in headers
        if name not in _PUBLIC_ONLY
    ]


def failure(
    error: GalerlyError, request_id: str, settings: Settings, *, is_private: bool = False
) -> Response:
    """An error as JSON: a stable code, a public sentence, the request's id, and nothing else."""
    body = to_json(Failure(problem(error, request_id))) + b"\n"
    cache_control = of_error(error, is_private=is_private)
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", cache_control),
        *_SANDBOX,
        *_embedding(settings),
        *error.headers(),
    ]
    return Response(error.status, _private(headers, NO_STORE) if is_private else headers, body)


_ERROR_PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {code}</title></head>
<body><h1>{message}</h1><p>{status} <code>{code}</code>, request <code>{request_id}</code></p></body>
</html>
"""


def failure_page(error: GalerlyError, request_id: str) -> Response:
    """An error as a page for a browser's window. It is not cached, because other clients get JSON."""
    told = problem(error, request_id)
    body = _ERROR_PAGE.format(
        status=error.status,
        code=html.escape(told.code),
        message=html.escape(told.message),
        request_id=html.escape(told.request_id),
    ).encode()
    headers: Headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", NO_STORE),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
        (b"referrer-policy", b"no-referrer"),
        NEGOTIATED,
        *error.headers(),
    ]
    return Response(error.status, headers, body)


def problem(error: GalerlyError, request_id: str) -> Problem:
    """The public part of an error."""
    return Problem(error.code, error.public, request_id)


def no_store_headers(media_type: str) -> Headers:
    """The headers of a response for this client only."""
    return [(b"content-type", media_type.encode()), (b"cache-control", NO_STORE), *_SANDBOX]


def _embedding(settings: Settings) -> Headers:
    """The headers that let other sites' pages embed a public response (CORS, CORP, Resource Timing)."""
    values = [
        (b"cross-origin-resource-policy", settings.resource_policy),
        (b"access-control-allow-origin", settings.allow_origin),
        (b"timing-allow-origin", settings.timing_allow_origin),
    ]
    return [(name, value.encode()) for name, value in values if value]


def _matches(if_none_match: bytes, etag: bytes) -> bool:
    """Whether If-None-Match (`*`, a tag, or a list of tags) matches; weak comparison (RFC 9110 §13.1.2)."""
    if if_none_match == etag or if_none_match.strip() == b"*":
        return True
    return len(if_none_match) <= _MAX_CONDITION_BYTES and etag in _ENTITY_TAG.findall(if_none_match)


class _Selected(NamedTuple):
    """The bytes of a body that are sent, with their status and their headers."""

    status: int
    headers: Headers
    first: int
    length_bytes: int


def _select(conditions: Conditions, etag: bytes, length_bytes: int) -> _Selected:
    """The whole body, or the requested range. Raises `RangeNotSatisfiable`."""
    byte_range = None
    if conditions.range is not None and (conditions.if_range is None or conditions.if_range.strip() == etag):
        byte_range = _parse_range(conditions.range, length_bytes)
    if byte_range is None:
        return _Selected(200, [(b"content-length", b"%d" % length_bytes)], 0, length_bytes)
    first, last = byte_range
    part_bytes = last - first + 1
    content_range = (b"content-range", b"bytes %d-%d/%d" % (first, last, length_bytes))
    return _Selected(206, [content_range, (b"content-length", b"%d" % part_bytes)], first, part_bytes)


def _parse_range(header: bytes, length_bytes: int) -> tuple[int, int] | None:
    """First and last byte of a single range (RFC 9110 §14.1.2); None for the whole body.

    A malformed range and a list of ranges are ignored, as RFC 9110 §14.2 allows.
    """
    if len(header) > _MAX_RANGE_BYTES or not (matched := _RANGE.fullmatch(header.strip())):
        return None
    first, last = matched.groups()
    if first:
        begin, end = int(first), int(last) if last else length_bytes - 1
        if last and end < begin:
            return None
        if begin >= length_bytes:
            raise RangeNotSatisfiable(length_bytes)
        return begin, min(end, length_bytes - 1)
    if not last:
        return None
    if int(last) == 0:
        raise RangeNotSatisfiable(length_bytes)
    return max(0, length_bytes - int(last)), length_bytes - 1
