"""Serves an API of AWS over HTTP/1.1 on the loopback interface. Requests are passed on byte for byte.

Its clients are AWS SDKs, which send `Expect: 100-continue`. `viewer_server` serves viewers, who may be
hostile.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import h11

from galerly_cdn.aws_local.http.connections import accept_connections
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from galerly_cdn.aws_local.http.origin_exchange import OriginResponse, Responder

HOST = "127.0.0.1"
_CHUNK_BYTES = 65_536


@asynccontextmanager
async def listen(responder: Responder, port: int = 0) -> AsyncIterator[str]:
    """Listens until the block ends, and yields the address (`http://…`). For port 0 it chooses a free one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(h11.ProtocolError):
            await _Connection(responder, reader, writer).run()

    async with accept_connections(serve, HOST, port) as listening_port:
        yield f"http://{HOST}:{listening_port}"


class _Connection:
    """One client's connection, which carries requests one after another."""

    def __init__(
        self, responder: Responder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._responder = responder
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        """Serves requests until either side closes the connection."""
        while isinstance(head := await self._next_event(), h11.Request):
            request = await self._read_request(head)
            await self._send(request.method, await self._responder.respond(request))
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                self._writer.write(
                    self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                )
            self._http.receive_data(await self._reader.read(_CHUNK_BYTES))
        return event

    async def _read_request(self, head: h11.Request) -> OriginRequest:
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        path, _, query = head.target.decode("latin-1").partition("?")
        return OriginRequest(
            method=head.method.decode("ascii"),
            scheme="http",
            host=headers.pop("host", ""),
            raw_path=path,
            query=query,
            headers={name: value for name, value in headers.items() if name not in {"connection", "expect"}},
            body=bytes(body),
        )

    async def _send(self, method: str, response: OriginResponse) -> None:
        headers = dict(response.headers)
        if method != "HEAD" and response.status not in {204, 304}:
            headers["content-length"] = str(len(response.body))
        self._write(h11.Response(status_code=response.status, headers=[*headers.items()]))
        if method != "HEAD":
            self._write(h11.Data(data=response.body))
        self._write(h11.EndOfMessage())
        await self._writer.drain()

    def _write(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        self._writer.write(self._http.send(event) or b"")
