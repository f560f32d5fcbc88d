"""Renders originals in a pool of worker processes, each with one call at a time.

- A process that crashes, hangs or breaks the protocol costs only the call that it has.
- Waiting is bounded: for a worker by the expected time, count and bytes, for a picture by its deadline.
- A call whose caller has gone is completed, and its worker is freed then.
- A viewer waits for warming only until the picture being made is done.

Decision 0005 says why no library is used.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from galerly_cdn.model import ignore_facts
from galerly_cdn.render.pool import fork_server_process, protocol
from galerly_cdn.render.pool.admission import Admission, Bounds, Place, Work
from galerly_cdn.render.pool.assignment import Assignment
from galerly_cdn.render.pool.cores import available_cores
from galerly_cdn.render.pool.process import ForkServer
from galerly_cdn.render.pool.scheduling import MemoryBudget, Quarantine, WorkQueue
from galerly_cdn.render.pool.supervisor import Supervisor, Worker
from galerly_cdn.render.pool.worker_state import Event, Phase, is_crash, is_too_slow

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
    from typing import Any

    from galerly_cdn.errors import GalerlyError, RenderFailed
    from galerly_cdn.model import FactRecord, Facts, Job, Learn, Rendered
    from galerly_cdn.render.pool.fork_server_process import ForkServerProcess
    from galerly_cdn.render.pool.supervisor import WorkerFacts
    from galerly_cdn.settings.table import Settings

Result = tuple[protocol.Done, bytes]

_MAX_WARMING = 64
"""Warming calls that may wait; each holds a file descriptor."""


class AdmittedCall:
    """A call that may open its original now, and then run one request on it."""

    def __init__(self, run: Callable[..., Awaitable[asyncio.Task[Result]]], place: Place) -> None:
        self._run = run
        self._place = place
        self.task: asyncio.Task[Result] | None = None

    async def run(
        self, fd: int, request: protocol.Request, token: str, learn: Learn = ignore_facts
    ) -> Result:
        """Run the request, which is completed even if this is cancelled. Raises as `WorkerPool.render`."""
        self.task = await self._run(fd, request, token, self._place, learn)
        return await asyncio.shield(self.task)

    async def render(  # noqa: PLR0913 - what is known of the original and what is wanted of it
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
    ) -> tuple[Rendered, bytes]:
        """Render as `WorkerPool.render` does."""
        request = protocol.Request(length_bytes, job, known is not None and known.is_good)
        done, body = await self.run(fd, request, token, learn)
        return cast("Rendered", done.rendered), body

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        """Return the facts in the original's header. Raises as `WorkerPool.render` does."""
        done, _ = await self.run(fd, protocol.Request(length_bytes, None), token)
        return cast("Facts", done.facts)


def ignore_render(_kind: str, _seconds: float) -> None:
    """The `observe` of a pool whose renders nobody measures."""


