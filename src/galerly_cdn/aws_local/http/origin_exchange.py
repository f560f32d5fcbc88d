"""Defines an origin's request and response, and the protocol of whatever responds."""

from __future__ import annotations

from typing import Protocol

from galerly_cdn.serialization import Value


class OriginRequest(Value, frozen=True):
    """A complete HTTP request. Header names are lower-case; the path is percent-encoded as it was sent."""

    method: str
    scheme: str
    host: str
    raw_path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""


class OriginResponse(Value, frozen=True):
    """A complete HTTP response. Header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Responder(Protocol):
    """Responds to requests as an origin, or an API of AWS, does."""

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """The response to a request.

        Raises `ConnectionError` if the server cannot be reached, `TimeoutError` if it is too slow.
        """
        ...
