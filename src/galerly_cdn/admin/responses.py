"""What does the admin side answer? A value as JSON, or one after the other as lines of JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator  # noqa: TC003 - a field's type
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.http import responses
from galerly_cdn.http.responses import Problem, Response
from galerly_cdn.serialization import Value, to_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.http.responses import Headers

JSON = "application/json"
JSON_LINES = "application/jsonl"


class Failed(Value, frozen=True):
    """What could not be done for one key; among lines, where others may have been done."""

    key: str
    error: Problem


class JsonLines(NamedTuple):
    """Values that are sent as they come to be, a line each.

    Its end is part of HTTP's framing: lines that were cut off cannot be taken for all of them.
    """

    values: AsyncGenerator[Value, None]
    first: Value | None = None
    """The one that is made before anything is sent."""
    status: int = 200

    @property
    def headers(self) -> Headers:
        """Without a length: nobody knows how many there will be."""
        return responses.no_store_headers(JSON_LINES)

    async def begun(self) -> JsonLines:
        """The same with its first value made: what fails at once is still an answer of its own.

        Raises what making values raises.
        """
        return JsonLines(self.values, await anext(self.values, None))

    async def encoded(self) -> AsyncIterator[bytes]:
        """Each value as its line. Raises what making values raises."""
        if self.first is not None:
            yield to_json(self.first) + b"\n"
        async for value in self.values:
            yield to_json(value) + b"\n"


def json_response(value: Value, status: int = 200) -> Response:
    """A value as JSON."""
    return body_response(to_json(value) + b"\n", JSON, status)


def body_response(body: bytes, media_type: str, status: int = 200) -> Response:
    """A body as it is."""
    length = (b"content-length", b"%d" % len(body))
    return Response(status, [*responses.no_store_headers(media_type), length], body)
