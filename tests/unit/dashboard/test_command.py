"""Commands in a process of their own: what they get, their bounds, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.dashboard import command
from galerly_cdn.settings.load import load_settings
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

SETTINGS = Settings(sizes=("cover 10x10",), store="photographs")


def run_code(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let a command be this code; `sys.argv[1:]` is the command's name and its arguments."""
    monkeypatch.setattr(command, "_INTERPRETER", (sys.executable, "-c", code))


async def test_command_gets_the_settings_and_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_code(monkeypatch, "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))")
    monkeypatch.setenv("GALERLY_ADMIN_TOKEN", "s3cret")
    monkeypatch.setenv("GALERLY_STORE", "another")
    ended = await command.run(["report", "--json"], SETTINGS, tmp_path, keeps_temporary=True)
    arguments, variables = json.loads(command.read_output(tmp_path))
    file = Path(arguments[2])
    assert (ended, arguments) == (command.Ended(0, ""), ["report", "--config", str(file), "--json"])
    assert load_settings(file=file, environment={}).settings == SETTINGS
    assert not [name for name in variables if name.startswith("GALERLY_")]
    assert variables["TMPDIR"] == str(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit(2) and oom_score_adj are Linux'")
async def test_command_has_the_lowest_priority_and_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limits are set once the process runs.
    run_code(
        monkeypatch,
        """
import os, resource, time
while resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY: time.sleep(0.01)
limits = [resource.getrlimit(one)[0] for one in (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE)]
print(os.getpriority(os.PRIO_PROCESS, 0), open("/proc/self/oom_score_adj").read().strip(), *limits)
""",
    )
    await command.run(["report"], SETTINGS, tmp_path)
    niceness, oom_score, cpu_s, file_bytes = map(int, command.read_output(tmp_path).split())
    assert (niceness, oom_score, cpu_s) == (19, 1000, int(command.MAX_S + 1) * (os.cpu_count() or 1))
    assert 16 * 1024**2 <= file_bytes <= 16 * 1024**3


@pytest.mark.skipif(sys.platform != "linux", reason="limits are set on Linux")
async def test_command_that_cannot_be_limited_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    run_code(monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(shutil, "disk_usage", fail)
    started: list[subprocess.Popen[bytes]] = []
    start = command._start

    def recorded(
        arguments: Sequence[str], folder: Path, files: Sequence[int], variables: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        started.append(start(arguments, folder, files, variables))
        return started[-1]

    monkeypatch.setattr(command, "_start", recorded)
    with pytest.raises(FileNotFoundError):
        await command.run(["report"], SETTINGS, tmp_path)
    assert [process.returncode for process in started] == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [
        ("import sys; sys.exit('galerly-cdn: it failed\\x1b[2J')", 1, "it failed [2J"),
        ("import sys; sys.exit('Usage: x\\nTry --help\\n\\nError: --since: no time')", 1, "--since: no time"),
        ("import os; os.kill(os.getpid(), 9)", -9, "memory ran out"),
        ("import os; os.kill(os.getpid(), 24)", -24, "SIGXCPU"),
        ("import sys; sys.stderr.write('x' * 100_000 + 'end')", 0, "xend"),
        ("import sys; sys.stderr.buffer.write(bytes([255]))", 0, "\N{REPLACEMENT CHARACTER}"),
    ],
)
async def test_message_is_the_end_of_stderr_without_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, exit_code: int, message: str
) -> None:
    run_code(monkeypatch, code)
    ended = await command.run(["report"], SETTINGS, tmp_path)
    assert ended.exit_code == exit_code
    assert message in ended.message
    assert len(ended.message) <= 2000
    assert ended.message.isprintable()


ENDLESS = """
import os, signal, subprocess
with open({fifo!r}, "wb") as fifo:
    os.set_inheritable(fifo.fileno(), True)
    subprocess.Popen(["sleep", "1000"], close_fds=False)
    fifo.write(b"ready")
    fifo.flush()
    signal.pause()
"""


async def test_cancelled_command_ends_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    run_code(monkeypatch, ENDLESS.format(fifo=str(fifo)))
    task = asyncio.create_task(command.run(["report"], SETTINGS, tmp_path))
    reader = await asyncio.to_thread(fifo.open, "rb")
    with reader:
        assert await asyncio.to_thread(reader.read, 5) == b"ready"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(reader.read) == b""  # nobody holds it open


async def test_command_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_code(monkeypatch, "import signal; signal.pause()")
    monkeypatch.setattr(command, "MAX_S", 0.05)
    with pytest.raises(command.CommandFailed, match="did not end"):
        await command.run(["report"], SETTINGS, tmp_path)


async def test_output_above_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_code(monkeypatch, "print('x' * 100)")
    monkeypatch.setattr(command, "_MAX_OUTPUT_BYTES", 100)
    await command.run(["report"], SETTINGS, tmp_path)
    assert command.read_output(tmp_path, 1) == b"x" * 99 + b"\n"
    with pytest.raises(command.CommandFailed, match="too much for a page"):
        command.read_output(tmp_path)


async def test_scratch_folder_is_removed_at_the_end() -> None:
    async with command.cleaned(command.scratch_folder()) as folder:
        (folder / "file").touch()
    assert not folder.exists()
