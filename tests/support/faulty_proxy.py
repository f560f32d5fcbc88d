"""Runs a proxy in front of a CDN or an S3 server that changes responses, as badly configured ones do."""

from __future__ import annotations

import http.client
import itertools
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple, cast

from tests.support.ports import fixed_port

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
    unavailable_every: int = 0
    """Every request of this number is answered with S3's 503 SlowDown, and not passed on; 0 for none."""
    full: str = ""
    """PUTs to paths that contain this are answered with S3's 500 InternalError: its disk is full."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        server = cast("_Server", self.server)
        if server.is_closed:
            self.close_connection = True
            return
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
    is_closed = False
    """Whether connections that were kept open are closed without an answer."""

    def __init__(self, port: int, faults: Faults, own_port: int = 0) -> None:
        super().__init__(("127.0.0.1", own_port), _Handler)
        self._port = port
        self._faults = faults
        self._cache: dict[str, Received] = {}
        self._numbers = itertools.count(1)

    def change(self, faults: Faults) -> None:
        """Answer further requests with these faults."""
        self._faults = faults

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing of clients that have gone and of servers that do not answer: tests cause both."""
        del request, client_address

    def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Received:
        if path in self._cache:
            return self._cache[path]
        if method == self._faults.refused:
            return _refusal(403, "AccessDenied")
        if self._faults.unavailable_every and next(self._numbers) % self._faults.unavailable_every == 0:
            return _refusal(503, "SlowDown")
        if self._faults.full and method == "PUT" and self._faults.full in path:
            return _refusal(500, "InternalError")
        headers = {name: value for name, value in headers.items() if name.lower() != self._faults.ignored}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            names = {name.lower() for name, _ in response.getheaders()}
            joined = {name: ", ".join(response.headers.get_all(name, ())) for name in names}
            content = response.read()
            if joined.pop("transfer-encoding", ""):
                joined["content-length"] = str(len(content))
            received = self._changed(response.status, joined, content)
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


def _refusal(status: int, code: str) -> Received:
    """An error as S3 sends it."""
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return Received(status, {"content-type": "application/xml", "content-length": str(len(body))}, body)


class StoreProxy:
    """The proxy in front of an S3 server, for faults that begin and end while nodes run."""

    def __init__(self, port: int) -> None:
        self._store_port = port
        self._port = fixed_port()
        self._server: _Server | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = _Server(self._store_port, Faults(), self._port)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()

    def change(self, faults: Faults) -> None:
        """Answer further requests with these faults."""
        assert self._server
        self._server.change(faults)

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server:
            self._server.is_closed = True
            self._server.shutdown()
            self._server.server_close()
        self._server = None


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
