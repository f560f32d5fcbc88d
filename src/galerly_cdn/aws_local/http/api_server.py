"""How does an API of AWS listen? HTTP/1.1 on the loopback; what comes is handed on byte for byte.

Viewers, who may be hostile, come in by `server`. Here come AWS's own clients, and `Expect` is theirs.
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
async def listen(asked: Responder, port: int = 0) -> AsyncIterator[str]:
    """Have `asked` response until the block ends; the address is told, with a free port for 0."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(h11.ProtocolError):
            await _Connection(asked, reader, writer).run()

    async with accept_connections(serve, HOST, port) as chosen:
        yield f"http://{HOST}:{chosen}"


class _Connection:
    """One client's connection: requests one after another."""

    def __init__(self, asked: Responder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._asked = asked
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        """Until either side wants no more."""
        while isinstance(head := await self._event(), h11.Request):
            request = await self._request(head)
            await self._send(request.method, await self._asked.respond(request))
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                self._writer.write(
                    self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                )
            self._http.receive_data(await self._reader.read(_CHUNK_BYTES))
        return event

    async def _request(self, head: h11.Request) -> OriginRequest:
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        path, _, query = head.target.decode("latin-1").partition("?")
        return OriginRequest(
            method=head.method.decode("ascii"),
            scheme="http",
            host=headers.pop("host", ""),
            raw_path=path,
            query=query,
            headers={name: told for name, told in headers.items() if name not in {"connection", "expect"}},
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
