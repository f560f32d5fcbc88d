"""What CloudFront asks of an origin, and what an origin answers."""

from __future__ import annotations

from galerly_cdn.model import Value


class OriginRequest(Value, frozen=True):
    """A request without a body; names of headers are lower-case, the path is percent-encoded as sent."""

    method: str
    scheme: str
    host: str
    raw_path: str
    query: str
    headers: dict[str, str]


class OriginResponse(Value, frozen=True):
    """An answer, whole; names of headers are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes
