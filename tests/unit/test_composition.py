"""Composition in three grades: a command starts and loads only what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from galerly_cdn import cli
from galerly_cdn.app.processes import with_possible_processes
from galerly_cdn.errors import SettingsError
from galerly_cdn.render.pool import process
from galerly_cdn.settings.locations import Locations
from galerly_cdn.settings.table import Settings
from tests.support import pictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

KEY = "g/a.jpg"
HTTP_SERVER = {
    "httptools",
    "uvloop",
    "h11",
    "jinja2",
    "prometheus_client",
    "galerly_cdn.admin",
    "galerly_cdn.browse",
    "galerly_cdn.dashboard",
    "galerly_cdn.edge",
    "galerly_cdn.server",
}
RENDERER = {"galerly_cdn.render.pool", "galerly_cdn.fill", "cryptography"}

PRINT_MODULES = """
import sys
from galerly_cdn import cli
try:
    cli.main()
except SystemExit as end:
    if end.code:
        raise
print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def _sixteen_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GALERLY_WORKERS", "16")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of one original."""
    gallery = tmp_path / "store" / "originals" / "g"
    gallery.mkdir(parents=True)
    (gallery / "a.jpg").write_bytes(pictures.jpeg(60, 40))
    return tmp_path / "store"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process numbers of all workers that were started."""
    pids: list[int] = []
    start = process.WorkerProcess.__init__

    def record(worker: process.WorkerProcess, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on
        start(worker, *arguments, **options)
        pids.append(worker.pid)

    monkeypatch.setattr(process.WorkerProcess, "__init__", record)
    return pids


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [
        (["ls"], 0),
        (["ls", "g/"], 0),
        (["purge", KEY], 0),
        (["purge", "--gallery", "g"], 0),
        (["rm", KEY, "--yes"], 0),
        (["inspect", KEY], 1),
        (["link", KEY], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_command_on_store_starts_no_more_workers_than_it_needs(
    store: Path, started: list[int], arguments: list[str], workers: int
) -> None:
    result = CliRunner().invoke(cli.main, [*arguments, "--store", str(store)])
    assert result.exit_code == 0, result.output
    assert len(started) == workers


def test_command_that_renders_starts_the_workers_of_the_setting(
    store: Path, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GALERLY_WORKERS", "2")
    result = CliRunner().invoke(cli.main, ["warm", KEY, "--store", str(store)])
    assert result.exit_code == 0, result.output
    assert len(started) == 2


@pytest.mark.parametrize("arguments", [["ls"], ["purge", KEY], ["rm", KEY, "--yes"]], ids=" ".join)
def test_command_that_renders_nothing_loads_no_renderer(store: Path, arguments: list[str]) -> None:
    assert loaded([*arguments, "--store", store]) & (RENDERER | HTTP_SERVER) == set()


@pytest.mark.parametrize("arguments", [["inspect", KEY], ["warm", KEY]], ids=" ".join)
def test_command_that_renders_loads_no_http_server(store: Path, arguments: list[str]) -> None:
    modules = loaded([*arguments, "--store", store], workers=1)
    assert "galerly_cdn.render.pool" in modules
    assert modules & HTTP_SERVER == set()


def test_command_on_file_loads_no_http_server(store: Path, tmp_path: Path) -> None:
    file = store / "originals" / KEY
    commands: list[list[str | Path]] = [
        ["render", file, "--size", "tiny", "-o", tmp_path / "out.jpg"],
        ["inspect", file],
    ]
    for arguments in commands:
        modules = loaded(arguments, workers=1)
        assert "galerly_cdn.render.pool" in modules
        assert modules & HTTP_SERVER == set()


def loaded(arguments: Sequence[str | Path], workers: int = 16) -> set[str]:
    """The modules that a process has loaded when the command ends."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_MODULES, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GALERLY_WORKERS": str(workers)},
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("settings", "roots", "processes", "reason"),
    [
        (Settings(), ("/a", "/b"), 1, ""),
        (Settings(processes=3), ("/a", "/b"), 3, ""),
        (Settings(processes=3, tls_certificate="/c"), ("/a", "/b"), 1, "TLS"),
        (Settings(processes=3, proxy_protocol=("10.0.0.0/8",)), ("/a", "/b"), 1, "PROXY"),
        (Settings(processes=3), ("s3://a/originals", "s3://a/resized"), 1, "remote store"),
        (Settings(processes=3), ("/a", "s3://a"), 1, "remote store"),
    ],
)
def test_processes_are_one_where_more_cannot_serve(
    settings: Settings, roots: tuple[str, str], processes: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    locations = Locations(*roots, is_writable=False)
    assert with_possible_processes(settings, locations).processes == processes
    assert reason in caplog.text
    assert bool(reason) == bool(caplog.text)


def test_several_processes_without_linux_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    locations = Locations("/a", "/b", is_writable=False)
    assert with_possible_processes(Settings(), locations) == Settings()
    with pytest.raises(SettingsError, match="processes = 2 needs Linux"):
        with_possible_processes(Settings(processes=2), locations)
