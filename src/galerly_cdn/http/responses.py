"""A rendition, an original or an error as an HTTP response (RFC 9110): the one place that writes headers.

Pure: what the viewer sent and what was found in, status, headers and body out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn import model
from galerly_cdn.errors import GalerlyError, RangeNotSatisfiable
from galerly_cdn.http import content_disposition
from galerly_cdn.http.body_stream import Stream
from galerly_cdn.model import Head, Rendition
from galerly_cdn.serialization import Value, to_json

if TYPE_CHECKING:
    from galerly_cdn.settings.table import Settings

Headers = list[tuple[bytes, bytes]]

IMMUTABLE = model.IMMUTABLE.encode()
PRIVATE = b"private, max-age=3600"
"""To the viewer of a signed answer: no shared cache may keep it."""
_PUBLIC_ONLY = frozenset(
    {b"cross-origin-resource-policy", b"access-control-allow-origin", b"timing-allow-origin"}
)
_MAX_RANGE_BYTES = 64
"""A single range of two 64-bit numbers fits; longer lists are the Range attacks (CVE-2011-3192)."""
_MAX_CONDITION_BYTES = 8192
_RANGE = re.compile(rb"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_ENTITY_TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
NEGOTIATED = (b"vary", b"Accept")
"""On every answer whose format `Accept` chose, or would have chosen (RFC 9110 §12.5.5)."""
_SANDBOX: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
]


class Response(Value, frozen=True):
    """Status, headers and body; a HEAD is answered with the same but for the body."""

    status: int
    headers: Headers
    body: bytes = b""
    stream: Stream | None = None
    """In place of `body`, whatever is not held in memory. Whoever sends the response closes it."""


class Conditions(Value, frozen=True):
    """The request's headers that decide between 200, 206, 304 and 416."""

    if_none_match: bytes | None = None
    range: bytes | None = None
    if_range: bytes | None = None


class Problem(Value, frozen=True):
    """An error as it is told: a stable code, a sentence for people, and the request's id in the log."""

    code: str
    message: str
    request_id: str


class Failure(Value, frozen=True):
    """What an error is answered with."""

    error: Problem


class PreparedResponse(Value, frozen=True):
    """A rendition with the headers all its answers share, ready to be handed out again."""

    rendition: Rendition
    shared: Headers
    """On 200, 206 and 304 (RFC 9110 §15.4.5)."""
    described: Headers
    """Only where there is a body."""

    @property
    def weight_bytes(self) -> int:
        """What it weighs in memory: its body, and about 2 KiB of headers and record."""
        return len(self.rendition.body) + 2048


class Download(Value, frozen=True):
    """An original as it is handed out: its name and version, what it is, and how its bytes are read."""

    key: str
    head: Head
    media_type: str
    read: Callable[[int, int], AsyncGenerator[bytes, None]]
    """From a byte on, so many bytes."""


def prepare(rendition: Rendition, settings: Settings) -> PreparedResponse:
    """Prepare a rendition's headers once for all its answers."""
    record = rendition.record
    shared: Headers = [
        (b"etag", b'"%s"' % record.md5.encode()),
        (b"cache-control", IMMUTABLE),
        *_SANDBOX,
        *_embedding(settings),
    ]
    if settings.lost_header and record.lost:
        shared.append((b"galerly-lost", ", ".join(record.lost).encode()))
    described: Headers = [
        (b"content-type", record.format.media_type.encode()),
        (b"content-disposition", content_disposition.inline(record.key, record.format.extension).encode()),
        (b"accept-ranges", b"bytes"),
    ]
    return PreparedResponse(rendition, shared, described)


def picture(found: PreparedResponse, asked: Conditions, *, is_private: bool = False) -> Response:
    """200, 206 or 304. Raises `RangeNotSatisfiable`."""
    body = found.rendition.body
    etag = found.shared[0][1]
    shared = _private(found.shared, PRIVATE) if is_private else found.shared
    if asked.if_none_match is not None and _matches(asked.if_none_match, etag):
        return Response(304, [*shared])
    extent = _extent(asked, etag, len(body))
    part = body if extent.status == 200 else body[extent.first : extent.first + extent.length_bytes]
    return Response(extent.status, [*shared, *found.described, *extent.headers], part)


