"""Who renders this original? A worker process, for one call at a time.

Invariants: a process that dies, hangs or talks nonsense costs the one call it held; nobody waits unboundedly
(the queue is bounded by count and bytes, a picture by its deadline); a call whose caller has gone still ends
and frees its worker; no viewer waits for more of a warming than the picture being made. Why no library:
decision 0005.
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

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
    from typing import Any

    from galerly_cdn.errors import GalerlyError, RenderFailed
    from galerly_cdn.model import Facts, Job, Rendered
    from galerly_cdn.settings.table import Settings

Answered = tuple[protocol.Done, bytes]

_MAX_WARMING = 64
"""Jobs that may wait to be warmed; each holds a descriptor."""


class WorkerPool:
    """The pool. `count` hears of every event an operator would want counted."""

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
        self._strength = strength = settings.workers or _cores()
        self._turns: WorkQueue[Worker] = WorkQueue(
            settings.queue_renders, settings.queue_bytes, _MAX_WARMING, kept=min(1, strength - 1)
        )
        self._budget = MemoryBudget(settings.render_memory_bytes)
        self._quarantine = Quarantine(settings.quarantine_s, clock)
        bounds = protocol.WorkerLimits(settings.worker_memory_bytes, settings.render_deadline_s)
        begin = functools.partial(Worker, command or process.worker_command(), bounds, environment)
        self._crew = Supervisor(settings, strength, self._turns, count, begin)
        self._accepted = 0
        self._quiet = asyncio.Event()
        self._is_closing = self._is_closed = False

    @property
    def whole(self) -> asyncio.Event:
        """Set while every worker is there."""
        return self._crew.whole

    @property
    def strength(self) -> int:
        """Worker processes, when all are there."""
        return self._strength

    @property
    def serving(self) -> int:
        """Worker processes that are ready or at work."""
        return self._crew.serving

    @property
    def in_flight(self) -> int:
        """Calls that a worker has in hand."""
        return self._accepted - self._turns.waiting - self._turns.warming

    @property
    def queued(self) -> int:
        """Viewers' calls that wait for a worker."""
        return self._turns.waiting

    async def start(self) -> protocol.Ready:
        """Start every worker; return when the first is ready. Raises `SettingsError` if it cannot be."""
        return await self._crew.start()

    async def close(self, drain_s: float) -> None:
        """Refuse new calls, let those accepted end within `drain_s`, then end every worker."""
        self._is_closing = True
        if self._accepted:
            self._quiet.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), drain_s)
        self._is_closed = True
        self._turns.refuse(Draining("the time to drain is over"))
        await self._crew.close()

    async def render(self, fd: int, length_bytes: int, job: Job, token: str) -> tuple[Rendered, bytes]:
        """A job for one picture, of the original that `fd` reads. The caller closes `fd`.

        `token` names the original and its version. Raises `Unrenderable`, `Unavailable` or `RenderFailed`.
        """
        done, body = await self._ask(fd, protocol.Request(length_bytes, job), token)
        return cast("Rendered", done.rendered), body

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        """What the original's header says. Raises as `render` does."""
        done, _ = await self._ask(fd, protocol.Request(length_bytes, None), token)
        return cast("Facts", done.facts)

    async def warm(
        self, fd: int, length_bytes: int, job: Job, token: str
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Every picture of a job as it is made, behind all viewers.

        While the caller has a picture, a viewer may take the worker; another then begins with what is
        left. Raises as `render` does; what came before holds.
        """
        while job.pictures:
            async with contextlib.aclosing(self._shift(fd, length_bytes, job, token)) as shift:
                async for rendered, body in shift:
                    job = job.of(one for one in job.pictures if one.target != rendered.target)
                    yield rendered, body

    async def _shift(
        self, fd: int, length_bytes: int, job: Job, token: str
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """The pictures that one worker makes before a viewer takes it."""
        call = await self._begin(fd, protocol.Request(length_bytes, job), token, self._turns.take_to_warm)
        work = self._tend(call, call.first())
        try:
            while True:
                done, body = await asyncio.shield(work)
                yield cast("Rendered", done.rendered), body
                if call.is_over:
                    return
                if self._is_closing:
                    raise Draining
                if not self._turns.claim(call.worker, call):
                    self._count("warm-interrupted")
                    return
                self._accepted += 1
                work = self._tend(call, call.picture())
        finally:
            work.add_done_callback(lambda _: self._leave(call))

    async def _ask(self, fd: int, order: protocol.Request, token: str) -> Answered:
        call = await self._begin(fd, order, token, lambda: self._turns.take(order.length_bytes))
        return await asyncio.shield(self._tend(call, call.first()))

    async def _begin(
        self, fd: int, order: protocol.Request, token: str, take: Callable[[], Awaitable[Worker]]
    ) -> Assignment:
        """Wait for a worker and give it the order: a call accepted, whose work is still to be tended."""
        if self._is_closing:
            raise Draining
        if order.length_bytes > self._settings.max_original_bytes:
            raise TooManyBytes(f"{order.length_bytes} bytes over {self._settings.max_original_bytes}")
        if self._quarantine.holds(token):
            self._count("quarantined")
            raise Quarantined(token)
        self._accepted += 1
        deadline_s = self._settings.render_deadline_s
        try:
            while True:
                worker = await take()
                try:
                    return Assignment(worker, fd, order, token, budget=self._budget, deadline_s=deadline_s)
                except OSError:
                    worker.kill()  # it died while free: its life notices, this call asks the next
        except BaseException as error:
            if isinstance(error, QueueFull):
                self._count("queue-full")
            self._settle()
            raise

    def _tend(self, call: Assignment, talk: Coroutine[Any, Any, Answered]) -> asyncio.Task[Answered]:
        """The work of an accepted call, which goes on when its caller has gone."""
        work = asyncio.create_task(self._work(call, talk))
        work.add_done_callback(lambda _: self._settle())
        return work

    async def _work(self, call: Assignment, talk: Coroutine[Any, Any, Answered]) -> Answered:
        """What is said until the worker is free again, or pauses."""
        worker = call.worker
        try:
            return await talk
        except TimeoutError:
            worker.fate = "worker-killed"
            worker.kill()
            late = RenderTimeout(f"over {self._settings.render_deadline_s} s")
            raise self._strike(call.token, late) from None
        except (EOFError, OSError, protocol.ProtocolError) as end:
            worker.kill()
            raise self._strike(call.token, WorkerDied(f"{type(end).__name__}: {end}")) from end
        finally:
            worker.asked = None
            if worker.is_paused:
                self._crew.lend(worker, call)
            else:
                self._crew.release(worker)

    def _leave(self, call: Assignment) -> None:
        """The caller wants no more of it."""
        if self._turns.claim(call.worker, call):
            self._crew.release(call.worker)

    def _strike(self, token: str, error: RenderFailed) -> GalerlyError:
        """What to tell the caller whose render ended its worker."""
        if self._is_closed:
            return Draining(error.detail)
        if self._quarantine.strike(token):
            self._count("quarantined")
            return Quarantined(f"{token}: {error.detail}")
        return error

    def _settle(self) -> None:
        self._accepted -= 1
        if not self._accepted:
            self._quiet.set()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
