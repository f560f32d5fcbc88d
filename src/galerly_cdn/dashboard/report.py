"""Makes reports from the server's own log, or from log files that an operator drops on the page."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.admin.routes import Route
from galerly_cdn.dashboard import command, log_uploads, own_log
from galerly_cdn.dashboard.assets import SECURITY_HEADERS
from galerly_cdn.dashboard.background import AlreadyRunning, BackgroundRun
from galerly_cdn.errors import MalformedBody, SettingsError, UnknownPath
from galerly_cdn.http import content_disposition
from galerly_cdn.http.responses import Response
from galerly_cdn.insight.cost_report import TrafficReport, read_report
from galerly_cdn.insight.database import is_installed
from galerly_cdn.insight.report import Report
from galerly_cdn.serialization import Value, from_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.clock import Clock
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.http.responses import Headers
    from galerly_cdn.settings.table import Settings

PATH = f"{PAGES_PATH}/report"
_FILE, _LOGS = "galerly-cdn-report.html", "logs"


class ReportForm(Value, frozen=True):
    """The filters of a report, as the options of the command; empty for none."""

    since: str = ""
    gallery: str = ""

    @property
    def arguments(self) -> list[str]:
        """Each value is joined to its option, so that none is taken for an option."""
        options = (("since", self.since.strip()), ("gallery", self.gallery.strip()))
        return [f"--{name}={value}" for name, value in options if value]


class MadeReport(Value, frozen=True):
    """A report: what it is on, its HTML as a part of a page and as a file, and its traffic."""

    source: str
    form: ReportForm
    body: str
    page: bytes
    traffic: TrafficReport | None
    """None if the logs are too short for an estimate."""


class ReportPage:
    """The page *Report*. `settings` are those of the server: its sizes name those of the report."""

    def __init__(self, site: Site, settings: Settings, clock: Clock) -> None:
        self._site = site
        self._settings = settings
        self.run = BackgroundRun[MadeReport](clock)
        self._is_receiving = False

    def routes(self) -> tuple[Route, ...]:
        """The routes of the page, its state, and what changes it."""
        state = "report_state.html"
        return (
            self._site.view(PATH, "report.html", self._show),
            self._site.view(f"{PATH}/state", state, self._state, is_polled=True),
            Route("POST", f"{PATH}/run", self._on_own_log, "Make a report on the server's log", {}),
            Route("POST", f"{PATH}/files", self._on_files, "Make a report on log files", {}),
            Route("POST", f"{PATH}/stop", self._stop, "Stop the report", {}),
            Route("GET", f"{PATH}/{_FILE}", self._download, "The last report as a file", {}),
        )

    async def _show(self, request: AdminRequest) -> Mapping[str, object]:
        return {
            "log": await asyncio.to_thread(own_log.find),
            "has_access_log": self._settings.access_log,
            "is_installed": is_installed(),
            "max_bytes": log_uploads.MAX_BYTES,
            "max_files": log_uploads.MAX_FILES,
            **await self._state(request),
        }

    async def _state(self, _request: AdminRequest) -> Mapping[str, object]:
        return {"run": self.run, "made": self.run.result}

    async def _respond(self, request: AdminRequest) -> Response:
        return await self._site.render(request, "report_state.html", await self._state(request))

    async def _on_own_log(self, request: AdminRequest) -> Response:
        form = _checked(await request.form(ReportForm))

        async def work() -> MadeReport:
            with own_log.opened() as files:
                names = {f"/proc/self/fd/{one.fd}": one.path for one in files}
                source = "the server’s log" if len(files) == 1 else f"the server’s log, {len(files)} files"
                async with command.cleaned(command.scratch_folder()) as folder:
                    return await self._make(source, form, folder, names, [one.fd for one in files])

        self.run.start(work)
        request.outcome = "started"
        return await self._respond(request)

    async def _on_files(self, request: AdminRequest) -> Response:
        form = _checked(request.parse_query(ReportForm))
        if self._is_receiving or self.run.is_running:
            raise AlreadyRunning
        self._is_receiving = True
        try:
            await self._receive(request, form)
        finally:
            self._is_receiving = False
        request.outcome = "started"
        return await self._respond(request)

    async def _receive(self, request: AdminRequest, form: ReportForm) -> None:
        """Receive the files of a request, and begin a report on them, which removes them at its end."""
        scratch = command.scratch_folder()
        logs = Path(scratch.name, _LOGS)
        try:
            files = await log_uploads.receive(request.body(), logs)
            names = {str(logs / str(number)): one.name for number, one in enumerate(files)}
            source = files[0].name if len(files) == 1 else f"{len(files)} files"

            async def work() -> MadeReport:
                async with command.cleaned(scratch) as folder:
                    return await self._make(source, form, folder, names)

            self.run.start(work, scratch.cleanup)
        except BaseException:
            await asyncio.to_thread(scratch.cleanup)
            raise

    async def _stop(self, request: AdminRequest) -> Response:
        await self.run.stop()
        request.outcome = "stopped"
        return await self._respond(request)

    async def _download(self, _request: AdminRequest) -> Response:
        if self.run.result is None:
            raise UnknownPath
        headers: Headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", b"%d" % len(self.run.result.page)),
            (b"content-disposition", content_disposition.attachment(_FILE).encode()),
            (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; sandbox"),
        ]
        return Response(
            200, [*headers, (b"cache-control", b"no-store"), *SECURITY_HEADERS], self.run.result.page
        )

    async def _make(
        self,
        source: str,
        form: ReportForm,
        folder: Path,
        names: Mapping[str, str],
        files: Sequence[int] = (),
    ) -> MadeReport:
        """The report on the files of `names`, whose values are shown. Raises `CommandFailed`."""
        arguments = ["report", "--json", f"--html={folder / _FILE}", *form.arguments, *names]
        ended = await command.run(arguments, self._settings, folder, files=files, keeps_temporary=True)
        if ended.exit_code:
            raise command.CommandFailed(_with_names(ended.message, names))
        return await asyncio.to_thread(_read, folder, source, form)


def _checked(form: ReportForm) -> ReportForm:
    """Raises `MalformedBody` for what no option can be."""
    if not f"{form.since}{form.gallery}".isprintable():
        raise MalformedBody("a control character")
    return form


def _with_names(message: str, names: Mapping[str, str]) -> str:
    """The message with the files' names in place of their paths, the longer ones first: `/1` is in `/12`.

    An option has the name of its field.
    """
    message = message.replace("--since: ", "Since: ")
    longest_first = sorted(names, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda matched: names[matched[0]], message)


def _read(folder: Path, source: str, form: ReportForm) -> MadeReport:
    """What the command wrote. Raises `CommandFailed` if it is too much."""
    from galerly_cdn.insight import html  # noqa: PLC0415 - its template language takes 30 ms to import

    output = command.read_output(folder)
    with (folder / _FILE).open("rb") as file:
        page = command.read_bounded(file.fileno())
    return MadeReport(source, form, html.body(from_json(Report, output)), page, _traffic(output))


def _traffic(output: bytes) -> TrafficReport | None:
    try:
        return read_report(output, "the report")
    except SettingsError:  # there is no request, or all came in one moment
        return None
