"""What CloudFront asks of an origin, and what an origin answers."""

from __future__ import annotations

from galerly_cdn.serialization import Value


class OriginRequest(Value, frozen=True):
    """A request, whole; names of headers are lower-case, the path is percent-encoded as it was sent."""

    method: str
    scheme: str
    host: str
    raw_path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""


class OriginResponse(Value, frozen=True):
    """An answer, whole; names of headers are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes
