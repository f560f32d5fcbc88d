"""Renders originals in a pool of worker processes, each with one call at a time.

- A process that crashes, hangs or breaks the protocol costs only the call that it has.
- Waiting is bounded: the queue by count and bytes, a picture by its deadline.
- A call whose caller has gone is completed, and its worker is freed then.
- A viewer waits for warming only until the picture being made is done.

Decision 0005 says why no library is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import time
from typing import TYPE_CHECKING, cast

from galerly_cdn.errors import (
    Draining,
    Quarantined,
    QueueFull,
    RenderTimeout,
    TooManyBytes,
    WorkerDied,
)
from galerly_cdn.render.pool import process, protocol
from galerly_cdn.render.pool.assignment import Assignment
from galerly_cdn.render.pool.scheduling import MemoryBudget, Quarantine, WorkQueue
from galerly_cdn.render.pool.supervisor import Supervisor, Worker
from galerly_cdn.render.pool.worker_state import Event, Phase

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
    from typing import Any

    from galerly_cdn.errors import GalerlyError, RenderFailed
    from galerly_cdn.model import FactRecord, Facts, Job, Rendered
    from galerly_cdn.settings.table import Settings

Result = tuple[protocol.Done, bytes]

_MAX_WARMING = 64
"""Warming calls that may wait; each holds a file descriptor."""


def _ignore(_facts: Facts) -> None:
    """The default of `learn`."""


class WorkerPool:
    """The pool. `count` is called with the name of every event that operators count."""

    def __init__(
        self,
        settings: Settings,
        count: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        command: Sequence[str] = (),
        environment: Mapping[str, str] = process.ENVIRONMENT,
    ) -> None:
        self._settings = settings
        self._count = count
        self._capacity = capacity = settings.workers or _available_cores()
        self._queue: WorkQueue[Worker] = WorkQueue(
            settings.queue_renders, settings.queue_bytes, _MAX_WARMING, reserved=min(1, capacity - 1)
        )
        self._budget = MemoryBudget(settings.render_memory_bytes)
        self._quarantine = Quarantine(settings.quarantine_s, clock)
        limits = protocol.WorkerLimits(settings.worker_memory_bytes, settings.render_deadline_s)
        start_worker = functools.partial(Worker, command or process.worker_command(), limits, environment)
        self._supervisor = Supervisor(settings, capacity, self._queue, count, start_worker)
        self._accepted = 0
        self._drained = asyncio.Event()
        self._is_closing = self._is_closed = False

    @property
    def all_ready(self) -> asyncio.Event:
        """Set while every worker is ready or has a call."""
        return self._supervisor.all_ready

    @property
    def capacity(self) -> int:
        """The number of worker processes when all are ready."""
        return self._capacity

    @property
    def size(self) -> int:
        """The number of worker processes that are ready or have a call."""
        return len(self._supervisor.serving)

    @property
    def in_flight(self) -> int:
        """The number of calls that have a worker."""
        return self._accepted - self._queue.waiting - self._queue.warming

    @property
    def queued(self) -> int:
        """The number of viewers' calls that wait for a worker."""
        return self._queue.waiting

    async def start(self) -> protocol.Ready:
        """Start every worker; return when the first is ready. Raises `SettingsError` if it cannot start."""
        return await self._supervisor.start()

    async def close(self, drain_s: float) -> None:
        """Refuse new calls, let the accepted ones end within `drain_s`, then end every worker."""
        self._is_closing = True
        if self._accepted:
            self._drained.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), drain_s)
        self._is_closed = True
        self._queue.fail_waiting(Draining("the time to drain is over"))
        await self._supervisor.close()

    async def render(  # noqa: PLR0913 - what is known of the original and what is wanted of it
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Callable[[Facts], None] = _ignore,
    ) -> tuple[Rendered, bytes]:
        """Render a job for one picture of the original that `fd` reads. The caller closes `fd`.

        `token` names the original and its version, `known` is the record of that version. `learn` is called
        with the facts before this returns or raises, if the worker has read the header and the original is
        not known to be good. Raises `Unrenderable`, `Unavailable` or `RenderFailed`.
        """
        request = protocol.Request(length_bytes, job, known is not None and known.is_good)
        done, body = await self._call(fd, request, token, learn)
        return cast("Rendered", done.rendered), body

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        """Return the facts in the original's header. Raises as `render` does."""
        done, _ = await self._call(fd, protocol.Request(length_bytes, None), token)
        return cast("Facts", done.facts)

    async def warm(  # noqa: PLR0913 - as `render`
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Callable[[Facts], None] = _ignore,
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Yield every picture of a job as it is made, after all waiting viewers.

        While the caller handles a picture, a viewer may take the worker; another worker then starts with
        the pictures that are left. `known` and `learn` are as for `render`. Raises as `render` does; pictures
        yielded before an error are valid.
        """
        is_known_good = known is not None and known.is_good
        while job.pictures:
            request = protocol.Request(length_bytes, job, is_known_good)
            async with contextlib.aclosing(self._warm_on_one_worker(fd, request, token, learn)) as made:
                async for rendered, body in made:
                    is_known_good = True
                    job = job.of(one for one in job.pictures if one.target != rendered.target)
                    yield rendered, body

    async def _warm_on_one_worker(
        self, fd: int, request: protocol.Request, token: str, learn: Callable[[Facts], None]
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Yield the pictures that one worker makes before a viewer takes it."""
        call = await self._assign(fd, request, token, self._queue.acquire_for_warming, learn)
        task = self._start_task(call, call.first_result())
        try:
            while True:
                done, body = await asyncio.shield(task)
                yield cast("Rendered", done.rendered), body
                if call.is_complete:
                    return
                if self._is_closing:
                    raise Draining
                if not self._queue.reclaim(call.worker, call):
                    self._count("warm-interrupted")
                    return
                self._accepted += 1
                task = self._start_task(call, call.next_picture())
        finally:
            task.add_done_callback(lambda _: self._end_warming(call))

    async def _call(
        self, fd: int, request: protocol.Request, token: str, learn: Callable[[Facts], None] = _ignore
    ) -> Result:
        call = await self._assign(
            fd, request, token, lambda: self._queue.acquire(request.length_bytes), learn
        )
        return await asyncio.shield(self._start_task(call, call.first_result()))

    async def _assign(
        self,
        fd: int,
        request: protocol.Request,
        token: str,
        acquire: Callable[[], Awaitable[Worker]],
        learn: Callable[[Facts], None],
    ) -> Assignment:
        """Accept a call, wait for a worker and send it the request. `_start_task` must follow."""
        if self._is_closing:
            raise Draining
        if request.length_bytes > self._settings.max_original_bytes:
            raise TooManyBytes(f"{request.length_bytes} bytes over {self._settings.max_original_bytes}")
        if self._quarantine.contains(token):
            self._count("quarantined")
            raise Quarantined(token)
        self._accepted += 1
        deadline_s = self._settings.render_deadline_s
        try:
            while True:
                worker = await acquire()
                try:
                    return Assignment(
                        worker, fd, request, token, budget=self._budget, deadline_s=deadline_s, learn=learn
                    )
                except OSError:
                    worker.kill(Event.CRASH)  # it ended while it was free: try the next worker
                    if self._is_closed:  # there is no next worker
                        raise Draining("the time to drain is over") from None
        except BaseException as error:
            if isinstance(error, QueueFull):
                self._count("queue-full")
            self._finish_call()
            raise

    def _start_task(self, call: Assignment, step: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run one step of an accepted call in a task, which continues when the caller has gone."""
        task = asyncio.create_task(self._run(call, step))
        task.add_done_callback(lambda _: self._finish_call())
        return task

    async def _run(self, call: Assignment, step: Coroutine[Any, Any, Result]) -> Result:
        """Await one step; then the worker is free, offered to viewers between two pictures, or killed."""
        worker = call.worker
        try:
            return await step
        except TimeoutError:
            worker.kill(Event.TIMEOUT)
            timeout = RenderTimeout(f"over {self._settings.render_deadline_s} s")
            raise self._crash_error(call.token, timeout) from None
        except (EOFError, OSError, protocol.ProtocolError) as end:
            worker.kill(Event.CRASH)
            raise self._crash_error(call.token, WorkerDied(f"{type(end).__name__}: {end}")) from end
        finally:
            if worker.state.phase is Phase.PAUSED:
                self._supervisor.offer(worker, call)
            else:
                self._supervisor.release(worker)

    def _end_warming(self, call: Assignment) -> None:
        """Release the worker of a warming call whose caller wants no more pictures."""
        if self._queue.reclaim(call.worker, call):
            self._supervisor.release(call.worker)

    def _crash_error(self, token: str, error: RenderFailed) -> GalerlyError:
        """Record the crash and return the error for the caller whose render ended its worker."""
        if self._is_closed:
            return Draining(error.detail)
        if self._quarantine.record_crash(token):
            self._count("quarantined")
            return Quarantined(f"{token}: {error.detail}")
        return error

    def _finish_call(self) -> None:
        self._accepted -= 1
        if not self._accepted:
            self._drained.set()


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
