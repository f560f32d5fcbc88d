"""Runs one request and its response over ASGI; a stricter version of uvicorn's request cycle.

- A response that the application does not finish ends in an abort, so that no client takes it for complete.
- A streamed response is sent as fast as the client reads it; `send` raises `Disconnected` once the client
  has closed the connection.
- A body is read as fast as the application takes it, and waited for no longer than `BodyTimeout` allows.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from galerly_cdn.errors import BodyTooSlow, Disconnected, GalerlyError
from galerly_cdn.http.responses import field_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn._types import (
        ASGI3Application,
        ASGIReceiveEvent,
        ASGISendEvent,
        HTTPResponseStartEvent,
    )

    from galerly_cdn.server.connection import Connection

BODY_WINDOW_S = 30.0
"""Time within which a body has to make progress. It runs only while the application waits for the body, so
that an application that is slow to take it (because of its store, say) is not held against the client."""
BODY_PROGRESS_BYTES = 64 * 1024
"""Bytes that have to arrive within each window, unless the body ends: 2 kB/s, which any telephone reaches."""


class BodyTimeout:
    """Calls `on_timeout` when a body that the application waits for arrives too slowly, or not at all."""

    __slots__ = ("_loop", "_on_timeout", "_received_bytes", "_remaining_s", "_started_s", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_timeout: Callable[[], None]) -> None:
        self._loop = loop
        self._on_timeout = on_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._started_s = 0.0
        self._remaining_s = BODY_WINDOW_S
        self._received_bytes = 0

    def start(self) -> None:
        """Run the rest of the window: the application waits for the body."""
        self._started_s = self._loop.time()
        self._timer = self._loop.call_later(self._remaining_s, self._on_timeout)

    def pause(self) -> None:
        """Stop the window: the application received a part of the body, or stopped waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._remaining_s -= self._loop.time() - self._started_s

    def received(self, length_bytes: int) -> None:
        """Count bytes of the body; `BODY_PROGRESS_BYTES` open a new window."""
        self._received_bytes += length_bytes
        if self._received_bytes >= BODY_PROGRESS_BYTES:
            self._received_bytes = 0
            self._remaining_s = BODY_WINDOW_S
            if self._timer is not None:
                self._timer.cancel()
                self.start()


class RequestCycle(RequestResponseCycle):
    """One request and its response."""

    def __init__(
        self, connection: Connection, *, keep_alive: bool, has_body: bool = False, awaits_100: bool = False
    ) -> None:
        """`has_body`: the application may read a body. `awaits_100`: the client waits for 100 Continue."""
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
        self._body_timeout = BodyTimeout(connection.loop, self._on_body_timeout) if has_body else None
        self._error: GalerlyError | None = None

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application. Replaces uvicorn's, which ends an unfinished response like a finished one.

        Only a server that is out of time cancels this; it aborts the connections that are left.
        """
        try:
            await app(self.scope, self.receive, self.send)
        except Disconnected:
            pass
        except Exception:
            self.logger.exception("The application raised an error that it does not handle.")
        if not (self.response_complete or self._connection.response_transport.is_ended):
            if self.response_started:
                self._connection.response_transport.abort()
            else:
                await self._send_internal_error()
        self.on_response = lambda: None

    async def _send_internal_error(self) -> None:
        """Respond for an application that raised or returned before it responded."""
        response = self._connection.error_response(GalerlyError())
        headers = [*response.headers, (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": response.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": response.body, "more_body": False})

    # the response

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the response; return when the client can take more. Raises `Disconnected`."""
        if message["type"] == "http.response.start":
            await self._send_head(message)
            return
        await super().send(message)
        if message.get("more_body", False) and self.flow.write_paused:
            await self.flow.drain()
        if self._connection.response_transport.is_ended and not self.response_complete:
            raise Disconnected

    async def _send_head(self, message: HTTPResponseStartEvent) -> None:
        """Send the head as uvicorn does, but write and check a head of known length in one piece."""
        if self.response_started or self.flow.write_paused:
            await super().send(message)
            return
        fields = [*self.default_headers, *message.get("headers", ())]
        by_name = dict(fields)
        length = b"0" if message["status"] == 304 else by_name.get(b"content-length")
        if length is None or b"connection" in by_name:
            await super().send(message)
            return
        if not self.keep_alive:
            fields.append((b"connection", b"close"))
        head = field_lines(fields)
        self.response_started = True
        self.waiting_for_100_continue = False
        self.chunked_encoding = False
        self.expected_content_length = int(length)
        if not self.disconnected:
            self.transport.write(STATUS_LINE[message["status"]] + head + b"\r\n")

    # the body

    async def receive(self) -> ASGIReceiveEvent:
        """The next part of the body, or the message that the client disconnected.

        Raises `BadRequest` for a body with ambiguous framing, `BodyTooSlow` for one that makes no progress.
        """
        if self._body_timeout is None:
            message = await self._receive_without_body()
        elif not self.more_body or self._error is not None:
            message = await super().receive()
        else:
            self._body_timeout.start()
            try:
                message = await super().receive()
            finally:
                self._body_timeout.pause()
        if self._error is not None:
            raise self._error
        return message

    async def _receive_without_body(self) -> ASGIReceiveEvent:
        """An empty body, then the disconnection. uvicorn's `receive` would also resume reading.

        Reading is paused while the connection has another request, or a body that is dropped.
        """
        if not (self.disconnected or self.response_complete):
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    def body_received(self, length_bytes: int) -> None:
        """Note that a part of the body has arrived."""
        self.waiting_for_100_continue = False  # the client does not wait for it (RFC 9110 §10.1.1)
        if self._body_timeout is not None:
            self._body_timeout.received(length_bytes)

    def fail(self, error: GalerlyError) -> None:
        """Close the connection after this response. If the body is incomplete, `receive` raises `error`."""
        self.keep_alive = False
        if self.more_body:
            self._error = error
            self.message_event.set()

    def _on_body_timeout(self) -> None:
        self.fail(BodyTooSlow())
