"""The pages Report, Cost and Doctor: their states, what they run, and what they refuse."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import html
import importlib.util
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from galerly_cdn.dashboard import command, own_log
from galerly_cdn.insight.doctor import machine, store
from galerly_cdn.insight.units import length
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import TOKEN, AdminResponse, InMemoryAdmin
from tests.support.logs import DAY_S, MONDAY_S, access_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

REPORT, COST, DOCTOR = "/dashboard/report", "/dashboard/cost", "/dashboard/doctor"
PART = {"hx-request": "true"}
HOSTILE = "smith & <script>alert(1)</script>\x1b[2J/'\"><img src=x onerror=alert(1)>.jpg"
LINES = b"\n".join(access_line(HOSTILE, time_s=MONDAY_S + day * DAY_S) for day in range(3)) + b"\n"


@pytest.fixture
async def admin() -> AsyncIterator[InMemoryAdmin]:
    admin = InMemoryAdmin(Settings())
    yield admin
    await admin.dashboard.close()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The server's log, with a rotated file. In the tests, the standard output is a file of pytest's."""
    path = tmp_path / "access.log"
    path.write_bytes(LINES)
    Path(f"{path}.1").write_bytes(LINES)
    with path.open("ab") as file:
        opened = own_log.opened
        monkeypatch.setattr(own_log, "opened", lambda *_: opened(file.fileno()))
        yield path


async def get(admin: InMemoryAdmin, path: str) -> AdminResponse:
    return await admin.request("GET", path, headers={"accept": "text/html"})


async def post(admin: InMemoryAdmin, path: str, body: bytes = b"") -> AdminResponse:
    return await admin.request("POST", path, body=body, headers=PART)


async def send_files(admin: InMemoryAdmin, *files: tuple[str, bytes], query: str = "") -> AdminResponse:
    described = [{"name": name, "length_bytes": len(content)} for name, content in files]
    head = json.dumps({"files": described}).encode() + b"\n"
    return await post(admin, f"{REPORT}/files{query}", head + b"".join(content for _, content in files))


def text(response: AdminResponse) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.body.decode())))


async def ended(admin: InMemoryAdmin, page: str = REPORT) -> AdminResponse:
    """The state of a page once its run has ended."""
    for run in admin.dashboard.runs:
        await run.wait()
    return await admin.request("GET", f"{page}/state", headers=PART)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


