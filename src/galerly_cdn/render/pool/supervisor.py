"""Keeps the pool at its capacity: replaces a process that ends, and a worn one before it is closed.

From `start` until `close`, as many processes as `capacity` serve or are starting. Every change of a
worker's state goes through `worker_state.next_state`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from galerly_cdn.errors import QueueFull, SettingsError
from galerly_cdn.render.pool import process, protocol
from galerly_cdn.render.pool.worker_state import (
    Event,
    ImpossibleEventError,
    Phase,
    Replacement,
    WorkerState,
    next_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from galerly_cdn.render.pool.scheduling import WorkQueue
    from galerly_cdn.settings.table import Settings

Response = tuple[protocol.Message, bytes]

_log = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
"""A start takes 0.2 s of CPU; on a machine without a free core or with a slow disk, many times that."""
_SLOW_START_S = 10.0
_RETRY_S = 0.25
_MAX_RETRY_S = 5.0
_EXIT_TIMEOUT_S = 1.0
"""How long a killed process may take to end: one that reads from a hanging file system ends later."""


class Worker:
    """A worker process with its state and its measurements."""

    def __init__(
        self,
        command: Sequence[str],
        limits: protocol.WorkerLimits,
        environment: Mapping[str, str] = process.ENVIRONMENT,
    ) -> None:
        """Start the process. Raises `OSError` when the machine refuses another process."""
        self._process = process.WorkerProcess(command, limits, environment)
        self._response: asyncio.Future[Response] | None = None
        self._exited = asyncio.Event()
        self.state = WorkerState()
        self.responses = 0
        self.resident_bytes = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        """The CPU time of the process so far."""
        return self._process.cpu_s()

    async def exit_code(self) -> int | None:
        """Wait for the exit of a process that has been killed or has ended; None if it takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_TIMEOUT_S):
                await self._exited.wait()
        return self._process.exit_code

    def apply(self, event: Event) -> None:
        """Change the state. Raises `ImpossibleEventError`."""
        self.state = next_state(self.state, event)

    def start_request(self, request: protocol.Request, fd: int) -> asyncio.Future[Response]:
        """Send a request and return the future of its first response. Raises `OSError` when it has ended.

        A job in which the worker is paused is abandoned.
        """
        self._abandon_job()
        return self._send(Event.REQUEST, request, fd)

    def continue_job(self) -> asyncio.Future[Response]:
        """Ask for the next picture and return its future. Raises `OSError` when the worker has ended."""
        return self._send(Event.CONTINUE, protocol.Continue())

    def finish_request(self) -> None:
        """Make the worker free; a job in which it is paused is abandoned. Raises `OSError`."""
        self._abandon_job()
        self.apply(Event.RELEASE)

    def close(self) -> None:
        """Ask the process to end; it has a grace period."""
        self.apply(Event.STOP)
        self._process.close()

    def kill(self, event: Event) -> None:
        """Kill the process because of `event`."""
        self.apply(event)
        self._process.kill()

    async def receive_ready(self) -> protocol.Ready:
        """Wait for the Ready message. Raises `EOFError`, `OSError` or `protocol.ProtocolError`."""
        warning = asyncio.get_running_loop().call_later(
            _SLOW_START_S, _log.warning, "a render worker is not ready after %g s", _SLOW_START_S
        )
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                message, _ = await self._process.receive()
        except TimeoutError:
            raise TimeoutError(
                f"it was not ready within {_START_TIMEOUT_S:g} s; the machine is too busy or too slow"
            ) from None
        finally:
            warning.cancel()
        if isinstance(message, protocol.Failed):
            raise protocol.ProtocolError(message.detail)
        if not isinstance(message, protocol.Ready):
            raise protocol.ProtocolError(f"expected Ready, received {message!r}")
        self._apply_received(Event.READY)
        return message

    async def receive_responses(self) -> NoReturn:
        """Receive messages and set the futures of the responses, until the connection ends.

        Raises `EOFError` or `OSError` then, and `protocol.ProtocolError` for an unexpected message.
        """
        while True:
            response = await self._process.receive()
            if self._response is None or self._response.done():
                raise protocol.ProtocolError("the worker sent a message that is not expected")
            self._apply_received(Event.RESPONSE)
            self._response.set_result(response)

    async def wait_closed(self, end: EOFError | OSError | protocol.ProtocolError) -> str:
        """Wait for the exit and return the reason; a response that is still expected fails with it."""
        stderr = await self._process.wait_closed(has_grace=self.state.phase is Phase.STOPPING)
        self._exited.set()
        reason = _end_reason(end, self._process.exit_code, stderr)
        if self._response and not self._response.done():
            self._response.set_exception(type(end)(reason))
        return reason

    def _send(
        self, event: Event, message: protocol.Message, fd: int | None = None
    ) -> asyncio.Future[Response]:
        if not self.state.is_serving:
            raise BrokenPipeError("the worker has ended")
        self._process.send(message, fd)
        self.apply(event)
        self._response = asyncio.get_running_loop().create_future()
        return self._response

    def _apply_received(self, event: Event) -> None:
        try:
            self.apply(event)
        except ImpossibleEventError as error:
            raise protocol.ProtocolError(str(error)) from error

    def _abandon_job(self) -> None:
        if self.state.phase is Phase.PAUSED:
            self._process.send(protocol.Abandon())


