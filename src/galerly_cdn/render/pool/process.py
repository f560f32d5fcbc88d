"""Starts worker processes by the fork server, exchanges messages with them, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Protocol

from galerly_cdn.render.pool import protocol
from galerly_cdn.render.pool.fork_server_process import ForkServerProcess, Pipe

if TYPE_CHECKING:
    from collections.abc import Sequence

_STDERR_BYTES = 2000
_GRACE_S = 1.0


class Child(Protocol):
    """A child of this process, as `subprocess.Popen` describes it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def wait(self) -> int: ...


class ForkedChild:
    """A child that the fork server has forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        """Block until it has ended; the exit code, negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class WorkerProcess:
    """A running worker process."""

    def __init__(self, child: Child, own_end: socket.socket, stderr_fd: int) -> None:
        """Take over the socket, and the descriptor of its stderr."""
        self._child = child
        self._socket = own_end
        self._stderr_fd = stderr_fd

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None before the process has been waited for."""
        return self._child.returncode

    def cpu_s(self) -> float:
        """The CPU time of the process so far; 0 where the platform does not report it, and after the exit."""
        if sys.platform != "linux":
            return 0.0
        try:
            return time.clock_gettime(~self.pid << 3 | 2)  # clock_getcpuclockid(3), CPUCLOCK_SCHED
        except OSError:
            return 0.0

    def send(self, message: protocol.Message, fd: int | None = None) -> None:
        """Send a message and optionally a file descriptor.

        Raises `OSError` when the process is gone or does not read.
        """
        _send(self._socket, message, [] if fd is None else [fd])

    async def receive(self) -> tuple[protocol.Message, bytes]:
        """Return the next message and its body. Raises `EOFError`, `OSError` or `protocol.ProtocolError`."""
        return await _receive(self._socket)

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
        if self.exit_code is None:  # its id may be another process's after it has been waited for
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    async def wait_closed(self, *, has_grace: bool) -> str:
        """Wait for the process to exit, release its resources and return the end of its stderr.

        The process is killed at once, or with `has_grace` after a second.
        """
        try:
            if not has_grace:
                self.kill()
            exited = asyncio.create_task(asyncio.to_thread(self._child.wait))
            await asyncio.wait([exited], timeout=_GRACE_S)
            if not exited.done():
                self.kill()
            await exited
            return _last_lines(self._stderr_fd)
        finally:
            self._socket.close()
            os.close(self._stderr_fd)


class ForkServer:
    """The fork server's process, which is replaced when it has ended or is renewed."""

    def __init__(
        self,
        command: Sequence[str],
        limits: protocol.WorkerLimits,
        started: ForkServerProcess | None = None,
    ) -> None:
        """`started` is a process of the same command that runs already."""
        self._command = command
        self._start = protocol.Start(limits)
        self._process = started
        self._lock = asyncio.Lock()
        self._is_outdated = False
        self._is_closed = False

    async def start_worker(self) -> WorkerProcess:
        """Start a worker process. Raises `OSError`, with the reason, if none can be started."""
        if sys.platform != "linux":  # the process becomes the worker: several are started at a time
            process, self._process = self._process or self._new_process(), None
            return await self._start_in(process)
        async with self._lock:
            if self._is_closed:
                raise BrokenPipeError("the pool is closed")
            if self._is_outdated and self._process is not None:
                await _end(self._process)
                self._process = None
            self._is_outdated = False
            if self._process is None:
                self._process = self._new_process()
            return await self._start_in(self._process)

    def renew(self) -> None:
        """Let the next workers come from a new process.

        The memory of all workers of one process has the same layout, which a crash may have made known.
        """
        self._is_outdated = True

    async def close(self) -> None:
        """End the process; a start in progress is finished, or raises `OSError` after a second."""
        self._is_closed = True
        # A worker that is forked while the process is killed would stay a zombie: its id is not known yet.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S), self._lock:
                pass
        if self._process is not None:
            self._process.kill()
        async with self._lock:
            if self._process is not None:
                await _end(self._process)
                self._process = None

    def _new_process(self) -> ForkServerProcess:
        if self._is_closed:
            raise BrokenPipeError("the pool is closed")
        return ForkServerProcess(self._command)

    async def _start_in(self, process: ForkServerProcess) -> WorkerProcess:
        """Start a worker in a process, which is given up if it fails, or has become the worker."""
        with contextlib.ExitStack() as resources:
            own_end, worker_end = socket.socketpair()
            resources.enter_context(own_end)
            stderr = Pipe()
            resources.callback(os.close, stderr.read_fd)
            try:
                with worker_end:
                    try:
                        process.control.setblocking(False)
                        _send(process.control, self._start, [worker_end.fileno(), stderr.write_fd])
                    finally:
                        os.close(stderr.write_fd)
                pid = await _receive_pid(process.control)
            except (EOFError, OSError, protocol.ProtocolError) as end:
                self._process = None  # the next worker comes from another process
                raise OSError(await _end(process, end)) from end
            except BaseException:
                self._process = None
                await _end(process)
                raise
            child: Child = ForkedChild(pid)
            if pid == process.popen.pid:
                child, self._process = process.popen, None
                process.release()
            else:
                with contextlib.suppress(OSError):  # it has done so itself, or has ended
                    os.setpgid(pid, pid)
            own_end.setblocking(False)
            resources.pop_all()
            return WorkerProcess(child, own_end, stderr.read_fd)


