"""Sends requests to a real HTTP server byte for byte, without the normalisation of an HTTP library."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h11

from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES = 65_536


class HttpClient:
    """A client of the server at an `http://` address. Each request has a connection of its own."""

    def __init__(self, endpoint: str, connection_timeout_s: float) -> None:
        url = urlsplit(endpoint)
        self._host = url.hostname or ""
        self._port = url.port or 80
        self._connection_timeout_s = connection_timeout_s

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """Raises `ConnectionError` if the server cannot be reached, closes early, or does not speak HTTP."""
        reader, writer = await self._connect()
        connection = h11.Connection(h11.CLIENT)
        query = f"?{request.query}" if request.query else ""
        head = h11.Request(
            method=request.method,
            target=f"{request.raw_path}{query}",
            headers=[*{**request.headers, "host": request.host, "connection": "close"}.items()],
        )
        try:
            for event in (head, h11.Data(data=request.body), h11.EndOfMessage()):
                writer.write(connection.send(event) or b"")
            return await self._receive(connection, reader)
        except h11.ProtocolError as error:
            raise ConnectionError(str(error)) from error
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(self._connection_timeout_s):
                return await asyncio.open_connection(self._host, self._port)
        except TimeoutError as error:
            raise ConnectionError(f"no connection in {self._connection_timeout_s} s") from error

    async def _receive(self, connection: h11.Connection, reader: asyncio.StreamReader) -> OriginResponse:
        head: h11.Response | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_CHUNK_BYTES))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return OriginResponse(head.status_code, dict(_end_to_end_headers(head)), bytes(body))
            else:
                raise ConnectionError("the server closed the connection before the response was complete")


def _end_to_end_headers(head: h11.Response) -> Iterator[tuple[str, str]]:
    """The headers without those of the connection (RFC 9110 §7.6.1)."""
    for name, value in head.headers:
        if name not in {b"connection", b"keep-alive", b"transfer-encoding"}:
            yield name.decode("ascii"), value.decode("latin-1")
