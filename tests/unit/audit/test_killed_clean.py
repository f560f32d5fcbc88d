"""Tests that `store clean`, killed in the middle and run again, ends as if it had never been killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.audited_stores import ALLOWED, fill_with_everything, open_audited_store
from tests.support.s3_servers import CREDENTIALS, SERVERS

if TYPE_CHECKING:
    from tests.support.audited_stores import AuditedStore
    from tests.support.s3_servers import Objects

COMMAND = Path(sys.executable).parent / "galerly-cdn"
SIZES = "150x150 webp=86; 800x600 webp=86"
KILLED_AFTER = (1, 9)
"""Lines of output: each is an item that was removed."""


def start(store: str, *options: str, **variables: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GALERLY_")}
    return subprocess.Popen(
        [COMMAND, "store", "clean", "--store", store, "--yes", *options],
        env={**inherited, "GALERLY_SIZES": SIZES, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_after(process: subprocess.Popen[str], lines: int) -> list[str]:
    """What it has printed until it was killed: more than `lines`, because it went on meanwhile."""
    assert process.stdout
    first = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].splitlines()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    return first + rest


def run_to_its_end(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate()
    assert process.returncode == 0
    return output.splitlines()[-1]


@pytest.mark.parametrize("kind", ["folder", *SERVERS])
async def test_killed_clean_that_is_run_again_ends_as_one_that_was_not_killed(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server = None if kind == "folder" else request.getfixturevalue(kind)
    objects = server.bucket() if server else None
    expected = await names_after_a_clean(tmp_path / "other", server.bucket() if server else None)
    async with open_audited_store(tmp_path / "store", objects) as store:
        await fill(store)
        address = f"s3://{objects.name}" if objects else str(tmp_path / "store")
        variables = {"GALERLY_STORE_ENDPOINT": server.endpoint, **CREDENTIALS} if server else {}
        removed = [line for count in KILLED_AFTER for line in kill_after(start(address, **variables), count)]
        assert len(removed) >= sum(KILLED_AFTER)
        assert len(set(removed)) == len(removed)
        assert "removed" in run_to_its_end(start(address, **variables))
        assert run_to_its_end(start(address, **variables)) == "0 removed, 0 bytes"
    assert names_in(tmp_path / "store", objects) == expected


async def fill(store: AuditedStore) -> None:
    await fill_with_everything(store)
    for number in range(20):
        await store.upload(f"many/{number}.jpg")
        for target in ALLOWED:
            await store.fill(f"many/{number}.jpg", target, version="earlier")


async def names_after_a_clean(root: Path, objects: Objects | None) -> set[str]:
    """What a clean-up without a kill leaves of the same store."""
    async with open_audited_store(root, objects) as store:
        await fill(store)
        store.ahead_s = 0.0
        await store.clean()
    return names_in(root, objects)


def names_in(root: Path, objects: Objects | None) -> set[str]:
    """The names in a store but for direct uploads, whose age is the server's."""
    if objects is not None:
        return {name for name in objects.names() if not name.startswith("incoming/")}
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
