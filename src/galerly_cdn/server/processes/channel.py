"""Sends and receives the packets of `messages` on an event loop, with the descriptors of connections."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from galerly_cdn.server.processes import messages
from galerly_cdn.server.processes.messages import MAX_PACKET_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.server.processes.messages import Message

    OnMessage = Callable[[Message, bytes, socket.socket | None], None]

_BUFFER_BYTES = 1024 * 1024
"""Of the kernel's buffer, which it lowers to its own limit."""
_MAX_READS = 64
"""Packets that are read before other connections have their turn."""
_DESCRIPTOR_BYTES = array.array("i").itemsize


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a channel. Raises `OSError`."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ends


class Channel:
    """One end of a channel.

    `on_message` gets each message, its raw bytes, and the connection that came with it, which it owns then;
    None if there was none, or no file was free for it.
    `on_end` is called once, when the other process has ended or sent what is no message.
    """

    def __init__(
        self,
        end: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_message: OnMessage,
        on_end: Callable[[], None],
    ) -> None:
        end.setblocking(False)
        self._socket = end
        self._loop = loop
        self._on_message = on_message
        self._on_end = on_end
        self._unsent: deque[tuple[bytes, int]] = deque()
        """Packets, each with a descriptor of its own, or -1."""
        self._buffer = bytearray(MAX_PACKET_BYTES + 1)
        self._is_closed = False
        self._flushed = asyncio.Event()
        self._flushed.set()
        loop.add_reader(end, self._read)

    @property
    def unsent(self) -> int:
        """Packets that wait for the other process to read."""
        return len(self._unsent)

    def try_send(self, message: Message, fd: int) -> bool:
        """Send a message with a descriptor now; False if the other process is too slow, or has ended."""
        if self._is_closed or self._unsent:
            return False
        try:
            socket.send_fds(self._socket, [messages.encode(message)], [fd])
        except OSError:
            return False
        return True

    def send(self, message: Message, data: bytes = b"", fd: int = -1) -> None:
        """Send a message once the other process reads; `fd` may be closed at once.

        Raises `OSError` if no file is free for a copy of `fd`.
        """
        if self._is_closed:
            return
        self._unsent.append((messages.encode(message, data), -1 if fd < 0 else os.dup(fd)))
        if len(self._unsent) == 1:
            self._flushed.clear()
            self._write()

    async def flush(self) -> None:
        """Wait until every message is sent, or the channel has ended."""
        await self._flushed.wait()

    def close(self) -> None:
        """End the channel; what was not sent is dropped."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        while self._unsent:
            self._drop_first()
        self._flushed.set()

    def _write(self) -> None:
        while self._unsent:
            packet, fd = self._unsent[0]
            try:
                if fd < 0:
                    self._socket.send(packet)
                else:
                    socket.send_fds(self._socket, [packet], [fd])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._write)
                return
            except OSError:
                self._end()
                return
            self._drop_first()
        self._loop.remove_writer(self._socket)
        self._flushed.set()

    def _drop_first(self) -> None:
        _, fd = self._unsent.popleft()
        if fd >= 0:
            os.close(fd)

    def _read(self) -> None:
        for _ in range(_MAX_READS):
            if self._is_closed:
                return
            try:
                count, ancillary, _, _ = self._socket.recvmsg_into(
                    [self._buffer], socket.CMSG_SPACE(_DESCRIPTOR_BYTES), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                count, ancillary = 0, []
            connection = _received_connection(ancillary)
            try:
                message, data = messages.decode(bytes(memoryview(self._buffer)[:count]))
            except messages.ProtocolError:  # an empty packet is the end
                if connection is not None:
                    connection.close()
                self._end()
                return
            self._on_message(message, data, connection)

    def _end(self) -> None:
        if not self._is_closed:
            self.close()
            self._on_end()


def _received_connection(ancillary: list[tuple[int, int, bytes]]) -> socket.socket | None:
    """The connection that came with a packet."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) >= _DESCRIPTOR_BYTES:
            fd = array.array("i", data[:_DESCRIPTOR_BYTES])[0]
            with contextlib.suppress(OSError):
                return socket.socket(fileno=fd)
            os.close(fd)
    return None
