"""Who renders? Worker processes, kept at strength, each given one original at a time.

Invariants: a process that dies, hangs or talks nonsense costs the one call it held and is replaced at once;
nobody waits unboundedly (the queue is bounded by count and bytes, a render by its deadline); a call whose
caller has gone still ends, and frees its worker. Why no library: decision 0005.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, NoReturn, cast

from galerly_cdn.errors import (
    Draining,
    Quarantined,
    QueueFull,
    RenderTimeout,
    SettingsError,
    TooManyBytes,
    Unrenderable,
    Unsettled,
    WorkerDied,
    by_code,
)
from galerly_cdn.render import process, wire
from galerly_cdn.render.admission import Budget, Quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from galerly_cdn.config import Settings
    from galerly_cdn.errors import GalerlyError, RenderFailed, Unavailable
    from galerly_cdn.model import Facts, Job, Rendered

_START_DEADLINE_S = 10.0
_RETRY_S = 0.25
_MAX_RETRY_S = 5.0


_ERRORS = {code: kind for code, kind in by_code().items() if issubclass(kind, (Unrenderable, Unsettled))}
"""What a worker may answer; anything else is garbage, for a worker is not trusted."""

Answer = tuple[wire.Message, bytes]


class _Worker(process.Process):
    """A process and what the server knows of it."""

    answers = 0
    resident_bytes = 0
    is_retired = False
    """A replacement was called for, so its end calls for none."""
    is_relieved = False
    """The replacement is there: it ends as soon as it is idle."""
    has_served = False
    asked: asyncio.Future[Answer] | None = None

    def next_answer(self) -> asyncio.Future[Answer]:
        """From now on one message is expected of it."""
        self.asked = asyncio.get_running_loop().create_future()
        return self.asked


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
        self._command = command or process.command()
        self._environment = environment
        self._bounds = wire.Bounds(settings.worker_memory_bytes, settings.render_deadline_s)
        self._strength = settings.workers or _cores()
        self._budget = Budget(settings.render_memory_bytes)
        self._quarantine = Quarantine(settings.quarantine_s, clock)
        self._processes: set[_Worker] = set()
        self._serving: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._waiting: dict[asyncio.Future[_Worker], int] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._accepted = 0
        self._is_closing = self._is_closed = False
        self._quiet = asyncio.Event()
        self.whole = asyncio.Event()
        """Set while every worker is there."""

    @property
    def in_flight(self) -> int:
        """Calls that a worker has in hand."""
        return self._accepted - len(self._waiting)

    @property
    def queued(self) -> int:
        """Calls that wait for a worker."""
        return len(self._waiting)

    async def start(self) -> wire.Hello:
        """Start every worker; return when the first is ready. Raises `SettingsError` if it cannot be."""
        self._first: asyncio.Future[wire.Hello] = asyncio.get_running_loop().create_future()
        for _ in range(self._strength):
            self._hire(None)
        try:
            return await self._first
        except BaseException:
            await self.close(0)
            raise

    async def close(self, drain_s: float) -> None:
        """Refuse new calls, let those accepted end within `drain_s`, then end every worker."""
        self._is_closing = True
        if self._accepted:
            self._quiet.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), drain_s)
        self._is_closed = True
        self._refuse_waiting(Draining("the time to drain is over"))
        for worker in self._processes:
            if worker in self._idle:
                worker.dismiss()
            else:
                worker.kill()
        await asyncio.gather(*self._lives)

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

    async def _send(self, fd: int, order: wire.Order) -> tuple[_Worker, asyncio.Future[Answer]]:
        while True:
            worker = await self._turn(order.length_bytes)
            try:
                worker.say(order, fd)
            except OSError:
                worker.kill()  # it died while idle; its life notices, this call asks the next
            else:
                return worker, worker.next_answer()

    async def _turn(self, length_bytes: int) -> _Worker:
        """A worker for this call alone: the one used last, whose memory is warm, or the next to be free."""
        if self._idle:
            return self._idle.pop()
        if (
            len(self._waiting) >= self._settings.queue_renders
            or sum(self._waiting.values()) + length_bytes > self._settings.queue_bytes
        ):
            self._count("queue-full")
            raise QueueFull(f"{len(self._waiting)} waiting")
        turn: asyncio.Future[_Worker] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = length_bytes
        try:
            return await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled() and not turn.exception():
                self._release(turn.result())
            raise

    async def _converse(
        self, worker: _Worker, answer: asyncio.Future[Answer], order: wire.Order, token: str
    ) -> tuple[wire.Done, bytes]:
        """One call, from the order sent to the worker's release."""
        try:
            async with asyncio.timeout(self._settings.render_deadline_s) as deadline:
                words, body = await answer
                if isinstance(words, wire.Weighed) and order.job:
                    left_s = (deadline.when() or 0) - _now()
                    deadline.reschedule(None)  # to wait for others' memory is no fault of this original
                    async with self._budget.share(words.weight_bytes):
                        deadline.reschedule(_now() + left_s)
                        answer = worker.next_answer()
                        worker.say(wire.Go())
                        words, body = await answer
            return _judge(worker, order, words, body)
        except TimeoutError:
            self._count("worker-killed")
            worker.kill()
            raise self._strike(token, RenderTimeout(f"over {self._settings.render_deadline_s} s")) from None
        except (EOFError, OSError, wire.Garbage) as end:
            worker.kill()
            raise self._strike(token, WorkerDied(f"{type(end).__name__}: {end}")) from end
        finally:
            worker.asked = None
            self._release(worker)

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

    def _refuse_waiting(self, error: Unavailable) -> None:
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(error)
        self._waiting.clear()

    def _release(self, worker: _Worker) -> None:
        """The worker's call is over: on to the next, or home."""
        if worker.is_ending or worker not in self._serving:
            return
        is_worn = (
            worker.answers >= self._settings.worker_renders
            or worker.resident_bytes > self._settings.worker_rss_bytes
        )
        if is_worn and not worker.is_retired:
            worker.is_retired = True
            self._count("worker-recycled")
            self._hire(worker)
        if worker.is_relieved:
            self._serving.discard(worker)
            worker.dismiss()
            return
        while self._waiting:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(worker)
                return
        self._idle.append(worker)

    def _hire(self, relieves: _Worker | None) -> None:
        """Start a process, in the place of one still serving or of none."""
        if not self._is_closed:
            life = asyncio.create_task(self._employ(relieves))
            self._lives.add(life)
            life.add_done_callback(self._lives.discard)

    async def _employ(self, relieves: _Worker | None) -> None:
        """The life of one process, from its start until it is reaped."""
        try:
            worker = _Worker(self._command, self._bounds, self._environment)
        except OSError as error:
            self._failed(str(error), relieves)
            return
        self._processes.add(worker)
        try:
            await self._serve(worker, relieves)
        except (EOFError, OSError, wire.Garbage) as error:
            end = error
        self._part(worker)
        if worker.has_served and not worker.is_ending:
            self._count("worker-died")
        if worker.has_served and not worker.is_retired:
            self._hire(None)
        how = await worker.reap()
        self._processes.discard(worker)
        reason = f"{end} {how}".strip()
        if worker.asked and not worker.asked.done():
            worker.asked.set_exception(type(end)(reason))
        if not worker.has_served:
            self._failed(reason, relieves)

    async def _serve(self, worker: _Worker, relieves: _Worker | None) -> NoReturn:
        """Hand on what the process says. Raises `EOFError`, `OSError` or `Garbage` when that ends."""
        async with asyncio.timeout(_START_DEADLINE_S):
            hello, _ = await worker.hear()
        if not isinstance(hello, wire.Hello):
            raise wire.Garbage(hello.detail if isinstance(hello, wire.Failed) else repr(hello))
        self._join(worker, hello, relieves)
        while True:
            answer = await worker.hear()
            if worker.asked is None or worker.asked.done():
                raise wire.Garbage("a message nobody asked for")
            worker.asked.set_result(answer)

    def _join(self, worker: _Worker, hello: wire.Hello, relieves: _Worker | None) -> None:
        self._failures = 0
        worker.has_served = True
        self._serving.add(worker)
        if relieves:
            relieves.is_relieved = True
            if relieves in self._idle:
                self._part(relieves)
                relieves.dismiss()
        if len(self._serving) >= self._strength:
            self.whole.set()
        if not self._first.done():
            self._first.set_result(hello)
        self._release(worker)

    def _part(self, worker: _Worker) -> None:
        self._serving.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if len(self._serving) < self._strength:
            self.whole.clear()

    def _failed(self, reason: str, relieves: _Worker | None) -> None:
        """A process did not start: the first one's reason ends `start`, later ones are tried again."""
        if self._is_closed:
            return
        self._count("worker-failed")
        if not self._first.done():
            self._first.set_exception(SettingsError([f"a render worker cannot start: {reason}"]))
            return
        if not self._serving:
            self._refuse_waiting(QueueFull(f"no worker starts: {reason}"))
        pause_s = min(_RETRY_S * 2**self._failures, _MAX_RETRY_S)
        self._failures += 1
        asyncio.get_running_loop().call_later(pause_s, self._hire, relieves)


def _judge(worker: _Worker, order: wire.Order, words: wire.Message, body: bytes) -> tuple[wire.Done, bytes]:
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