def end_reason(end: BaseException, exit_code: int | None, stderr: str) -> str:
    """Return why a process ended: what the server saw, the exit code unless we caused it, and stderr."""
    parts = [str(end)]
    if not isinstance(end, (TimeoutError, protocol.ProtocolError)):
        parts.append(f"exit {exit_code}")
        if exit_code == -signal.SIGKILL:
            parts.append("it was killed from outside: by an operator, or because memory ran out")
    return ": ".join(filter(None, [*parts, stderr]))


async def _end(process: ForkServerProcess, end: BaseException | None = None) -> str:
    """End a fork server and release its resources; why it ended, if it did by itself."""
    exited = asyncio.create_task(asyncio.to_thread(process.popen.wait))
    await asyncio.wait([exited], timeout=_GRACE_S if end else 0)
    if not exited.done():
        process.kill()
    reason = end or EOFError()
    if isinstance(end, ConnectionError):  # as if the end of the connection had been received
        reason = EOFError()
    text = end_reason(reason, await exited, _last_lines(process.stderr.read_fd))
    process.release()
    return text


def _last_lines(stderr_fd: int) -> str:
    with contextlib.suppress(BlockingIOError):
        stderr = os.read(stderr_fd, 64 * 1024)[-_STDERR_BYTES:]
        return stderr.decode("utf-8", "backslashreplace").strip()
    return ""


def _send(own_end: socket.socket, message: protocol.Message, fds: Sequence[int]) -> None:
    frame = protocol.encode_frame(message)
    if socket.send_fds(own_end, [frame], list(fds)) != len(frame):
        raise BlockingIOError("the worker does not read")


async def _receive(own_end: socket.socket) -> tuple[protocol.Message, bytes]:
    header = await _receive_exactly(own_end, protocol.HEADER.size)
    message_bytes, body_bytes = protocol.decode_lengths(header)
    text = await _receive_exactly(own_end, message_bytes)
    return protocol.decode_message(header, text), bytes(await _receive_exactly(own_end, body_bytes))


async def _receive_pid(control: socket.socket) -> int:
    message, _ = await _receive(control)
    if not isinstance(message, protocol.Started):
        raise protocol.ProtocolError(f"expected Started, received {message!r}")
    return message.pid


async def _receive_exactly(own_end: socket.socket, count: int) -> bytearray:
    loop = asyncio.get_running_loop()
    received = bytearray(count)
    view = memoryview(received)
    while view:
        length = await loop.sock_recv_into(own_end, view)
        if not length:
            raise EOFError
        view = view[length:]
    return received
