"""Who renders this original? A worker process, for one call at a time.

Invariants: a process that dies, hangs or talks nonsense costs the one call it held; nobody waits unboundedly
(the queue is bounded by count and bytes, a render by its deadline); a call whose caller has gone still ends
and frees its worker. Why no library: decision 0005.
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
    Unrenderable,
    Unsettled,
    WorkerDied,
    by_code,
)
from galerly_cdn.render import process, wire
from galerly_cdn.render.admission import Budget, Quarantine, Turns
from galerly_cdn.render.crew import Crew, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from galerly_cdn.config import Settings
    from galerly_cdn.errors import GalerlyError, RenderFailed
    from galerly_cdn.model import Facts, Job, Rendered
    from galerly_cdn.render.crew import Answer

_ERRORS = {code: kind for code, kind in by_code().items() if issubclass(kind, (Unrenderable, Unsettled))}
"""What a worker may answer; anything else is garbage, for a worker is not trusted."""


class Workers:
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
        self._turns: Turns[Worker] = Turns(settings.queue_renders, settings.queue_bytes)
        self._budget = Budget(settings.render_memory_bytes)
        self._quarantine = Quarantine(settings.quarantine_s, clock)
        bounds = wire.Bounds(settings.worker_memory_bytes, settings.render_deadline_s)
        begin = functools.partial(Worker, command or process.command(), bounds, environment)
        self._crew = Crew(settings, settings.workers or _cores(), self._turns, count, begin)
        self._accepted = 0
        self._quiet = asyncio.Event()
        self._is_closing = self._is_closed = False

    @property
    def whole(self) -> asyncio.Event:
        """Set while every worker is there."""
        return self._crew.whole

    @property
    def in_flight(self) -> int:
        """Calls that a worker has in hand."""
        return self._accepted - self._turns.waiting

    @property
    def queued(self) -> int:
        """Calls that wait for a worker."""
        return self._turns.waiting

    async def start(self) -> wire.Hello:
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
        """Render the original that `fd` reads; `token` names it and its version. The caller closes `fd`.

        Raises `Unrenderable`, `Unavailable` or `RenderFailed`.
        """
        done, body = await self._ask(fd, wire.Order(length_bytes, job), token)
        return cast("Rendered", done.rendered), body

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        """What the original's header says. Raises as `render` does."""
        done, _ = await self._ask(fd, wire.Order(length_bytes, None), token)
        return cast("Facts", done.facts)

    async def _ask(self, fd: int, order: wire.Order, token: str) -> tuple[wire.Done, bytes]:
        if self._is_closing:
            raise Draining
        if order.length_bytes > self._settings.max_original_bytes:
            raise TooManyBytes(f"{order.length_bytes} bytes over {self._settings.max_original_bytes}")
        if self._quarantine.holds(token):
            self._count("quarantined")
            raise Quarantined(token)
        self._accepted += 1
        try:
            worker, answer = await self._send(fd, order)
        except BaseException:
            self._settle()
            raise
        call = asyncio.create_task(self._converse(worker, answer, order, token))
        call.add_done_callback(lambda _: self._settle())
        return await asyncio.shield(call)

    async def _send(self, fd: int, order: wire.Order) -> tuple[Worker, asyncio.Future[Answer]]:
        while True:
            try:
                worker = await self._turns.take(order.length_bytes)
            except QueueFull:
                self._count("queue-full")
                raise
            try:
                worker.say(order, fd)
            except OSError:
                worker.kill()  # it died while free: its life notices, this call asks the next
            else:
                return worker, worker.next_answer()

    async def _converse(
        self, worker: Worker, answer: asyncio.Future[Answer], order: wire.Order, token: str
    ) -> tuple[wire.Done, bytes]:
        """One call, from the order sent to the worker's release."""
        deadline_s = self._settings.render_deadline_s
        try:
            async with asyncio.timeout(deadline_s) as deadline:
                words, body = await answer
                if isinstance(words, wire.Weighed) and order.job:
                    left_s = cast("float", deadline.when()) - _now()
                    deadline.reschedule(None)  # to wait for others' memory is no fault of this original
                    async with self._budget.share(words.weight_bytes):
                        deadline.reschedule(_now() + left_s)
                        answer = worker.next_answer()
                        worker.say(wire.Go())
                        words, body = await answer
            return _judge(worker, order, words, body)
        except TimeoutError:
            worker.fate = "worker-killed"
            worker.kill()
            raise self._strike(token, RenderTimeout(f"over {deadline_s} s")) from None
        except (EOFError, OSError, wire.Garbage) as end:
            worker.kill()
            raise self._strike(token, WorkerDied(f"{type(end).__name__}: {end}")) from end
        finally:
            worker.asked = None
            self._crew.release(worker)

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


def _judge(worker: Worker, order: wire.Order, words: wire.Message, body: bytes) -> tuple[wire.Done, bytes]:
    """The result, or the error it stands for. Raises `Garbage` unless it fits the order."""
    if not isinstance(words, (wire.Done, wire.Failed)):
        raise wire.Garbage(repr(words))
    worker.answers += 1
    worker.resident_bytes = words.resident_bytes
    if isinstance(words, wire.Failed):
        if words.code not in _ERRORS:
            raise wire.Garbage(f"{words.code}: {words.detail}")
        raise _ERRORS[words.code](words.detail)
    fits = words.rendered and words.rendered.length_bytes == len(body) if order.job else words.facts
    if not fits:
        raise wire.Garbage(repr(words))
    return words, body


def _now() -> float:
    return asyncio.get_running_loop().time()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
