"""How is one request answered, and its body handed over? uvicorn's cycle, which speaks ASGI, made strict.

- An answer that is not finished ends in an abort: nobody takes it for a whole one.
- A streamed answer is sent as the client takes it; `send` raises `Disconnected` once the client has left.
- A body is read as the application takes it, and waited for with `Patience`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from galerly_cdn.errors import BodyTooSlow, Disconnected, GalerlyError
from galerly_cdn.server.body_timeout import BodyTimeout

if TYPE_CHECKING:
    from uvicorn._types import (
        ASGI3Application,
        ASGIReceiveEvent,
        ASGISendEvent,
        HTTPResponseStartEvent,
    )

    from galerly_cdn.server.connection import Connection


class RequestCycle(RequestResponseCycle):
    """One request and its answer."""

    def __init__(
        self, connection: Connection, *, keep_alive: bool, has_body: bool = False, awaits_100: bool = False
    ) -> None:
        """`has_body`: one that the application may take; `awaits_100`: it is held back until invited."""
        super().__init__(
            scope=cast("Any", connection.scope),
            transport=connection.transport,
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=False,
            default_headers=connection.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=awaits_100,
            keep_alive=keep_alive,
            on_response=connection.on_response_complete,
        )
        self._connection = connection
        self._patience = BodyTimeout(connection.loop, self._is_late) if has_body else None
        self._failure: GalerlyError | None = None

    async def run_asgi(self, app: ASGI3Application) -> None:
        """In place of the base's, which ends an unfinished answer as it ends a whole one.

        A cancellation is the server's, which is out of time and aborts what is left.
        """
        try:
            await app(self.scope, self.receive, self.send)
        except Disconnected:
            pass
        except Exception:
            self.logger.exception("an application raised")
        if not (self.response_complete or self._connection.outlet.is_ended):
            if self.response_started:
                self._connection.outlet.abort()
            else:
                await self._send_failure()
        self.on_response = lambda: None

    async def _send_failure(self) -> None:
        """The application raised, or returned, before it answered."""
        response = self._connection.refusal(GalerlyError())
        headers = [*response.headers, (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": response.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": response.body, "more_body": False})

    # the answer

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the answer, and return when the client has room for more. Raises `Disconnected`."""
        if message["type"] == "http.response.start":
            await self._send_head(message)
            return
        await super().send(message)
        if message.get("more_body", False) and self.flow.write_paused:
            await self.flow.drain()
        if self._connection.outlet.is_ended and not self.response_complete:
            raise Disconnected

    async def _send_head(self, message: HTTPResponseStartEvent) -> None:
        """The base's; but a head of known length is written and checked in one piece, not field by field."""
        if self.response_started or self.flow.write_paused:
            await super().send(message)
            return
        fields = [*self.default_headers, *message.get("headers", ())]
        named = dict(fields)
        length = b"0" if message["status"] == 304 else named.get(b"content-length")
        if length is None or b"connection" in named:
            await super().send(message)
            return
        if not self.keep_alive:
            fields.append((b"connection", b"close"))
        head = b"".join([b"%b: %b\r\n" % field for field in fields])
        if head.count(b"\n") != len(fields) or head.count(b"\r") != len(fields):
            raise RuntimeError("a header's value holds a line break")  # it would be a header of its own
        self.response_started = True
        self.waiting_for_100_continue = False
        self.chunked_encoding = False
        self.expected_content_length = int(length)
        if not self.disconnected:
            self.transport.write(STATUS_LINE[message["status"]] + head + b"\r\n")

    # the body

    async def receive(self) -> ASGIReceiveEvent:
        """The next part of the body, or that the client has left.

        Raises `BadRequest` for a body that can be read in two ways, `BodyTooSlow` for one that dribbles.
        """
        if self._patience is None or not self.more_body or self._failure is not None:
            message = await super().receive()
        else:
            self._patience.wait()
            try:
                message = await super().receive()
            finally:
                self._patience.rest()
        if self._failure is not None:
            raise self._failure
        return message

    def took(self, length_bytes: int) -> None:
        """So much of the body has come."""
        self.waiting_for_100_continue = False  # it did not wait for an invitation (RFC 9110 §10.1.1)
        if self._patience is not None:
            self._patience.took(length_bytes)

    def fail(self, error: GalerlyError) -> None:
        """The connection ends with this answer; and no more of the body will come, unless it is whole."""
        self.keep_alive = False
        if self.more_body:
            self._failure = error
            self.message_event.set()

    def _is_late(self) -> None:
        self.fail(BodyTooSlow())
