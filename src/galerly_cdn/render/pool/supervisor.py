"""Are there enough workers? A process that ends is replaced at once, a worn one before it leaves.

Invariant: as many processes as `strength` serve or are on their way, from `start` until `close`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from galerly_cdn.errors import QueueFull, SettingsError
from galerly_cdn.render.pool import process, protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.render.pool.scheduling import WorkQueue
    from galerly_cdn.settings.table import Settings

Answer = tuple[protocol.Message, bytes]

_START_DEADLINE_S = 10.0
_RETRY_S = 0.25
_MAX_RETRY_S = 5.0


class Worker(process.WorkerProcess):
    """A process, and what the server knows of it."""

    answers = 0
    resident_bytes = 0
    has_served = False
    """It said hello."""
    is_retired = False
    """A replacement was called for: its end calls for none."""
    is_relieved = False
    """The replacement is there: it ends as soon as it is free."""
    fate: str | None = "worker-died"
    """What to count when it ends; None once it was dismissed."""
    is_paused = False
    """It waits between two pictures of a job."""
    asked: asyncio.Future[Answer] | None = None

    def order(self, order: protocol.Request, fd: int) -> None:
        """Give an order, which ends the job it may be pausing in. Raises `OSError`."""
        self.stop()
        self.say(order, fd)

    def go_on(self) -> None:
        """Have the next picture made. Raises `OSError`."""
        self.is_paused = False
        self.say(protocol.Continue())

    def stop(self) -> None:
        """End the job it may be pausing in. Raises `OSError`."""
        if self.is_paused:
            self.is_paused = False
            self.say(protocol.Abandon())

    def next_answer(self) -> asyncio.Future[Answer]:
        """From now on one message is expected of it; anything unasked ends it."""
        self.asked = asyncio.get_running_loop().create_future()
        return self.asked


class Supervisor:
    """The workers at hand; those that are free stand in `turns`."""

    def __init__(
        self,
        settings: Settings,
        strength: int,
        turns: WorkQueue[Worker],
        count: Callable[[str], None],
        begin: Callable[[], Worker],
    ) -> None:
        self._settings = settings
        self._strength = strength
        self._turns = turns
        self._count = count
        self._begin = begin
        self._processes: set[Worker] = set()
        self._serving: set[Worker] = set()
        self._lives: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._is_closed = False
        self.whole = asyncio.Event()
        """Set while every worker is there."""

    @property
    def serving(self) -> int:
        """Workers that are ready or at work."""
        return len(self._serving)

    async def start(self) -> protocol.Ready:
        """Start every worker; return when the first is ready. Raises `SettingsError` if it cannot be."""
        self._first: asyncio.Future[protocol.Ready] = asyncio.get_running_loop().create_future()
        for _ in range(self._strength):
            self._hire(None)
        try:
            return await self._first
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End every process: the free ones by asking, the others by force."""
        self._is_closed = True
        for worker in self._processes:
            worker.fate = None
            if self._turns.withdraw(worker):
                worker.dismiss()
            else:
                worker.kill()
        await asyncio.gather(*self._lives)

    def lend(self, worker: Worker, by: object) -> None:
        """The worker pauses in a job of `by`, who may claim it back while nobody else has taken it."""
        if not worker.is_ending and worker in self._serving:
            self._turns.lend(worker, by)

    def release(self, worker: Worker) -> None:
        """The worker's call is over: on to the next, or home."""
        if worker.is_ending or worker not in self._serving:
            return
        try:
            worker.stop()
        except OSError:
            worker.kill()
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
            self._dismiss(worker)
        else:
            self._turns.give(worker)

    def _hire(self, relieves: Worker | None) -> None:
        """Start a process, in the place of one still serving or of none."""
        if not self._is_closed:
            life = asyncio.create_task(self._employ(relieves))
            self._lives.add(life)
            life.add_done_callback(self._lives.discard)

    async def _employ(self, relieves: Worker | None) -> None:
        """The life of one process, from its start until it is reaped."""
        if self._is_closed:  # since it was hired
            return
        try:
            worker = self._begin()
        except OSError as error:
            self._failed(str(error), relieves)
            return
        self._processes.add(worker)
        try:
            await self._serve(worker, relieves)
        except (EOFError, OSError, protocol.ProtocolError) as error:
            end = error
        self._part(worker)
        if worker.has_served and worker.fate:
            self._count(worker.fate)
        if worker.has_served and not worker.is_retired:
            self._hire(None)
        how = await worker.reap()
        self._processes.discard(worker)
        reason = f"{end} {how}".strip()
        if worker.asked and not worker.asked.done():
            worker.asked.set_exception(type(end)(reason))
        if not worker.has_served:
            self._failed(reason, relieves)

    async def _serve(self, worker: Worker, relieves: Worker | None) -> NoReturn:
        """Hand on what the process says. Raises `EOFError`, `OSError` or `Garbage` when that ends."""
        async with asyncio.timeout(_START_DEADLINE_S):
            hello, _ = await worker.hear()
        if not isinstance(hello, protocol.Ready):
            raise protocol.ProtocolError(hello.detail if isinstance(hello, protocol.Failed) else repr(hello))
        self._join(worker, hello, relieves)
        while True:
            answer = await worker.hear()
            if worker.asked is None or worker.asked.done():
                raise protocol.ProtocolError("a message nobody asked for")
            worker.asked.set_result(answer)

    def _join(self, worker: Worker, hello: protocol.Ready, relieves: Worker | None) -> None:
        self._failures = 0
        worker.has_served = True
        self._serving.add(worker)
        if relieves:
            relieves.is_relieved = True
            if self._turns.withdraw(relieves):
                self._dismiss(relieves)
        if len(self._serving) >= self._strength:
            self.whole.set()
        if not self._first.done():
            self._first.set_result(hello)
        self._turns.give(worker)

    def _dismiss(self, worker: Worker) -> None:
        self._serving.discard(worker)
        worker.fate = None
        worker.dismiss()

    def _part(self, worker: Worker) -> None:
        self._serving.discard(worker)
        self._turns.withdraw(worker)
        if len(self._serving) < self._strength:
            self.whole.clear()

    def _failed(self, reason: str, relieves: Worker | None) -> None:
        """A process did not start: the first one's reason ends `start`, later ones are tried again."""
        if self._is_closed:
            return
        self._count("worker-failed")
        if not self._first.done():
            self._first.set_exception(SettingsError([f"a render worker cannot start: {reason}"]))
            return
        if not self._serving:
            self._turns.refuse(QueueFull(f"no worker starts: {reason}"))
        pause_s = min(_RETRY_S * 2**self._failures, _MAX_RETRY_S)
        self._failures += 1
        asyncio.get_running_loop().call_later(pause_s, self._hire, relieves)
