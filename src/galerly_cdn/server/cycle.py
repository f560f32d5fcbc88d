"""Runs one request and its response over ASGI.

- A response that the application does not finish ends in an abort, so that no client takes it for complete.
- A streamed response is sent as fast as the client reads it; `send` raises `Disconnected` once the client
  has closed the connection.
- A body is read as fast as the application takes it, and waited for no longer than `BodyTimeout` allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from galerly_cdn.errors import BodyTooSlow, Disconnected, GalerlyError
from galerly_cdn.http.responses import field_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from galerly_cdn.http.request import Message, Scope
    from galerly_cdn.server.connection import Connection

_log = logging.getLogger(__name__)

BODY_WINDOW_S = 30.0
"""Time within which a body has to make progress. It runs only while the application waits for the body, so
that an application that is slow to take it (because of its store, say) is not held against the client."""
BODY_PROGRESS_BYTES = 64 * 1024
"""Bytes that have to arrive within each window, unless the body ends: 2 kB/s, which any telephone reaches."""

_MAX_BUFFERED_BYTES = 64 * 1024
"""Bytes of a body that may wait for the application; the bytes that one read brings come on top."""
_WITHOUT_BODY = frozenset({204, 304})
"""Statuses whose responses have no body (RFC 9110 §6.4.1)."""


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


class RequestCycle:
    """One request and its response."""

    def __init__(
        self,
        connection: Connection,
        scope: Scope,
        *,
        keep_alive: bool,
        has_body: bool = False,
        awaits_100: bool = False,
    ) -> None:
        """`has_body`: the application may read a body. `awaits_100`: the client waits for 100 Continue."""
        self.scope = scope
        self.keep_alive = keep_alive
        self.more_body = True
        """Whether a part of the request is still to arrive."""
        self.body = bytearray()
        """What has arrived and was not taken yet."""
        self.is_complete = False
        """Whether the whole response was written."""
        self.is_started = False
        """Whether the head of the response was written."""
        self._connection = connection
        self._transport = connection.transport
        self._body_timeout = BodyTimeout(connection.loop, self._on_body_timeout) if has_body else None
        self._error: GalerlyError | None = None
        self._awaits_100 = awaits_100
        self._is_disconnected = False
        self._is_chunked = False
        self._remaining_bytes = 0
        """Of the response's Content-Length."""
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run the application, and end the connection if it leaves its response unfinished.

        Only a server that is out of time cancels this; it aborts the connections that are left.
        """
        try:
            await self._connection.state.application(self.scope, self.receive, self.send)
        except Disconnected:
            pass
        except Exception:  # noqa: BLE001 - the client gets a response, the log the traceback
            _log.exception("The application raised an error that it does not handle.")
        if not (self.is_complete or self._transport.is_ended):
            if self.is_started:
                self._transport.abort()
            else:
                with contextlib.suppress(Disconnected):
                    await self._send_internal_error()

    async def _send_internal_error(self) -> None:
        """Respond for an application that raised or returned before it responded."""
        response = self._connection.error_response(GalerlyError())
        headers = [*response.headers, (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": response.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": response.body, "more_body": False})

    # the response

    async def send(self, message: Message) -> None:
        """Send a part of the response; return when the client can take more. Raises `Disconnected`."""
        await self._transport.drained()
        if message["type"] == "http.response.start":
            self._send_head(message["status"], message.get("headers", ()))
            return
        more_body = message.get("more_body", False)
        if not self._is_disconnected:
            self._send_body(message.get("body", b""), more_body=more_body)
        if more_body:
            await self._transport.drained()
        if self._transport.is_ended and not self.is_complete:
            raise Disconnected

    def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the head. A body of unknown length is chunked (RFC 9112 §7.1). Raises `ValueError`."""
        if self.is_started:
            raise RuntimeError("a second response to one request")
        fields = [*headers]
        by_name = dict(fields)
        if by_name.get(b"connection") == b"close":
            self.keep_alive = False
        elif not self.keep_alive:
            fields.append((b"connection", b"close"))
        has_body = status not in _WITHOUT_BODY and self.scope["method"] != "HEAD"
        self._is_chunked = has_body and b"content-length" not in by_name
        if self._is_chunked:
            fields.append((b"transfer-encoding", b"chunked"))
        elif has_body:
            self._remaining_bytes = int(by_name[b"content-length"])
        lines = field_lines(fields)
        self.is_started = True
        self._awaits_100 = False
        if not self._is_disconnected:
            self._transport.write(self._connection.state.head_start(status) + lines + b"\r\n")

    def _send_body(self, body: bytes, *, more_body: bool) -> None:
        """Write a part of the body. Raises `RuntimeError` if it is not as long as the head says."""
        if not self.is_started or self.is_complete:
            raise RuntimeError("a body without a head")
        if self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._transport.write(chunk if more_body else chunk + b"0\r\n\r\n")
        elif self.scope["method"] != "HEAD":
            self._remaining_bytes -= len(body)
            if self._remaining_bytes < 0:
                raise RuntimeError("the body is longer than its Content-Length")
            self._transport.write(body)
        if more_body:
            return
        if self._remaining_bytes:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.is_complete = True
        self._changed.set()
        if not self.keep_alive:
            self._transport.close()
        self._connection.on_response_complete()

    def disconnect(self) -> None:
        """Note that the client has closed the connection."""
        self._is_disconnected = not self.is_complete
        self._changed.set()

    # the body

    async def receive(self) -> Message:
        """The next part of the body, or the message that the client disconnected.

        Raises `BadRequest` for a body with ambiguous framing, `BodyTooSlow` for one that makes no progress.
        """
        if self._body_timeout is None:
            await self._change()
        else:
            self._ask_for_body()
            if self.more_body and self._error is None:
                self._body_timeout.start()
            try:
                await self._change()
            finally:
                self._body_timeout.pause()
        if self._error is not None:
            raise self._error
        if self._is_disconnected or self.is_complete:
            return {"type": "http.disconnect"}
        message = {"type": "http.request", "body": bytes(self.body), "more_body": self.more_body}
        self.body.clear()
        return message

    def _ask_for_body(self) -> None:
        """Let the client send more of the body; send 100 Continue if it waits (RFC 9110 §10.1.1)."""
        if self._awaits_100 and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._awaits_100 = False
        if not (self._is_disconnected or self.is_complete):
            self._transport.resume_reading()

    async def _change(self) -> None:
        """Wait until bytes have arrived, or the request, the response or the connection has ended."""
        if not (self._is_disconnected or self.is_complete):
            await self._changed.wait()
            self._changed.clear()

    def body_received(self, body: bytes) -> None:
        """Buffer a part of the body; stop reading when the application takes it more slowly."""
        self._awaits_100 = False  # the client does not wait for it (RFC 9110 §10.1.1)
        if self.is_complete:
            return
        self.body += body
        if len(self.body) > _MAX_BUFFERED_BYTES:
            self._transport.pause_reading()
        if self._body_timeout is not None:
            self._body_timeout.received(len(body))
        self._changed.set()

    def request_complete(self) -> None:
        """Note that the whole request has arrived, or that its body is dropped."""
        if not self.is_complete:
            self.more_body = False
            self._changed.set()

    def fail(self, error: GalerlyError) -> None:
        """Close the connection after this response. If the body is incomplete, `receive` raises `error`."""
        self.keep_alive = False
        if self.more_body:
            self._error = error
            self._changed.set()

    def _on_body_timeout(self) -> None:
        self.fail(BodyTooSlow())
