"""Asks a real HTTP server, byte for byte what is to be asked."""

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
    """A server at an `http://` address; a connection for each request."""

    def __init__(self, endpoint: str, connect_s: float) -> None:
        place = urlsplit(endpoint)
        self._host = place.hostname or ""
        self._port = place.port or 80
        self._connect_s = connect_s

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """Raises `ConnectionError` if the server cannot be reached, hangs up, or speaks no HTTP."""
        reader, writer = await self._connected()
        connection = h11.Connection(h11.CLIENT)
        query = f"?{request.query}" if request.query else ""
        asked = h11.Request(
            method=request.method,
            target=f"{request.raw_path}{query}",
            headers=[*{**request.headers, "host": request.host, "connection": "close"}.items()],
        )
        try:
            for event in (asked, h11.Data(data=request.body), h11.EndOfMessage()):
                writer.write(connection.send(event) or b"")
            return await self._received(connection, reader)
        except h11.ProtocolError as error:
            raise ConnectionError(str(error)) from error
        finally:
            writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(self._connect_s):
                return await asyncio.open_connection(self._host, self._port)
        except TimeoutError as error:
            raise ConnectionError("no connection in time") from error

    async def _received(self, connection: h11.Connection, reader: asyncio.StreamReader) -> OriginResponse:
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
                return OriginResponse(head.status_code, dict(_own(head)), bytes(body))
            else:
                raise ConnectionError("the server hung up")


def _own(head: h11.Response) -> Iterator[tuple[str, str]]:
    """Headers that speak of the response, not of the connection (RFC 9110 §7.6.1)."""
    for name, value in head.headers:
        if name not in {b"connection", b"keep-alive", b"transfer-encoding"}:
            yield name.decode("ascii"), value.decode("latin-1")
