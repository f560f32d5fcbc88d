"""What a viewer asks of CloudFront, and what CloudFront answers."""

from __future__ import annotations

from galerly_cdn.serialization import Value


class ViewerRequest(Value, frozen=True, kw_only=True):
    """A viewer's request; the path is percent-encoded as it was sent, names of headers are lower-case."""

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
        """Path and query as they stood in the request line."""
        return f"{self.raw_path}?{self.query}" if self.query else self.raw_path


class ViewerResponse(Value, frozen=True):
    """A response, whole; names of headers are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Outcome(Value, frozen=True):
    """A response and how it came about, in the words of the access log's x-edge-result-type."""

    response: ViewerResponse
    result: str


def error(status: int, code: str, message: str) -> Outcome:
    """A response of CloudFront's own: the XML it sends."""
    told = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>{told}'.encode()
    return Outcome(
        ViewerResponse(status, {"content-type": "text/xml", "server": "CloudFront"}, body), "Error"
    )
