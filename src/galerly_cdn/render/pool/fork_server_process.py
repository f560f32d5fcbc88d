"""Starts and ends the process that loads libvips and forks the workers (`fork_server`).

The process gets a socket as its argument and a constant environment. stdin and stdout are /dev/null. Each
stderr is a pipe that is read after the process has ended; it holds 64 KiB and then refuses writes, so a
process that writes much is not blocked by a server that does not read.

Nothing here waits, and asyncio is not imported: a command starts the process before it loads the server.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

ENVIRONMENT = {"VIPS_CONCURRENCY": "1", "VIPS_WARNING": "1", "MALLOC_ARENA_MAX": "1"}
"""libvips uses one thread and logs no warnings; malloc uses one arena, because more keep freed memory."""


def worker_command(module: str = "galerly_cdn.render.pool.worker") -> tuple[str, ...]:
    """Return the command that runs a module's `main`.

    The interpreter ignores the environment (`-I`), does not import `site` (`-S`, which saves 20 ms) and
    has the server's own `sys.path`.
    """
    path = [os.path.abspath(entry) for entry in sys.path if entry]  # noqa: PTH100 - sys.path holds strings
    code = f"import sys; sys.path[:] = {path!r}; from {module} import main; main()"
    return sys.executable, "-I", "-S", "-c", code


class Pipe:
    """The stderr of a process: a pipe that refuses writes when it is full. Raises `OSError`."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)


class ForkServerProcess:
    """A running fork server. Create it in the main thread: it is killed when the thread that started it ends.

    `command` is a `worker_command`. Raises `OSError` when the machine refuses another process.
    """

    def __init__(self, command: Sequence[str]) -> None:
        with contextlib.ExitStack() as resources:
            own_end, other_end = socket.socketpair()
            self.control = resources.enter_context(own_end)
            with other_end:
                self.stderr = Pipe()
                resources.callback(os.close, self.stderr.read_fd)
                try:
                    self.popen = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                        [*command, str(other_end.fileno())],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=self.stderr.write_fd,
                        pass_fds=[other_end.fileno()],
                        env=ENVIRONMENT,
                        cwd="/",
                        # A terminal's Ctrl-C must reach the server alone. Not a session: the kernel gives
                        # each session an equal share of the cores (autogroup), whatever its niceness.
                        process_group=0,
                    )
                finally:
                    os.close(self.stderr.write_fd)
            self._resources = resources.pop_all()

    def kill(self) -> None:
        """Kill the process and every child in its group; its exit must be waited for."""
        if self.popen.returncode is None:  # its id may be another process's after it has been waited for
            with contextlib.suppress(OSError):
                os.killpg(self.popen.pid, signal.SIGKILL)

    def release(self) -> None:
        """Close the socket and the pipe; a process that still runs ends by itself."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.popen.wait()
        self.release()
