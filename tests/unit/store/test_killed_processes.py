"""Tests that a server killed by SIGKILL loses no acknowledged upload and stores no incomplete one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from galerly_cdn.http.urls import checked_key
from galerly_cdn.recipes import recipes_of
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.uploads import WritableFolderOriginals
from tests.support import exhaustive
from tests.support.rendition_folders import open_folder
from tests.support.upload_process import KEYS, number_of, photograph, shows

KILLS = exhaustive.count(48, sample=8)
UPLOADS = exhaustive.count(300, sample=50)
STEPS = [
    "link",
    "none",
    "fsync",
    "none",
    "rename",
    "none",
    "unlink",
    "none",
    "mkdir",
    "none",
    "write",
    "none",
]


@dataclass
class UploadLog:
    """What the killed processes reported: for each key the photographs that it may hold now.

    That is the last one acknowledged, or a later one.
    """

    may_hold: dict[str, set[int | None]] = field(default_factory=lambda: {key: {None} for key in KEYS})
    counts: Counter[str] = field(default_factory=Counter)

    def record(self, line: bytes) -> None:
        event, key, digits = line.decode().split()
        number = int(digits)
        self.counts[event] += 1
        if event == "try":
            self.may_hold[key].add(number)
        elif event == "ack":
            self.may_hold[key] = {number}
        elif event == "not":
            self.may_hold[key].discard(number)
        else:
            raise AssertionError(line)


def run_until_killed(
    orders: IO[bytes], output: IO[bytes], order: str, after_lines: int | None, log: UploadLog
) -> None:
    """Run one process until it is killed: after so many lines of output, or by itself."""
    orders.write(f"{order}\n".encode())
    orders.flush()
    process = int(output.readline())
    if after_lines == 0:
        os.kill(process, signal.SIGKILL)
    for count, line in enumerate(output, 1):
        if line == b"ended\n":
            return
        log.record(line)
        if count == after_lines:
            os.kill(process, signal.SIGKILL)
    raise AssertionError("the parent process ended")


async def check(root: Path, log: UploadLog) -> None:
    """Start on the folder, and compare it with the log."""
    originals = root / "originals"
    if not originals.exists():
        return
    log.counts["left behind"] += sum(1 for _ in originals.glob(".galerly/*"))
    store = WritableFolderOriginals(originals, checked_key, now=lambda: 0.0)
    assert list(originals.glob(".galerly/*")) == []
    found: dict[str, int] = {}
    async for one in store.list():
        content = (originals / one.key).read_bytes()
        found[one.key] = number_of(content)
        assert content == photograph(found[one.key]), f"{one.key} is incomplete"
    for key in KEYS:
        assert found.get(key) in log.may_hold[key], f"{key}: an acknowledged upload is lost"
        log.may_hold[key] = {found.get(key)}
    await check_pictures(root, store, found, log)


async def check_pictures(
    root: Path, store: WritableFolderOriginals, found: dict[str, int], log: UploadLog
) -> None:
    """Checks that each rendition that looks current was made from the original that is there."""
    async with open_folder(root / "resized", 1 << 30) as renditions:
        for key, number in found.items():
            head = await store.head(key)
            for target in recipes_of(Settings(), ""):
                rendition = await renditions.get(key, target)
                if rendition and rendition.record.version == head.version:
                    assert shows(rendition.body, number), f"{key} at {target} is not that of its original"
                    log.counts["current pictures"] += 1


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_server_killed_during_uploads_loses_no_acknowledged_upload(tmp_path: Path) -> None:
    """The process is killed after any number of events, or kills itself at a system call of an upload."""
    root, log, rng = tmp_path / "store", UploadLog(), random.Random(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.upload_process", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[3],
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        seed = 0
        while seed < KILLS or log.counts["ack"] < UPLOADS:
            step = STEPS[seed % len(STEPS)]
            after_lines = rng.randrange(40) if step == "none" else None
            run_until_killed(parent.stdin, parent.stdout, f"{seed} {step}", after_lines, log)
            asyncio.run(check(root, log))
            seed += 1
        parent.stdin.close()
        assert parent.wait() == 0
    print(seed, log.counts)
    assert log.counts["left behind"], "no process was killed during an upload"
    assert log.counts["current pictures"]
