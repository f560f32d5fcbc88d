"""Answers liveness (`/livez`) and readiness (`/readyz`) checks.

Liveness shows that the event loop runs and checks nothing else: restarting the process does not repair a
store. Readiness renders a picture in a worker and sends a head request to the store. It does not wait behind
viewers: workers that all have calls are taken for working ones, which their deadline ensures. A result is
reused for `_RESULT_LIFETIME_S`, so the number of readiness requests does not matter.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from typing import TYPE_CHECKING, Protocol

from galerly_cdn.admin.responses import json_response
from galerly_cdn.cache import SingleFlight
from galerly_cdn.errors import GalerlyError, MethodNotAllowed, NoSuchOriginal, QueueFull
from galerly_cdn.model import Format, Job, Picture, Size, Target
from galerly_cdn.render.sample_images import SPECIMENS
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.http.exchange import Exchange
    from galerly_cdn.http.responses import Response
    from galerly_cdn.model import Limits, Rendered
    from galerly_cdn.prefix_check import PrefixCheck
    from galerly_cdn.recipe_list import RecipeList
    from galerly_cdn.store.interfaces import Originals

_RESULT_LIFETIME_S = 5.0
_CHECK_TIMEOUT_S = 5.0
_ABSENT_KEY = "galerly-cdn/readyz"
"""A key without an original: every store can answer that it does not exist."""
_PICTURE = Picture(Target(Size(16, 16), Format.JPEG), {Format.JPEG: 80})
OK = "ok"
LATE = "late"
DRAINING = "draining"


class FreeRenderer(Protocol):
    """Renders originals, which it gets as file descriptors, on workers that are free."""

    async def render_if_free(
        self, fd: int, length_bytes: int, job: Job, token: str
    ) -> tuple[Rendered, bytes]:
        """Raises `QueueFull` at once if every worker has a call."""
        ...


class Live(Value, frozen=True):
    """The process is alive."""

    live: bool


class Readiness(Value, frozen=True, omit_defaults=True):
    """Whether the process can serve viewers. Each part is `ok`, an error's code, or `late` (timed out)."""

    ready: bool
    render: str
    store: str
    listener: str
    """`draining` once the process is stopping."""
    warnings: tuple[str, ...] = ()
    """What an operator should know although the process can serve: settings that are probably mistaken, and
    recipes that are older than those of the store."""


class Health:
    """Handles `/livez` and `/readyz`. `clock` is monotonic, in seconds."""

    def __init__(  # noqa: PLR0913 - what it checks
        self,
        renderer: FreeRenderer,
        originals: Originals,
        limits: Limits,
        clock: Callable[[], float],
        *,
        prefixes: PrefixCheck,
        listed: RecipeList,
    ) -> None:
        self._prefixes = prefixes
        self._listed = listed
        self._renderer = renderer
        self._originals = originals
        self._job = Job((_PICTURE,), limits)
        self._clock = clock
        self._check_numbers = itertools.count(1)
        self._checks: SingleFlight[None, tuple[str, str]] = SingleFlight()
        self._result: tuple[str, str] | None = None
        """The states of rendering and of the store."""
        self._checked_s = 0.0
        self._is_draining = False

    def drain(self) -> None:
        """Report that the process is stopping: from now on it is not ready."""
        self._is_draining = True

    async def live(self, _request: object) -> Response:
        """Answer 200."""
        return json_response(Live(live=True))

    async def ready(self, request: AdminRequest) -> Response:
        """Answer 200, or 503 with the state of each part.

        Warnings name private folders and releases: they are for clients that authenticate themselves.
        """
        return await self._readiness(has_warnings=bool(request.who))

    def public_handler(
        self, health_path: str, raw_path: bytes
    ) -> Callable[[Exchange], Awaitable[Response]] | None:
        """The handler of a check on the public port; None for another path. Viewers get no warnings."""
        check = raw_path.decode("latin-1").removeprefix(f"{health_path}/")
        if (
            not health_path
            or not raw_path.startswith(health_path.encode())
            or check not in {"livez", "readyz"}
        ):
            return None

        async def answer(exchange: Exchange) -> Response:
            if exchange.method not in {"GET", "HEAD"}:
                raise MethodNotAllowed
            return await (self.live(exchange) if check == "livez" else self._readiness(has_warnings=False))

        return answer

    async def _readiness(self, *, has_warnings: bool) -> Response:
        if self._result is None or self._clock() - self._checked_s >= _RESULT_LIFETIME_S:
            await self._checks.run(None, self._check)
        self._listed.renew()
        render, store = self._result or (LATE, LATE)
        listener = DRAINING if self._is_draining else OK
        is_ready = render == store == listener == OK
        warnings = (*self._prefixes.warnings, *self._listed.warnings) if has_warnings else ()
        readiness = Readiness(is_ready, render, store, listener, warnings)
        return json_response(readiness, 200 if is_ready else 503)

    async def _check(self) -> tuple[str, str]:
        self._result = await _state(self._check_render()), await _state(self._check_store())
        self._checked_s = self._clock()
        return self._result

    async def _check_render(self) -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(SPECIMENS["png"])
            # A new token for each check: two worker crashes with the same token would quarantine it, and
            # the process would stay unready.
            token = f"readyz {next(self._check_numbers)}"
            try:
                await self._renderer.render_if_free(file.fileno(), len(SPECIMENS["png"]), self._job, token)
            except QueueFull:
                return  # busy workers work: unready, they would move their load to the next server's queue

    async def _check_store(self) -> None:
        try:
            await self._originals.head(_ABSENT_KEY, remembered=False)
        except NoSuchOriginal:
            await self._prefixes.refresh()


async def _state(check: Awaitable[None]) -> str:
    """`ok`, the code of the error that was raised, or `late` after `_CHECK_TIMEOUT_S`."""
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await check
    except GalerlyError as error:
        return error.code
    except TimeoutError:
        return LATE
    return OK
