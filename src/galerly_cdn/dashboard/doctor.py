"""Runs the checks of this machine and its store, as `galerly-cdn doctor` does, and shows the worst first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.admin.routes import Route
from galerly_cdn.dashboard import command
from galerly_cdn.dashboard.background import BackgroundRun
from galerly_cdn.insight.doctor.checks import Finding, Status
from galerly_cdn.serialization import from_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.clock import Clock
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.http.responses import Response
    from galerly_cdn.settings.table import Settings

PATH = f"{PAGES_PATH}/doctor"
_WORST_FIRST = (Status.FAILED, Status.WARNING, Status.OK, Status.NOT_APPLICABLE)


class DoctorPage:
    """The page *Doctor*. `settings` are those of the server, with the roots that it serves."""

    def __init__(self, site: Site, settings: Settings, clock: Clock) -> None:
        self._site = site
        self._settings = settings
        self.run = BackgroundRun[tuple[Finding, ...]](clock)
        self._folder: Path | None = None

    def routes(self) -> tuple[Route, ...]:
        """The routes of the page, its state, and what changes it."""
        return (
            self._site.view(PATH, "doctor.html", self._state),
            self._site.view(f"{PATH}/state", "doctor_state.html", self._state, is_polled=True),
            Route("POST", f"{PATH}/run", self._start, "Run the checks", {}),
            Route("POST", f"{PATH}/stop", self._stop, "Stop the checks", {}),
        )

    async def _state(self, _request: AdminRequest) -> Mapping[str, object]:
        found = self._so_far() if self.run.is_running else self.run.result or ()
        by_status = {status: [one for one in found if one.status is status] for status in _WORST_FIRST}
        return {
            "run": self.run,
            "found": found,
            "groups": {status: findings for status, findings in by_status.items() if findings},
            "has_store": bool(self._settings.store),
        }

    async def _respond(self, request: AdminRequest) -> Response:
        return await self._site.render(request, "doctor_state.html", await self._state(request))

    async def _start(self, request: AdminRequest) -> Response:
        self.run.start(self._check)
        request.outcome = "started"
        return await self._respond(request)

    async def _stop(self, request: AdminRequest) -> Response:
        await self.run.stop()
        request.outcome = "stopped"
        return await self._respond(request)

    async def _check(self) -> tuple[Finding, ...]:
        """Every finding. Raises `CommandFailed` if the command fails; a check that fails is a finding."""
        async with command.cleaned(command.scratch_folder()) as folder:
            self._folder = folder
            ended = await command.run(["doctor", "--json"], self._settings, folder)
            found = await asyncio.to_thread(_read, folder)
            if ended.message or ended.exit_code not in {0, 1}:
                raise command.CommandFailed(ended.message)
            return found

    def _so_far(self) -> Sequence[Finding]:
        """The findings that the command has printed, while it runs."""
        if self._folder is None:
            return ()
        try:
            return _read(self._folder)
        except OSError:  # it has not begun, or has just ended
            return ()


def _read(folder: Path) -> tuple[Finding, ...]:
    lines = command.read_output(folder).split(b"\n")
    return tuple(from_json(Finding, line) for line in lines[:-1])
