"""Serves viewers over HTTP/1.1, with or without TLS. The path reaches the edge byte for byte."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import h11

from galerly_cdn.aws_local.http.connections import accept_connections
from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest, ViewerResponse, error

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from galerly_cdn.aws_local.cloudfront.edge import Edge

MAX_TARGET_BYTES = 8192
"""CloudFront quota: length of a URL."""
_CHUNK_BYTES = 65_536
_LINGER_S = 2.0


@asynccontextmanager
async def listen(
    edge: Edge, host: str, port: int, *, scheme: str, certificate: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Listens until the block ends, and yields the port. For port 0 it chooses a free one.

    `scheme` is the one that the edge sees in every request. With `https` and no certificate, browsers connect
    by http:// and need no certificate that they would warn of.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Connection(edge, scheme, reader, writer).run()

    async with accept_connections(serve, host, port, certificate) as listening_port:
        yield listening_port


class _Connection:
    """One viewer's connection, which carries requests one after another."""

    def __init__(
        self, edge: Edge, scheme: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._edge = edge
        self._scheme = scheme
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        """Serves requests until either side closes the connection."""
        try:
            while await self._serve_one():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as problem:
            if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                status = problem.error_status_hint
                await self._send(error(status, "BadRequest", "Bad request.").response, "GET")
        await self._close_gracefully()

    async def _serve_one(self) -> bool:
        """Serves one request. Returns whether another may follow."""
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return False
        request = _request(head, self._scheme, str(self._writer.get_extra_info("peername")[0]))
        if isinstance(request, ViewerResponse):
            response = request
        else:
            response = await self._edge.respond(request)
        await self._send(response, head.method.decode("ascii"))
        if isinstance(request, ViewerResponse) or request.has_body:
            return False
        await self._next_event()  # the end of the message, which has no body
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _close_gracefully(self) -> None:
        """Reads what the viewer still sends: unread bytes at the close would reset away the response."""
        if self._writer.is_closing() or not self._writer.can_write_eof():  # TLS has no half-close
            return
        self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while await self._reader.read(_CHUNK_BYTES):
                    pass

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_CHUNK_BYTES))
        return event

    async def _send(self, response: ViewerResponse, method: str) -> None:
        headers = dict(response.headers)
        if method != "HEAD" and response.status != 304:
            headers["content-length"] = str(len(response.body))
        head = h11.Response(status_code=response.status, headers=[*headers.items()])
        body = [] if method == "HEAD" else [h11.Data(data=response.body)]
        for event in (head, *body, h11.EndOfMessage()):
            self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()


def _request(head: h11.Request, scheme: str, client: str) -> ViewerRequest | ViewerResponse:
    """The request, or the error response to a request that CloudFront refuses."""
    headers: dict[str, str] = {}
    for name, value in head.headers:
        header, text = name.decode("ascii"), value.decode("latin-1")
        separator = "; " if header == "cookie" else ", "
        headers[header] = f"{headers[header]}{separator}{text}" if header in headers else text
    target = head.target.decode("latin-1")
    if len(target) > MAX_TARGET_BYTES:
        return error(414, "UriTooLong", "The URI is too long.").response
    if not target.startswith("/") or "host" not in headers:
        return error(400, "BadRequest", "Bad request.").response
    path, _, query = target.partition("?")
    return ViewerRequest(
        method=head.method.decode("ascii"),
        scheme=scheme,
        host=headers.pop("host"),
        raw_path=path,
        query=query,
        headers=headers,
        client=client,
        has_body=headers.get("content-length", "0") != "0" or "transfer-encoding" in headers,
    )
