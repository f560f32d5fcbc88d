"""Tests of the temporary files in the machine's own folder, which a remote store uses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.settings.locations import Locations
from galerly_cdn.settings.table import Settings
from galerly_cdn.store import open as store_open
from galerly_cdn.store.temp_files import HOUR_S, UploadFile, sweep_shared_folder
from galerly_cdn.telemetry import Counters, Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CRASHING = """
import sys
sys.path[:] = {path!r}
from galerly_cdn.store.temp_files import UploadFile
file = UploadFile(None)
file.write(b"half of an upload")
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextlib.contextmanager
def upload_in_progress() -> Iterator[subprocess.Popen[bytes]]:
    code = CRASHING.format(path=sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_upload_of_a_killed_process_is_swept_and_that_of_a_running_one_is_not(folder: Path) -> None:
    others = [folder / name for name in ("incoming-letter", "galerly-cdn-notes", "tmp123")]
    for path in others:
        path.write_bytes(b"of another program")
    (folder / "galerly-cdn-incoming-folder").mkdir()
    others.append(folder / "galerly-cdn-incoming-folder")
    with upload_in_progress(), UploadFile(None) as own:
        (running,) = set(folder.glob("galerly-cdn-incoming-*")) - {own.path, *others}
        with upload_in_progress() as killed:
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
            assert len(list(folder.iterdir())) == 7
            sweep_shared_folder(time.time())
        assert set(folder.iterdir()) == {running, own.path, *others}
    sweep_shared_folder(time.time() + 2 * HOUR_S)
    assert set(folder.iterdir()) == set(others)


def test_remote_store_is_swept_when_it_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket is not there: the sweep concerns this machine only."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with upload_in_progress() as killed:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    settings = Settings(store="s3://bucket", store_endpoint="http://127.0.0.1:9", store_deadline_s=0.2)
    places = Locations("s3://bucket/originals", "s3://bucket/resized", is_writable=True)
    asyncio.run(store_open.open_originals(settings, places, Telemetry(Counters(), None), SYSTEM_CLOCK))
    assert list(folder.iterdir()) == []
