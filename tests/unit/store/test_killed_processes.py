"""kill -9 during uploads and replaces: nothing acknowledged is lost, nothing is there by half."""

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

from galerly_cdn.fill import recipes
from galerly_cdn.http.urls import checked_key
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.uploads import WritableFolderOriginals
from tests.support.rendition_folders import opened
from tests.support.upload_process import KEYS, number_of, photograph, shows

KILLS = 48
UPLOADS = 300
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
class Diary:
    """What the killed said before: for each key what it may hold now, the acknowledged or a later one."""

    may_hold: dict[str, set[int | None]] = field(default_factory=lambda: {key: {None} for key in KEYS})
    counts: Counter[str] = field(default_factory=Counter)

    def enter(self, line: bytes) -> None:
        what, key, told = line.decode().split()
        number = int(told)
        self.counts[what] += 1
        if what == "try":
            self.may_hold[key].add(number)
        elif what == "ack":
            self.may_hold[key] = {number}
        elif what == "not":
            self.may_hold[key].discard(number)
        else:
            raise AssertionError(line)


def run_until_killed(
    zygote: IO[bytes], says: IO[bytes], order: str, after_lines: int | None, diary: Diary
) -> None:
    """One run; killed from outside after so many lines, or by itself."""
    zygote.write(f"{order}\n".encode())
    zygote.flush()
    process = int(says.readline())
    if after_lines == 0:
        os.kill(process, signal.SIGKILL)
    for heard, line in enumerate(says, 1):
        if line == b"ended\n":
            return
        diary.enter(line)
        if heard == after_lines:
            os.kill(process, signal.SIGKILL)
    raise AssertionError("it went away")


async def check(root: Path, diary: Diary) -> None:
    """As the next start finds it."""
    originals = root / "originals"
    if not originals.exists():
        return
    diary.counts["left behind"] += sum(1 for _ in originals.glob(".galerly/*"))
    store = WritableFolderOriginals(originals, checked_key, now=lambda: 0.0)
    assert list(originals.glob(".galerly/*")) == []
    found: dict[str, int] = {}
    async for one in store.list():
        content = (originals / one.key).read_bytes()
        found[one.key] = number_of(content)
        assert content == photograph(found[one.key]), f"{one.key} is torn"
    for key in KEYS:
        assert found.get(key) in diary.may_hold[key], f"{key}: an acknowledged upload is lost"
        diary.may_hold[key] = {found.get(key)}
    await check_pictures(root, store, found, diary)


async def check_pictures(
    root: Path, store: WritableFolderOriginals, found: dict[str, int], diary: Diary
) -> None:
    """No stored rendition passes for current that is not of the original that is there."""
    async with opened(root / "resized", 1 << 30) as renditions:
        for key, number in found.items():
            head = await store.head(key)
            for target in recipes(Settings(), ""):
                rendition = await renditions.get(key, target)
                if rendition and rendition.record.version == head.version:
                    assert shows(rendition.body, number), f"{key} at {target} is not its original's"
                    diary.counts["current pictures"] += 1


@pytest.mark.timeout(240)
def test_a_server_killed_during_uploads_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """From outside after any number of events, from its start on; and at each system call of an upload."""
    root, diary, rng = tmp_path / "store", Diary(), random.Random(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.upload_process", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[3],
    ) as zygote:
        assert zygote.stdin
        assert zygote.stdout
        seed = 0
        while seed < KILLS or diary.counts["ack"] < UPLOADS:
            step = STEPS[seed % len(STEPS)]
            after_lines = rng.randrange(40) if step == "none" else None
            run_until_killed(zygote.stdin, zygote.stdout, f"{seed} {step}", after_lines, diary)
            asyncio.run(check(root, diary))
            seed += 1
        zygote.stdin.close()
        assert zygote.wait() == 0
    print(seed, diary.counts)
    assert diary.counts["left behind"], "nobody died in the middle of an upload"
    assert diary.counts["current pictures"]
