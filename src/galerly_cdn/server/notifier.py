"""Tells the service manager what the server does: ready, stopping, alive (sd_notify(3))."""

from __future__ import annotations

import asyncio
import logging
import socket

_log = logging.getLogger(__name__)


class Notifier:
    """Sends datagrams to `NOTIFY_SOCKET`. Without one it sends none.

    A datagram that cannot be sent is dropped, the first one with a line in the log.

    While it is open, `WATCHDOG=1` is sent at every half of `watchdog_s` by the event loop: a loop that hangs
    sends none, and the service manager restarts the server.
    """

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        """`address` is a path, or `@` and a name in the abstract namespace. `watchdog_s`: 0 for none."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._interval_s = watchdog_s / 2
        self._timer: asyncio.TimerHandle | None = None
        self._has_failed = False

    def ready(self, status: str) -> None:
        """Tell that requests are answered from now on, and begin to tell that the event loop runs."""
        self._send(f"READY=1\nSTATUS={status}")
        if self._address and self._interval_s:
            self._ping()

    def stopping(self, status: str) -> None:
        """Tell that the server is ending."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def close(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ping(self) -> None:
        self._send("WATCHDOG=1")
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._ping)

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)  # a full queue must not stop the event loop
                sender.sendto(state.encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                _log.warning("NOTIFY_SOCKET %r cannot be told %r: %s", self._address, state, error)
            self._has_failed = True
