"""Starts one worker process, exchanges messages with it, ends it and waits for its exit.

The process gets a socket and its limits as arguments and a constant environment. stdin and stdout are
/dev/null. stderr is a pipe that is read after the process has ended; it holds 64 KiB and then refuses
writes, so a process that writes much is not blocked by a server that does not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from galerly_cdn.render.pool import protocol
from galerly_cdn.serialization import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENVIRONMENT = {"VIPS_CONCURRENCY": "1", "VIPS_WARNING": "1", "MALLOC_ARENA_MAX": "1"}
"""libvips uses one thread and logs no warnings; malloc uses one arena, because more keep freed memory."""
_STDERR_BYTES = 2000
_GRACE_S = 1.0


def worker_command(module: str = "galerly_cdn.render.pool.worker") -> tuple[str, ...]:
    """Return the command that runs a module's `main`.

    The interpreter ignores the environment (`-I`), does not import `site` (`-S`, which saves 20 ms) and
    has the server's own `sys.path`.
    """
    path = [os.path.abspath(entry) for entry in sys.path if entry]  # noqa: PTH100 - sys.path holds strings
    code = f"import sys; sys.path[:] = {path!r}; from {module} import main; main()"
    return sys.executable, "-I", "-S", "-c", code


class WorkerProcess:
    """A running worker process.

    Create it in the event loop's thread: the parent-death signal ends the process with the thread that
    started it.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: protocol.WorkerLimits,
        environment: Mapping[str, str] = ENVIRONMENT,
    ) -> None:
        """Start the process. Raises `OSError` when the machine refuses another process."""
        with contextlib.ExitStack() as resources:
            own_end, worker_end = socket.socketpair()
            self._socket = resources.enter_context(own_end)
            with worker_end:
                self._stderr, stderr = os.pipe()
                resources.callback(os.close, self._stderr)
                try:
                    os.set_blocking(stderr, False)
                    self._popen = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                        [*command, str(worker_end.fileno()), to_json(limits).decode()],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=stderr,
                        pass_fds=[worker_end.fileno()],
                        env=dict(environment),
                        cwd="/",
                        # A terminal's Ctrl-C must reach the server alone. Not a session: the kernel gives
                        # each session an equal share of the cores (autogroup), whatever its niceness.
                        process_group=0,
                    )
                finally:
                    os.close(stderr)
            own_end.setblocking(False)
            self._resources = resources.pop_all()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None before the process has been waited for."""
        return self._popen.returncode

    def cpu_s(self) -> float:
        """The CPU time of the process so far; 0 where the platform does not report it, and after the exit."""
        if sys.platform != "linux":
            return 0.0
        try:
            return time.clock_gettime(~self._popen.pid << 3 | 2)  # clock_getcpuclockid(3), CPUCLOCK_SCHED
        except OSError:
            return 0.0

    def send(self, message: protocol.Message, fd: int | None = None) -> None:
        """Send a message and optionally a file descriptor.

        Raises `OSError` when the process is gone or does not read.
        """
        frame = protocol.encode_frame(message)
        if socket.send_fds(self._socket, [frame], [] if fd is None else [fd]) != len(frame):
            raise BlockingIOError("the worker does not read")

    async def receive(self) -> tuple[protocol.Message, bytes]:
        """Return the next message and its body. Raises `EOFError`, `OSError` or `protocol.ProtocolError`."""
        header = await self._receive_exactly(protocol.HEADER.size)
        message_bytes, body_bytes = protocol.decode_lengths(header)
        text = await self._receive_exactly(message_bytes)
        return protocol.decode_message(header, text), bytes(await self._receive_exactly(body_bytes))

    async def _receive_exactly(self, count: int) -> bytearray:
        loop = asyncio.get_running_loop()
        received = bytearray(count)
        view = memoryview(received)
        while view:
            length = await loop.sock_recv_into(self._socket, view)
            if not length:
                raise EOFError
            view = view[length:]
        return received

    def close(self) -> None:
        """Ask the process to end by closing the sending side; `receive` raises when it has ended."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Kill the process and every child in its process group.

        `receive` raises at once, even if a child that left the group holds the socket open.
        """
        # The signal comes first: a process that lost its connection before it could end by itself, with
        # an exit code that looks like a crash.
        if self._popen.returncode is None:  # its id may be another process's after it has been waited for
            with contextlib.suppress(OSError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    async def wait_closed(self, *, has_grace: bool) -> str:
        """Wait for the process to exit, release its resources and return the end of its stderr.

        The process is killed at once, or with `has_grace` after a second.
        """
        with self._resources:
            if not has_grace:
                self.kill()
            await asyncio.to_thread(self._wait)
            os.set_blocking(self._stderr, False)
            with contextlib.suppress(BlockingIOError):
                stderr = os.read(self._stderr, 64 * 1024)[-_STDERR_BYTES:]
                return stderr.decode("utf-8", "backslashreplace").strip()
            return ""

    def _wait(self) -> None:
        try:
            self._popen.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._popen.wait()
