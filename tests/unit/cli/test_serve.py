"""Tests the output of `serve` and `demo` on a terminal: the introduction, and a line for each response."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from galerly_cdn import cli
from galerly_cdn.telemetry import AccessRecord, readable_line
from tests.support import pictures
from tests.support.cdn_process import PROGRAM, environment
from tests.support.scenario_player import signing_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def on_terminal(*arguments: str) -> Iterator[Callable[[str], str]]:
    """A command on a terminal; yields a function that reads its output until a pattern matches."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=terminal,
        stderr=terminal,
        stdin=terminal,
        env=environment(),
        start_new_session=True,
    )
    os.close(terminal)
    output = ""

    def read_until(pattern: str) -> str:
        nonlocal output
        while not re.search(pattern, output):
            output += os.read(controller, 10_000).decode()
        return output

    try:
        yield read_until
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def test_demo_on_a_terminal_prints_contents_picture_and_stop_key(tmp_path: Path) -> None:
    with on_terminal("demo", "--port", "0", "--renditions", str(tmp_path / "r")) as read_until:
        output = read_until("stop      Ctrl-C")
        assert "contents  10 photographs in 3 galleries" in output
        (url,) = re.findall(r"picture   (http://127\.0\.0\.1:\d+/resize/800x600/coast/\S+)", output)
        with urllib.request.urlopen(url, timeout=30) as response:
            assert response.headers["Content-Type"] == "image/jpeg"
        line = read_until("GET /resize/")
        assert re.search(r"200 +[\d.]+ ms +[\d.]+ kB +fwd=uri-miss; stored +GET /resize/", line)


def test_serve_on_a_terminal_counts_other_files_separately(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    (folder / "@eaDir" / "a.jpg").mkdir(parents=True)
    for name in ("a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg"):
        (folder / name).write_bytes(pictures.jpeg(8, 8))
    for name in ("notes.txt", "movie.mp4", ".DS_Store"):
        (folder / name).touch()
    with on_terminal("serve", str(folder), "--port", "0", "--renditions", str(tmp_path / "r")) as read_until:
        output = read_until("stop      Ctrl-C")
    assert "contents  1 photograph in 1 gallery" in output
    assert "ignored   3 other files, by their extension" in output


def test_serve_with_a_file_suggests_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    result = CliRunner().invoke(cli.main, ["serve", str(tmp_path / "a.jpg")])
    assert result.exit_code == 2
    assert f"a.jpg is a file. Serve its folder: galerly-cdn serve {tmp_path}" in result.output


def test_serve_with_a_private_prefix_that_is_nearly_a_folder_exits_with_2(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    (folder / "Clients" / "smith").mkdir(parents=True)
    settings = {"private_prefixes": "clients", "workers": "1", "port": "0", **signing_settings(tmp_path)}
    variables = {f"GALERLY_{name.upper()}": str(value) for name, value in settings.items()}
    ended = subprocess.run(
        [*PROGRAM, "serve", folder, "--renditions", tmp_path / "r"],
        env=environment(**variables),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (2, b"")
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("galerly-cdn: private_prefixes: 'clients' is not the folder 'Clients'")


@contextmanager
def serving(root: Path, *before: str) -> Iterator[tuple[subprocess.Popen[str], str, Callable[[], str]]]:
    """`serve` over a folder with one photograph; `before` is a command that runs it.

    Yields the process, its address, and a function that stops it and returns its stderr.
    """
    (root / "photographs").mkdir()
    (root / "photographs" / "a.jpg").write_bytes(pictures.jpeg(60, 40))
    process = subprocess.Popen(
        [*before, *PROGRAM, "serve", root / "photographs", "--port", "0", "--renditions", root / "r"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(GALERLY_WORKERS="1"),
        text=True,
    )
    assert process.stdout

    def stop() -> str:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        return errors

    try:
        yield process, process.stdout.readline().split()[-1], stop
    finally:
        process.kill()
        process.communicate()


def test_sighup_is_logged_and_ignored(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, address, stop):
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            with urllib.request.urlopen(f"{address}resize/tiny/a.jpg") as response:
                assert response.status == 200
        assert stop().count("SIGHUP is ignored") == 2


@pytest.mark.parametrize(("files", "lines"), [(64, 1), (10_000, 0)])
def test_low_limit_of_open_files_is_a_line_at_the_start(tmp_path: Path, files: int, lines: int) -> None:
    with serving(tmp_path, "sh", "-c", f'ulimit -n {files} && exec "$@"', "sh") as (_, _, stop):
        errors = stop()
    assert errors.count(f"the limit of open files is {files}, and max_connections = ") == lines


def test_unknown_log_level_exits_with_2() -> None:
    result = CliRunner().invoke(cli.main, ["config"], env={"GALERLY_LOG_LEVEL": "loud"})
    assert result.exit_code == 2
    assert "GALERLY_LOG_LEVEL" in result.output


RECORD = AccessRecord(
    time_s=0.0,
    request_id="1",
    client="127.0.0.1",
    method="GET",
    path="/resize/800x600/a.jpg",
    status=404,
    bytes=120,
    duration_ms=1.25,
    reason="no-such-original",
)


def test_readable_line_contains_status_duration_bytes_cache_path_and_reason() -> None:
    columns = [b"404", b"1.2 ms", b"0.1 kB", b"-", b"GET /resize/800x600/a.jpg", b"(no-such-original)"]
    assert re.split(rb" {2,}", readable_line(RECORD)) == columns
