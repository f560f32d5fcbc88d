"""Defines a viewer's request, and CloudFront's response with its result type for the access log."""

from __future__ import annotations

from galerly_cdn.serialization import Value


class ViewerRequest(Value, frozen=True, kw_only=True):
    """A viewer's request. Header names are lower-case; the path is percent-encoded as it was sent."""

    method: str
    scheme: str
    host: str
    raw_path: str
    query: str = ""
    headers: dict[str, str] = {}
    client: str = "127.0.0.1"
    has_body: bool = False

    @property
    def target(self) -> str:
        """Path and query as they were in the request line."""
        return f"{self.raw_path}?{self.query}" if self.query else self.raw_path


class ViewerResponse(Value, frozen=True):
    """A complete response. Header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Outcome(Value, frozen=True):
    """A response, and its result type: a value of the access log's field x-edge-result-type."""

    response: ViewerResponse
    result: str


def error(status: int, code: str, message: str) -> Outcome:
    """An error response that CloudFront itself generates, with its XML body."""
    xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>{xml}'.encode()
    return Outcome(
        ViewerResponse(status, {"content-type": "text/xml", "server": "CloudFront"}, body), "Error"
    )