def _end_reason(end: EOFError | OSError | protocol.ProtocolError, exit_code: int | None, stderr: str) -> str:
    """Return why a worker ended: what the server saw, the exit code unless we caused it, and stderr."""
    parts = [str(end)]
    if not isinstance(end, (TimeoutError, protocol.ProtocolError)):
        parts.append(f"exit {exit_code}")
        if exit_code == -signal.SIGKILL:
            parts.append("it was killed from outside: by an operator, or because memory ran out")
    return ": ".join(filter(None, [*parts, stderr]))


class WorkerFacts(NamedTuple):
    """What a worker process does now."""

    pid: int
    phase: Phase
    responses: int
    """How many pictures and inspections it has finished."""
    resident_bytes: int
    """Its memory at the end of the last one; 0 before the first."""


class Supervisor:
    """Starts, replaces and ends the workers; the free ones are in `queue`."""

    def __init__(
        self,
        settings: Settings,
        capacity: int,
        queue: WorkQueue[Worker],
        count: Callable[[str], None],
        start_worker: Callable[[], Worker],
    ) -> None:
        self._settings = settings
        self._capacity = capacity
        self._queue = queue
        self._count = count
        self._start_worker = start_worker
        self._workers: set[Worker] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_starts = 0
        self._is_closed = False
        self.all_ready = asyncio.Event()
        """Set while as many workers as the capacity serve."""

    @property
    def facts(self) -> list[WorkerFacts]:
        """What each process does, in the order of their ids."""
        return sorted(
            WorkerFacts(one.pid, one.state.phase, one.responses, one.resident_bytes) for one in self._workers
        )

    @property
    def serving(self) -> list[Worker]:
        """The workers that are ready or have a call."""
        return [worker for worker in self._workers if worker.state.is_serving]

    async def start(self) -> protocol.Ready:
        """Start every worker; return when the first is ready. Raises `SettingsError` if it cannot start."""
        self._first_ready: asyncio.Future[protocol.Ready] = asyncio.get_running_loop().create_future()
        for _ in range(self._capacity):
            self._start_one(None)
        try:
            return await self._first_ready
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End every process: free workers are asked to, the others are killed."""
        self._is_closed = True
        for worker in self._workers:
            if self._queue.remove(worker):
                worker.close()
            else:
                worker.kill(Event.DISCARD)
        await asyncio.gather(*self._tasks)

    def offer(self, worker: Worker, owner: object) -> None:
        """Offer a paused worker to viewers; `owner` may reclaim it while no viewer has taken it."""
        if worker.state.is_serving:
            self._queue.offer(worker, owner)

    def release(self, worker: Worker) -> None:
        """Give a worker whose call is over to the next call, or close it if its replacement is ready."""
        if worker.state.phase is Phase.WORKING:
            # Its call was cancelled. The late response must not become the next caller's.
            worker.kill(Event.CRASH)
        if not worker.state.is_serving:
            return
        try:
            worker.finish_request()
        except OSError:
            worker.kill(Event.CRASH)
            return
        if worker.state.replacement is Replacement.NONE and self._is_worn(worker):
            worker.apply(Event.RETIRE)
            self._count("worker-recycled")
            self._start_one(worker)
        if worker.state.replacement is Replacement.READY:
            worker.close()
        else:
            self._queue.release(worker)

    def _is_worn(self, worker: Worker) -> bool:
        return (
            worker.responses >= self._settings.worker_renders
            or worker.resident_bytes > self._settings.worker_rss_bytes
        )

    def _start_one(self, replaced: Worker | None) -> None:
        """Start a process, which replaces one that still serves, or none."""
        if not self._is_closed:
            task = asyncio.create_task(self._run_worker(replaced))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_worker(self, replaced: Worker | None) -> None:
        """Run one process from its start until it has exited."""
        if self._is_closed:  # since the task was created
            return
        try:
            worker = self._start_worker()
        except OSError as error:
            self._start_failed(str(error), replaced)
            return
        self._workers.add(worker)
        try:
            self._add_ready(worker, await worker.receive_ready(), replaced)
            await worker.receive_responses()
        except (EOFError, OSError, protocol.ProtocolError) as error:
            end = error
        worker.apply(Event.CRASH)  # unless the server has ended it
        self._queue.remove(worker)
        if len(self.serving) < self._capacity:
            self.all_ready.clear()
        if worker.state.counter:
            self._count(worker.state.counter)
        if worker.state.needs_replacement:
            self._start_one(None)
        reason = await worker.wait_closed(end)
        self._workers.discard(worker)
        if worker.state.phase is Phase.START_FAILED:
            self._start_failed(reason, replaced)

    def _add_ready(self, worker: Worker, ready: protocol.Ready, replaced: Worker | None) -> None:
        self._failed_starts = 0
        if replaced:
            replaced.apply(Event.REPLACED)
            if self._queue.remove(replaced):
                replaced.close()
        if len(self.serving) >= self._capacity:
            self.all_ready.set()
        if not self._first_ready.done():
            self._first_ready.set_result(ready)
        self._queue.release(worker)

    def _start_failed(self, reason: str, replaced: Worker | None) -> None:
        """Fail `start` with the reason if no process was ready before; otherwise start another one later."""
        if self._is_closed:
            return
        self._count("worker-failed")
        if not self._first_ready.done():
            self._first_ready.set_exception(SettingsError([f"a render worker cannot start: {reason}"]))
            return
        if not self.serving:
            self._queue.fail_waiting(QueueFull(f"no render worker starts: {reason}"))
        delay_s = min(_RETRY_S * 2**self._failed_starts, _MAX_RETRY_S)
        self._failed_starts += 1
        asyncio.get_running_loop().call_later(delay_s, self._start_one, replaced)