class Gate:
    """A command that says that it runs, and ends when it is let through."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begun, self._ending = folder / "begun", folder / "ending"
        os.mkfifo(self._begun)
        os.mkfifo(self._ending)
        code = f"open({str(self._begun)!r}, 'w').close(); open({str(self._ending)!r}).read()"
        monkeypatch.setattr(command, "_INTERPRETER", (sys.executable, "-c", code))

    async def begun(self) -> None:
        await asyncio.to_thread(self._begun.read_text)

    async def let_through(self) -> None:
        await asyncio.to_thread(self._ending.write_text, "")


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(tmp_path, monkeypatch)


# the report


async def test_report_on_the_own_log_names_it(admin: InMemoryAdmin, log: Path) -> None:
    page = text(await get(admin, REPORT))
    length_bytes = sum(one.stat().st_size for one in log.parent.glob(f"{log.name}*"))
    assert f"From the server’s log {log} and 1 rotated file, {length(length_bytes)}." in page
    assert "No report was made" in page
    assert "access_log is off" not in page


async def test_report_without_an_own_log_names_the_command(
    admin: InMemoryAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    try:
        monkeypatch.setattr(own_log, "find", functools.partial(own_log.find, writing))
        page = text(await get(admin, REPORT))
    finally:
        os.close(reading)
        os.close(writing)
    assert "The server’s standard output is a pipe, not a file." in page
    assert "galerly-cdn report /var/log/galerly-cdn/ --html report.html" in page


@pytest.mark.usefixtures("log")
async def test_report_says_that_the_access_log_is_off() -> None:
    page = text(await get(InMemoryAdmin(Settings(access_log=False)), REPORT))
    assert "The setting access_log is off" in page


async def test_report_without_duckdb_says_how_to_install_it(
    admin: InMemoryAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    page = await get(admin, REPORT)
    assert "pip install 'galerly-cdn[insight]'" in text(page)
    assert b"<form" not in page.body


@pytest.mark.usefixtures("log")
async def test_report_on_the_own_log_is_made_with_filters(admin: InMemoryAdmin, temporary: Path) -> None:
    form = urlencode({"since": "2026-12-01", "gallery": "smith"}).encode()
    assert (await post(admin, f"{REPORT}/run", form)).status == 200
    assert "No line is a request" in text(await ended(admin))  # no gallery ends within a name
    assert (await post(admin, f"{REPORT}/run", b"since=2026-12-01&gallery=")).status == 200
    assert "On the server’s log, 2 files, since 2026-12-01." in text(await ended(admin))
    assert is_empty(temporary)


async def test_report_on_files_escapes_what_viewers_sent(admin: InMemoryAdmin) -> None:
    response = await send_files(admin, ("<b>access</b>.log", LINES), query="?since=&gallery=")
    assert response.status == 200
    state = await ended(admin)
    saved = await get(admin, f"{REPORT}/galerly-cdn-report.html")
    assert "On <b>access</b>.log." in html.unescape(state.body.decode())
    for page in (state, saved):
        assert HOSTILE.split("\x1b", maxsplit=1)[0] in html.unescape(page.body.decode())
        assert not re.search(rb"<(script|img|b)\b", page.body.replace(b"<bdi>", b""))
        assert b"\x1b" not in page.body
    assert saved.headers["content-disposition"] == 'attachment; filename="galerly-cdn-report.html"'
    assert saved.headers["content-security-policy"].endswith("sandbox")
    assert saved.body.startswith(b"<!doctype html>")
    assert (
        state.body.split(b'<div class="report">')[1]
        .strip()
        .startswith(b'<section aria-labelledby="targets">')
    )
    cost = text(await get(admin, COST))
    assert "those of the report on <b>access</b>.log" in cost
    assert "Each gallery’s part of the views" in cost


async def test_report_that_fails_names_the_file_and_leaves_nothing(
    admin: InMemoryAdmin, temporary: Path
) -> None:
    files = [(f"log {number}", LINES) for number in range(12)]
    await send_files(admin, *files, ("access.log.1.gz", b"\x1f\x8b\x08 cut off"))
    state = text(await ended(admin))
    assert "The report failed." in state
    assert "access.log.1.gz" in state
    assert str(temporary) not in state
    assert is_empty(temporary)
    assert (await get(admin, f"{REPORT}/galerly-cdn-report.html")).status == 404


@pytest.mark.parametrize("since", ["yesterday", "--html=/etc/x", "-1d", "9999999h"])
@pytest.mark.usefixtures("log")
async def test_report_since_no_time_says_what_a_time_is(admin: InMemoryAdmin, since: str) -> None:
    await post(admin, f"{REPORT}/run", urlencode({"since": since}).encode())
    assert f"Since: '{since}' is no time: use 24h, 7d or 2026-11-30." in text(await ended(admin))


@pytest.mark.parametrize(
    "form", [b"since=%00", b"gallery=%0a--html", b"since=1&since=2", b"other=1", b"\xff"]
)
async def test_malformed_filter_is_refused(admin: InMemoryAdmin, form: bytes) -> None:
    for response in (
        await post(admin, f"{REPORT}/run", form),
        await admin.request("POST", b"%b/files?%b" % (REPORT.encode(), form), headers=PART),
    ):
        assert response.status == 400
        assert b"malformed-" in response.body


@pytest.mark.usefixtures("log")
async def test_second_report_is_refused_while_one_is_made(admin: InMemoryAdmin, gate: Gate) -> None:
    assert (await post(admin, f"{REPORT}/run")).status == 200
    await gate.begun()
    for response in (await post(admin, f"{REPORT}/run"), await send_files(admin, ("a", LINES))):
        assert response.status == 409
        assert "wait until it has ended, or stop it" in text(response)
    assert "The report is being made, for 0 s." in text(await get(admin, REPORT))
    await gate.let_through()
    assert "The report failed." in text(await ended(admin))  # the command wrote nothing


@pytest.mark.usefixtures("log")
async def test_report_is_stopped_and_its_command_ends(
    admin: InMemoryAdmin, temporary: Path, gate: Gate
) -> None:
    await post(admin, f"{REPORT}/run")
    await gate.begun()
    assert "The report was stopped." in text(await post(admin, f"{REPORT}/stop"))
    assert is_empty(temporary)


async def test_interrupted_upload_leaves_nothing(admin: InMemoryAdmin, temporary: Path) -> None:
    head = b'{"files": [{"name": "a", "length_bytes": 100}]}\n'
    await admin.request("POST", f"{REPORT}/files", body=[head, b"1"], headers=PART, disconnects_early=True)
    assert is_empty(temporary)
    assert "No report was made" in text(await ended(admin))
    assert (await send_files(admin, ("a", LINES))).status == 200  # another one is accepted


@pytest.mark.usefixtures("log")
async def test_shutdown_ends_the_commands(admin: InMemoryAdmin, temporary: Path, gate: Gate) -> None:
    await post(admin, f"{REPORT}/run")
    await gate.begun()
    await post(admin, f"{DOCTOR}/run")
    await gate.begun()
    await admin.dashboard.close()
    assert not any(run.is_running for run in admin.dashboard.runs)
    assert is_empty(temporary)


# the cost


async def test_cost_begins_with_the_example_of_the_specification(admin: InMemoryAdmin) -> None:
    page = await get(admin, COST)
    assert "The figures are an example" in text(page)
    assert 'name="views" value="100000"' in page.body.decode()
    assert page.body.count(b" checked>") == 2  # Origin Shield and the janitor


async def test_cost_of_the_page_is_that_of_the_command(admin: InMemoryAdmin) -> None:
    from click.testing import CliRunner

    from galerly_cdn import cli
    from galerly_cdn.insight.cost_text import format_usd

    arguments = ["--views", "2e6", "--hit-ratio", "0.9", "--original-mb", "7.5", "--viewers", "japan=1"]
    options = ["--no-janitor", "--prewarm", "--free-tier", "--machines", "3", "--machine-hour", "0.2"]
    result = json.loads(CliRunner().invoke(cli.main, ["cost", "--json", *arguments, *options]).output)
    query = (
        "views=2e6&hit_ratio=0.9&original_mb=7.5&viewers=japan%3D1&has_shield=true&has_prewarm=true"
        "&free_tier=true&machines=3&machine_hour=0.2&renditions="
    )
    page = await get(admin, f"{COST}?{query}")
    sums = re.findall(r"<dd>(.*?)</dd>", page.body.decode())[:3]
    names = ("monthly_usd", "one_off_usd", "per_100k_views_usd")
    assert sums == [format_usd(result[name]) for name in names]
    assert 'name="renditions" value="4"' in page.body.decode()
    assert 'name="has_janitor" value="true">' in page.body.decode()  # not ticked


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("views=many", "Views a month: not a number."),
        ("views=-1", "Views a month: not a number of at least 0."),
        ("views=nan", "Views a month: not a number of at least 0."),
        ("machine_hour=nan", "Dollars for their hour: not a number of at least 0."),
        ("views=1e999", "Views a month: not a number."),
        ("views=inf", "Views a month: not a number of at most 1e+15."),
        ("hit_ratio=1.5", "Share of hits: not a number of at most 1."),
        ("memory_mb=1", "Memory of the functions, MB: not a number of at least 128."),
        ("machines=0", "Own machines: not a number of at least 1."),
        ("viewers=mars%3D1", "Viewers: 'mars=1' is not REGION=SHARE"),
        ("viewers=%3Cscript%3E", "Viewers: '<script>' is not REGION=SHARE"),
    ],
)
async def test_cost_of_a_wrong_field_says_which_and_keeps_the_form(
    admin: InMemoryAdmin, query: str, problem: str
) -> None:
    page = await get(admin, f"{COST}?{query}&originals=77")
    assert page.status == 400
    assert problem in text(page)
    assert 'name="originals" value="77"' in page.body.decode()
    assert b"<script>" not in page.body


@pytest.mark.parametrize("query", ["other=1", "views=1&views=2"])
async def test_cost_of_unknown_fields_is_refused(admin: InMemoryAdmin, query: str) -> None:
    page = await get(admin, f"{COST}?{query}")
    assert (page.status, "malformed-query" in text(page)) == (400, True)


@pytest.mark.parametrize("query", ["views=0", "views=1e15&view_kb=1e15", "originals=0&renditions=0&views=0"])
async def test_cost_of_extreme_workloads_is_shown(admin: InMemoryAdmin, query: str) -> None:
    assert (await get(admin, f"{COST}?{query}")).status == 200


# the doctor


async def test_doctor_shows_the_worst_first_with_what_to_do(tmp_path: Path) -> None:
    admin = InMemoryAdmin(Settings(store=str(tmp_path / "absent"), renditions_bytes=2**50))
    assert "Run the checks" in text(await get(admin, DOCTOR))
    assert (await post(admin, f"{DOCTOR}/run")).status == 200
    state = await ended(admin, DOCTOR)
    shown = text(state)
    assert f"{len(machine.CHECKS) + len(store.CHECKS)} checks" in shown
    headings = re.findall(r"<h2>(.*?)</h2>", state.body.decode())
    assert headings == [
        one for one in ("Failed", "Warnings", "All is well", "Not applicable here") if one in headings
    ]
    assert headings[0] == "Failed"
    assert "there is no folder" in shown.partition("All is well")[0]
    for part in ("Found", "Why", "What to do"):
        assert part in shown


async def test_doctor_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    monkeypatch.setenv("GALERLY_ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-of-aws")
    settings = Settings(
        store="s3://photographs",
        store_endpoint="http://127.0.0.1:9",
        store_deadline_s=0.1,
        admin_token_file=str(file),
    )
    admin = InMemoryAdmin(settings)
    await post(admin, f"{DOCTOR}/run")
    state = await ended(admin, DOCTOR)
    assert "Failed" in text(state)
    assert TOKEN.encode() not in state.body
    assert b"s3cret-of-aws" not in state.body


async def test_doctor_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        command, "_INTERPRETER", (sys.executable, "-c", "import sys; sys.exit('no <memory>')")
    )
    admin = InMemoryAdmin(Settings())
    await post(admin, f"{DOCTOR}/run")
    assert "The checks could not be run. no <memory>" in text(await ended(admin, DOCTOR))


async def test_doctor_shows_findings_while_it_runs(
    admin: InMemoryAdmin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(tmp_path, monkeypatch)
    interpreter, option, code, *_ = command._INTERPRETER
    names = ("check", "subject", "status", "what", "found", "why", "remedy")
    values = ("disk", "machine", "failed", "The disk.", "full", "Because.", "Free `/tmp`.")
    line = json.dumps(dict(zip(names, values, strict=True)))
    monkeypatch.setattr(
        command, "_INTERPRETER", (interpreter, option, f"print({line!r}, flush=True); {code}")
    )
    await post(admin, f"{DOCTOR}/run")
    await gate.begun()
    state = await admin.request("GET", f"{DOCTOR}/state", headers=PART)
    assert "1 checks so far" in text(state)
    assert b"<code>/tmp</code>" in state.body
    with contextlib.suppress(BrokenPipeError):
        await gate.let_through()
    assert "1 checks, 1 failed" in text(await ended(admin, DOCTOR))
