"""Keeps at most one run in the background, how long it lasts, and how it ended."""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from galerly_cdn.errors import CommandError, GalerlyError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from galerly_cdn.clock import Clock

R = TypeVar("R")
_log = logging.getLogger(__name__)


class Phase(StrEnum):
    """Where a run is."""

    NONE = "none"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class AlreadyRunning(CommandError):
    """There is a run, perhaps of another operator."""

    status = 409
    code = "already-running"
    public = "It is running already; wait until it has ended, or stop it."


class BackgroundRun(Generic[R]):
    """A run, which continues when the page that started it is closed.

    `result` is that of the last run that was successful, `problem` why the last run failed.
    """

    def __init__(self, clock: Clock) -> None:
        self.phase = Phase.NONE
        self.problem = ""
        self.result: R | None = None
        self.ended_s = 0.0
        """When the last run ended, in seconds of the epoch."""
        self._clock = clock
        self._began_s = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        return self.phase is Phase.RUNNING

    @property
    def elapsed_s(self) -> int:
        """Whole seconds since the beginning of the run."""
        return int(self._clock.monotonic() - self._began_s)

    def start(
        self, work: Callable[[], Coroutine[Any, Any, R]], at_end: Callable[[], None] = lambda: None
    ) -> None:
        """Begin a run. `at_end` is called at its end, also if it is stopped before `work` has begun.

        Raises `AlreadyRunning`.
        """
        if self.is_running:
            raise AlreadyRunning
        self.phase, self.problem, self._began_s = Phase.RUNNING, "", self._clock.monotonic()
        self._task = asyncio.create_task(self._run(work))
        self._task.add_done_callback(lambda _: self._end(at_end))

    async def stop(self) -> None:
        """End the run, if there is one, and wait until it has."""
        if self._task is not None:
            self._task.cancel()
        await self.wait()

    async def wait(self) -> None:
        """Wait until the run has ended, if there is one."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self, work: Callable[[], Coroutine[Any, Any, R]]) -> None:
        try:
            self.result = await work()
            self.phase = Phase.DONE
        except GalerlyError as error:
            self._fail(error.detail or error.public)
        except OSError as error:
            self._fail(f"{error.filename or 'This machine'}: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - nobody awaits the run: its page says how it ended
            _log.exception("a run of the dashboard failed")
            self._fail(f"An internal error occurred ({type(error).__name__}); the server's log has more.")

    def _end(self, at_end: Callable[[], None]) -> None:
        if self.is_running:
            self.phase = Phase.STOPPED
        self.ended_s = self._clock.wall()
        at_end()

    def _fail(self, problem: str) -> None:
        self.phase, self.problem = Phase.FAILED, problem