def original(found: Download, asked: Conditions, settings: Settings, *, is_private: bool) -> Response:
    """200, 206 or 304, its body a stream that nothing is read for yet. Raises `RangeNotSatisfiable`."""
    # A digest: a folder's versions tell inodes and dates, a store's may hold quotes.
    etag = b'"%s"' % hashlib.sha256(found.head.version.encode()).hexdigest()[:32].encode()
    shared: Headers = [(b"etag", etag), (b"cache-control", IMMUTABLE), *_SANDBOX, *_embedding(settings)]
    if is_private:
        shared = _private(shared, PRIVATE)
    if asked.if_none_match is not None and _matches(asked.if_none_match, etag):
        return Response(304, shared)
    described: Headers = [
        (b"content-type", found.media_type.encode()),
        (b"content-disposition", content_disposition.attachment(found.key).encode()),
        (b"accept-ranges", b"bytes"),
    ]
    extent = _extent(asked, etag, found.head.length_bytes)
    headers = [*shared, *described, *extent.headers]
    if not extent.length_bytes:  # an empty file: there is nothing to read
        return Response(extent.status, headers)
    stream = Stream(found.read(extent.first, extent.length_bytes), extent.length_bytes)
    return Response(extent.status, headers, stream=stream)


def redirect(location: str, settings: Settings) -> Response:
    """302: this viewer finds the picture there now; nobody is to remember it."""
    headers: Headers = [
        (b"location", location.encode("ascii")),
        (b"cache-control", b"private, no-store"),
        *_SANDBOX,
        *_embedding(settings),
    ]
    return Response(302, headers)


def _private(headers: Headers, lifetime: bytes) -> Headers:
    """The headers without what lets other sites read an answer, and with another lifetime."""
    return [
        (name, lifetime if name == b"cache-control" else value)
        for name, value in headers
        if name not in _PUBLIC_ONLY
    ]


def failure(
    error: GalerlyError, request_id: str, settings: Settings, *, is_private: bool = False
) -> Response:
    """An error as JSON: a stable code, a public sentence, the request's id, and nothing else."""
    body = to_json(Failure(problem(error, request_id))) + b"\n"
    lifetime = b"no-store" if error.max_age_s is None else b"public, max-age=%d" % error.max_age_s
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", lifetime),
        *_SANDBOX,
        *_embedding(settings),
        *error.headers(),
    ]
    return Response(error.status, _private(headers, b"no-store") if is_private else headers, body)


def problem(error: GalerlyError, request_id: str) -> Problem:
    """What may be told of an error."""
    return Problem(error.code, error.public, request_id)


def no_store_headers(media_type: str) -> Headers:
    """The headers of an answer to whoever asked, and to nobody else."""
    return [(b"content-type", media_type.encode()), (b"cache-control", b"no-store"), *_SANDBOX]


def _embedding(settings: Settings) -> Headers:
    """What lets other sites' pages embed a public answer (CORS, CORP, Resource Timing)."""
    chosen = [
        (b"cross-origin-resource-policy", settings.resource_policy),
        (b"access-control-allow-origin", settings.allow_origin),
        (b"timing-allow-origin", settings.timing_allow_origin),
    ]
    return [(name, value.encode()) for name, value in chosen if value]


def _matches(if_none_match: bytes, etag: bytes) -> bool:
    """RFC 9110 §13.1.2, weak comparison: `*`, one tag, or a list of them."""
    if if_none_match == etag or if_none_match.strip() == b"*":
        return True
    return len(if_none_match) <= _MAX_CONDITION_BYTES and etag in _ENTITY_TAG.findall(if_none_match)


class _Extent(NamedTuple):
    """Which bytes of a body are sent, under which status, and the headers that say so."""

    status: int
    headers: Headers
    first: int
    length_bytes: int


def _extent(asked: Conditions, etag: bytes, length_bytes: int) -> _Extent:
    """The whole, or the one range that was asked for. Raises `RangeNotSatisfiable`."""
    span = None
    if asked.range is not None and (asked.if_range is None or asked.if_range.strip() == etag):
        span = _span(asked.range, length_bytes)
    if span is None:
        return _Extent(200, [(b"content-length", b"%d" % length_bytes)], 0, length_bytes)
    first, last = span
    part_bytes = last - first + 1
    place = (b"content-range", b"bytes %d-%d/%d" % (first, last, length_bytes))
    return _Extent(206, [place, (b"content-length", b"%d" % part_bytes)], first, part_bytes)


def _span(asked: bytes, length_bytes: int) -> tuple[int, int] | None:
    """First and last byte of a single range (RFC 9110 §14.1.2); None: answer the whole.

    A malformed range and a list of ranges are ignored, as the RFC allows.
    """
    if len(asked) > _MAX_RANGE_BYTES or not (matched := _RANGE.fullmatch(asked.strip())):
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
