"""Is the process alive, and can it do its work? Asked by whoever restarts it, and whoever sends it viewers.

`live` says that the loop turns, and nothing of what we stand on: no restart mends a store. `ready` renders a
picture in a worker and asks the store, at most once in `_FRESH_S` however often it is asked itself.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from typing import TYPE_CHECKING

from galerly_cdn.admin.responses import json_response
from galerly_cdn.cache import SingleFlight
from galerly_cdn.errors import GalerlyError, NoSuchOriginal, QueueFull
from galerly_cdn.model import Format, Job, Picture, Size, Target
from galerly_cdn.render.sample_images import SPECIMENS
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.fill import Renderer
    from galerly_cdn.http.responses import Response
    from galerly_cdn.model import Limits
    from galerly_cdn.store.interfaces import Originals

_FRESH_S = 5.0
_PATIENCE_S = 5.0
_NOBODY = "galerly-cdn/readyz"
"""A key whose head every store can tell: that there is none."""
_PICTURE = Picture(Target(Size(16, 16), Format.JPEG), {Format.JPEG: 80})
OK = "ok"
LATE = "late"
DRAINING = "draining"


class Live(Value, frozen=True):
    """The process answers."""

    live: bool


class Readiness(Value, frozen=True):
    """Whether viewers should be sent here; of each part `ok`, an error's code, or `late`."""

    ready: bool
    render: str
    store: str
    listener: str
    """`draining` once the process has been told to stop."""


class Health:
    """Answers `livez` and `readyz`. `clock` is monotonic, in seconds."""

    def __init__(
        self, renderer: Renderer, originals: Originals, limits: Limits, clock: Callable[[], float]
    ) -> None:
        self._renderer = renderer
        self._originals = originals
        self._job = Job((_PICTURE,), limits)
        self._clock = clock
        self._tries = itertools.count(1)
        self._checks: SingleFlight[None, tuple[str, str]] = SingleFlight()
        self._checked: tuple[str, str] | None = None
        self._checked_s = 0.0
        self._is_draining = False

    def drain(self) -> None:
        """The process is about to stop: no viewer should be sent here any more."""
        self._is_draining = True

    async def live(self, _call: AdminRequest) -> Response:
        """200."""
        return json_response(Live(live=True))

    async def ready(self, _call: AdminRequest) -> Response:
        """200, or 503 and the part that fails."""
        if self._checked is None or self._clock() - self._checked_s >= _FRESH_S:
            await self._checks.run(None, self._check)
        render, store = self._checked or (LATE, LATE)
        listener = DRAINING if self._is_draining else OK
        is_ready = render == store == listener == OK
        return json_response(
            Readiness(ready=is_ready, render=render, store=store, listener=listener), 200 if is_ready else 503
        )

    async def _check(self) -> tuple[str, str]:
        self._checked = await _word(self._render()), await _word(self._reach())
        self._checked_s = self._clock()
        return self._checked

    async def _render(self) -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(SPECIMENS["png"])
            # Another name each time: two deaths would have one held in quarantine, and us out of service.
            token = f"readyz {next(self._tries)}"
            try:
                await self._renderer.render(file.fileno(), len(SPECIMENS["png"]), self._job, token)
            except QueueFull:
                return  # busy is not broken: sent away, its viewers would fill the next one's queue

    async def _reach(self) -> None:
        try:
            await self._originals.head(_NOBODY, remembered=False)
        except NoSuchOriginal:
            return


async def _word(work: Awaitable[None]) -> str:
    """`ok`, the code of what went wrong, or `late`."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await work
    except GalerlyError as error:
        return error.code
    except TimeoutError:
        return LATE
    return OK
