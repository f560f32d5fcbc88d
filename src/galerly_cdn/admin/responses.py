"""Builds the admin API's responses: a value as JSON, or values as JSON Lines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from galerly_cdn.http import responses
from galerly_cdn.http.body_stream import Stream
from galerly_cdn.http.responses import Problem, Response
from galerly_cdn.serialization import Value, to_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

JSON = "application/json"
JSON_LINES = "application/jsonl"


class Failed(Value, frozen=True):
    """What could not be done for one key; among lines, where others may have been done."""

    key: str
    error: Problem


def json_response(value: Value, status: int = 200) -> Response:
    """A value as JSON."""
    return body_response(to_json(value) + b"\n", JSON, status)


def json_lines_response(values: AsyncGenerator[Value, None]) -> Response:
    """Values as JSON lines, each sent as soon as it is there.

    The number of lines is unknown in advance, so there is no Content-Length: HTTP's framing shows whether the
    body is complete.
    """
    return Response(200, responses.no_store_headers(JSON_LINES), stream=Stream(_lines(values), None))


async def _lines(values: AsyncGenerator[Value, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(values):
        async for value in values:
            yield to_json(value) + b"\n"


def body_response(body: bytes, media_type: str, status: int = 200) -> Response:
    """A body as it is."""
    length = (b"content-length", b"%d" % len(body))
    return Response(status, [*responses.no_store_headers(media_type), length], body)
