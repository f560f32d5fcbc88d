"""Runs a proxy in front of a CDN or an S3 server that changes responses, as badly configured ones do."""

from __future__ import annotations

import http.client
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.tls_certificates import Files


class Received(NamedTuple):
    """A response of the server."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


class Faults(NamedTuple):
    """How the responses are changed."""

    statuses: dict[int, int] = {}  # noqa: RUF012 - a named tuple's default, which nothing changes
    """Statuses that are sent in place of others; the body is the proxy's own then."""
    headers: dict[str, str] = {}  # noqa: RUF012 - likewise
    """Headers that replace those of the server; an empty value removes one."""
    ignores_vary: bool = False
    """A cache by path alone."""
    shares_with_pages: bool = False
    """CORS headers only in responses to requests with the header Origin, as CloudFront's policies do."""
    refused: str = ""
    """A method that is refused with 403."""
    ignored: str = ""
    """A request header that is not passed on."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        server = cast("_Server", self.server)
        received = server.respond(self.command, self.path, dict(self.headers.items()), body)
        self.send_response_only(received.status)
        for name, value in received.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(received.body)

    do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names of the base class

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._port = port
        self._faults = faults
        self._cache: dict[str, Received] = {}

    def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Received:
        if path in self._cache:
            return self._cache[path]
        if method == self._faults.refused:
            denied = b"<Error><Code>AccessDenied</Code></Error>"
            return Received(403, {"content-length": str(len(denied))}, denied)
        headers = {name: value for name, value in headers.items() if name.lower() != self._faults.ignored}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            names = {name.lower() for name, _ in response.getheaders()}
            joined = {name: ", ".join(response.headers.get_all(name, ())) for name in names}
            received = self._changed(response.status, joined, response.read())
        finally:
            connection.close()
        if self._faults.shares_with_pages and not any(name.lower() == "origin" for name in headers):
            received.headers.pop("access-control-allow-origin", None)
        if self._faults.ignores_vary:
            self._cache[path] = received
        return received

    def _changed(self, status: int, headers: dict[str, str], body: bytes) -> Received:
        changed = {name: value for name, value in {**headers, **self._faults.headers}.items() if value}
        if status not in self._faults.statuses:
            return Received(status, changed, body)
        body = b"<html>an error</html>"
        replaced = {"content-type": "text/html", "content-length": str(len(body))}
        return Received(self._faults.statuses[status], {**changed, **replaced}, body)


@contextmanager
def running(port: int, faults: Faults = Faults(), certificate: Files | None = None) -> Iterator[str]:  # noqa: B008 - a constant
    """Run the proxy in front of a port of this machine; yields its address, by https with a certificate."""
    server = _Server(port, faults)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