class WorkerPool:
    """The pool. `count` is called with the name of every event that operators count.

    `observe` is called with the kind of an original and the seconds that a worker took for its first
    picture: reading, decoding, scaling and encoding, which libvips does in one pass.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: Settings,
        count: Callable[[str], None],
        *,
        observe: Callable[[str, float], None] = ignore_render,
        clock: Callable[[], float] = time.monotonic,
        command: Sequence[str] = (),
        started: ForkServerProcess | None = None,
    ) -> None:
        """`command` is a `worker_command`; `started` is its process, if that runs already."""
        self._settings = settings
        self._count = count
        self._observe = observe
        self._capacity = capacity = settings.workers or available_cores()
        bounds = Bounds(settings.queue_renders, settings.queue_bytes, settings.queue_wait_s)
        self._admission = Admission(capacity, bounds, clock)
        self._queue: WorkQueue[Worker] = WorkQueue(_MAX_WARMING, reserved=min(1, capacity - 1))
        self._budget = MemoryBudget(settings.render_memory_bytes)
        self._quarantine = Quarantine(settings.quarantine_s, clock)
        limits = protocol.WorkerLimits(settings.worker_memory_bytes, settings.render_deadline_s)
        command = command or fork_server_process.worker_command()
        fork_server = ForkServer(command, limits, started)
        self._supervisor = Supervisor(settings, capacity, self._queue, count, fork_server)
        self._accepted = self._running = 0
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
        return self._running

    @property
    def queued(self) -> int:
        """The number of viewers' calls that wait for a worker."""
        return self._admission.waiting + self._queue.waiting

    @property
    def worker_facts(self) -> list[WorkerFacts]:
        """What each worker process does now."""
        return self._supervisor.facts

    def oldest_wait_s(self) -> float:
        """How long the oldest viewer's call that has no worker yet has waited; 0 if there is none."""
        return self._admission.oldest_wait_s()

    def phases(self) -> Counter[Phase]:
        """The number of worker processes in each phase."""
        return self._supervisor.phases()

    async def start(self) -> protocol.Ready:
        """Start every worker; return when the first is ready. Raises `SettingsError` if it cannot start."""
        return await self._supervisor.start()

    async def close(self, drain_s: float) -> None:
        """Refuse new calls, let the accepted ones end within `drain_s`, then end every worker."""
        self._is_closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self._accepted:
                    self._drained.clear()
                    await self._drained.wait()
        self._is_closed = True
        error = Draining("the time to drain is over")
        self._admission.fail_waiting(error)
        self._queue.fail_waiting(error)
        await self._supervisor.close()

    @contextlib.asynccontextmanager
    async def admit(
        self, length_bytes: int, job: Job | None, token: str
    ) -> AsyncGenerator[AdmittedCall, None]:
        """Wait until the call may open its original, and keep its place until its render is over.

        `token` names the original and its version. Raises `Unrenderable` or `Unavailable`.
        """
        self._check_admissible(length_bytes, token)
        self._accepted += 1
        try:
            place = await self._admission.enter(Work(job and job.pictures[0].target, length_bytes))
            call = AdmittedCall(self._run_request, place)
            try:
                yield call
            finally:
                if call.task is None:
                    self._admission.leave(place)
                else:
                    call.task.add_done_callback(lambda _: self._admission.leave(place))
        except QueueFull:
            self._count("queue-full")
            raise
        finally:
            self._finish_call()

    async def render(  # noqa: PLR0913 - as `AdmittedCall.render`
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
    ) -> tuple[Rendered, bytes]:
        """Render a job for one picture of the original that `fd` reads. The caller closes `fd`.

        `token` names the original and its version, `known` is the record of that version. `learn` is called
        with the facts before this returns or raises, if the worker has read the header and the original is
        not known to be good. Raises `Unrenderable`, `Unavailable` or `RenderFailed`.
        """
        async with self.admit(length_bytes, job, token) as call:
            return await call.render(fd, length_bytes, job, token, known=known, learn=learn)

    async def render_if_free(
        self, fd: int, length_bytes: int, job: Job, token: str
    ) -> tuple[Rendered, bytes]:
        """As `render`, on a worker that is free. Raises `QueueFull` at once if every worker has a call."""
        if 0 < self.size <= self._running:
            raise QueueFull("every worker has a call")
        self._check_admissible(length_bytes, token)
        request = protocol.Request(length_bytes, job)
        call = await self._assign(fd, request, token, self._queue.acquire, ignore_facts)
        done, body = await asyncio.shield(self._start_task(call, call.first_result()))
        return cast("Rendered", done.rendered), body

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        """Return the facts in the original's header. Raises as `render` does."""
        async with self.admit(length_bytes, None, token) as call:
            return await call.inspect(fd, length_bytes, token)

    async def warm(  # noqa: PLR0913 - as `render`
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
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
        self, fd: int, request: protocol.Request, token: str, learn: Learn
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Yield the pictures that one worker makes before a viewer takes it."""
        self._check_admissible(request.length_bytes, token)
        try:
            call = await self._assign(fd, request, token, self._queue.acquire_for_warming, learn)
        except QueueFull:
            self._count("queue-full")
            raise
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
                task = self._start_task(call, call.next_picture())
        finally:
            task.add_done_callback(lambda _: self._end_warming(call))

    async def _run_request(
        self,
        fd: int,
        request: protocol.Request,
        token: str,
        place: Place,
        learn: Learn,
    ) -> asyncio.Task[Result]:
        """Wait for a worker for an admitted call and return the task that runs it."""
        self._check_original(request.length_bytes, token)
        call = await self._assign(fd, request, token, self._queue.acquire, learn)
        self._admission.start(place)
        return self._start_task(call, call.first_result())

    def _check_admissible(self, length_bytes: int, token: str) -> None:
        if self._is_closing:
            raise Draining
        self._check_original(length_bytes, token)

    def _check_original(self, length_bytes: int, token: str) -> None:
        if length_bytes > self._settings.max_original_bytes:
            raise TooManyBytes(f"{length_bytes} bytes over {self._settings.max_original_bytes}")
        if self._quarantine.contains(token):
            self._count("quarantined")
            raise Quarantined(token)

    async def _assign(
        self,
        fd: int,
        request: protocol.Request,
        token: str,
        acquire: Callable[[], Awaitable[Worker]],
        learn: Learn,
    ) -> Assignment:
        """Wait for a worker and send it the request. `_start_task` must follow."""
        deadline_s = self._settings.render_deadline_s
        self._accepted += 1
        try:
            while not self._is_closed:
                worker = await acquire()
                try:
                    return Assignment(
                        worker,
                        fd,
                        request,
                        token,
                        budget=self._budget,
                        deadline_s=deadline_s,
                        learn=learn,
                        observe=self._observe,
                    )
                except OSError:
                    worker.kill(Event.CRASH)  # it ended while it was free: try the next worker
            raise Draining("the time to drain is over")
        finally:
            self._finish_call()

    def _start_task(self, call: Assignment, step: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run one step of an accepted call in a task, which continues when the caller has gone."""
        self._accepted += 1
        self._running += 1
        task = asyncio.create_task(self._run(call, step))
        task.add_done_callback(self._finish_task)
        return task

    def _finish_task(self, _task: asyncio.Task[Result]) -> None:
        self._running -= 1
        self._finish_call()

    async def _run(self, call: Assignment, step: Coroutine[Any, Any, Result]) -> Result:
        """Await one step; then the worker is free, offered to viewers between two pictures, or killed."""
        worker, deadline_s = call.worker, self._settings.render_deadline_s
        began_cpu_s = worker.cpu_s()
        try:
            return await step
        except TimeoutError:
            spent_cpu_s = worker.cpu_s() - began_cpu_s
            worker.kill(Event.TIMEOUT)
            is_strike = is_too_slow(spent_cpu_s, deadline_s) or is_crash(await worker.exit_code())
            timeout = RenderTimeout(f"over {deadline_s} s, of which {spent_cpu_s:.1f} s of CPU time")
            raise self._end_error(call.token, timeout, is_strike=is_strike) from None
        except (EOFError, OSError, protocol.ProtocolError) as end:
            worker.kill(Event.CRASH)
            is_strike = isinstance(end, protocol.ProtocolError) or is_crash(await worker.exit_code())
            died = WorkerDied(f"{type(end).__name__}: {end}")
            raise self._end_error(call.token, died, is_strike=is_strike) from end
        finally:
            if worker.state.phase is Phase.PAUSED:
                self._supervisor.offer(worker, call)
            else:
                self._supervisor.release(worker)

    def _end_warming(self, call: Assignment) -> None:
        """Release the worker of a warming call whose caller wants no more pictures."""
        if self._queue.reclaim(call.worker, call):
            self._supervisor.release(call.worker)

    def _end_error(self, token: str, error: RenderFailed, *, is_strike: bool) -> GalerlyError:
        """The error for the caller whose worker has ended. A strike is recorded against the original.

        A strike is a crash, or CPU time as long as the deadline. A time-out of a busy machine and a worker
        that was killed from outside say nothing about the original.
        """
        if self._is_closed:
            return Draining(error.detail)
        if is_strike and self._quarantine.record_crash(token):
            self._count("quarantined")
            return Quarantined(f"{token}: {error.detail}")
        return error

    def _finish_call(self) -> None:
        self._accepted -= 1
        if not self._accepted:
            self._drained.set()
