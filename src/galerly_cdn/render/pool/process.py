"""One worker process as the server sees it: started, spoken to, ended, reaped.

Its arguments are a socket and its bounds; its environment is a constant; stdin and stdout are /dev/null;
stderr is a pipe that holds 64 KiB and then refuses, read when the process has ended: its last words.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from galerly_cdn.render.pool import protocol
from galerly_cdn.serialization import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENVIRONMENT = {"VIPS_CONCURRENCY": "1", "VIPS_WARNING": "1", "MALLOC_ARENA_MAX": "1"}
"""One thread decodes; libvips is quiet; one arena, because more keep what each has freed."""
_LAST_WORDS_BYTES = 2000
_GRACE_S = 1.0


def worker_command(module: str = "galerly_cdn.render.pool.worker") -> tuple[str, ...]:
    """The interpreter, isolated from its environment and without `site` (20 ms), on the server's own path."""
    path = [os.path.abspath(entry) for entry in sys.path if entry]  # noqa: PTH100 - strings are what it holds
    code = f"import sys; sys.path[:] = {path!r}; from {module} import main; main()"
    return sys.executable, "-I", "-S", "-c", code


class WorkerProcess:
    """A running worker. Make it in the event loop's thread: it dies with the thread that made it."""

    def __init__(
        self,
        command: Sequence[str],
        bounds: protocol.WorkerLimits,
        environment: Mapping[str, str] = ENVIRONMENT,
    ) -> None:
        """Raises `OSError` when the machine refuses another process."""
        with contextlib.ExitStack() as parts:
            ours, theirs = socket.socketpair()
            self._socket = parts.enter_context(ours)
            with theirs:
                self._stderr, stderr = os.pipe()
                parts.callback(os.close, self._stderr)
                try:
                    os.set_blocking(stderr, False)
                    self._popen = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                        [*command, str(theirs.fileno()), to_json(bounds).decode()],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=stderr,
                        pass_fds=[theirs.fileno()],
                        env=dict(environment),
                        cwd="/",
                        start_new_session=True,  # a terminal's Ctrl-C is for the server alone
                    )
                finally:
                    os.close(stderr)
            ours.setblocking(False)
            self._parts = parts.pop_all()

        self.is_ending = False
        """Whether the server has asked or forced it to end."""
        self._has_grace = False

    @property
    def pid(self) -> int:
        return self._popen.pid

    def say(self, words: protocol.Message, fd: int | None = None) -> None:
        """Send a message, with a descriptor. Raises `OSError` when the process is gone or does not read."""
        frame = protocol.frame(words)
        if socket.send_fds(self._socket, [frame], [] if fd is None else [fd]) != len(frame):
            raise BlockingIOError

    async def hear(self) -> tuple[protocol.Message, bytes]:
        """The next message and the bytes beside it. Raises `EOFError`, `OSError` or `wire.Garbage`."""
        head = await self._exactly(protocol.HEAD.size)
        message_bytes, body_bytes = protocol.lengths(head)
        text = await self._exactly(message_bytes)
        return protocol.message(head, text), bytes(await self._exactly(body_bytes))

    async def _exactly(self, count: int) -> bytearray:
        loop = asyncio.get_running_loop()
        read = bytearray(count)
        view = memoryview(read)
        while view:
            got = await loop.sock_recv_into(self._socket, view)
            if not got:
                raise EOFError
            view = view[got:]
        return read

    def dismiss(self) -> None:
        """Ask it to end, by closing our side; `hear` ends when it has."""
        self.is_ending = self._has_grace = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End it and what it forked, now; `hear` ends at once, whoever still holds the socket."""
        self.is_ending = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    async def reap(self) -> str:
        """Wait for the process and close everything; how it ended. It is killed unless it was dismissed."""
        with self._parts:
            if not self._has_grace:
                self.kill()
            await asyncio.to_thread(self._wait)
            os.set_blocking(self._stderr, False)
            with contextlib.suppress(BlockingIOError):
                words = os.read(self._stderr, 64 * 1024)[-_LAST_WORDS_BYTES:]
                return f"exit {self._popen.returncode}: {words.decode('utf-8', 'backslashreplace').strip()}"
            return f"exit {self._popen.returncode}"

    def _wait(self) -> None:
        try:
            self._popen.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._popen.wait()
