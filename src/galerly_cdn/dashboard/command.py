"""Runs a command of galerly-cdn in a process of its own, with bounded time, memory and disk.

The event loop answers viewers meanwhile. The process has the lowest priority, is the first that the kernel
ends when memory runs out, and is killed with its process group when the run is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.errors import CommandError
from galerly_cdn.serialization import Value
from galerly_cdn.settings.load import command_environment, settings_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from galerly_cdn.settings.table import Settings

_INTERPRETER = (sys.executable, "-P", "-m", "galerly_cdn")
"""`-P`: the folder that the server was started in is no source of modules."""
MAX_S = 600.0
_MAX_OUTPUT_BYTES = 16 * 1024 * 1024
_MAX_MESSAGE_BYTES = 2000
_MAX_FILE_BYTES = 16 * 1024**3
_KILLED_S = 5.0
_OUTPUT, _MESSAGES, _SETTINGS = "output", "messages", "settings.toml"


class CommandFailed(CommandError):
    """The command ended with an error; `detail` is what it printed, for operators."""

    code = "command-failed"
    public = "The command failed."


class Ended(Value, frozen=True):
    """How a command ended: its exit code, negative for a signal, and the end of its stderr."""

    exit_code: int
    message: str


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for the files of one run, in the machine's folder for temporary files."""
    return tempfile.TemporaryDirectory(prefix="galerly-dashboard-", ignore_cleanup_errors=True)


@contextlib.asynccontextmanager
async def cleaned(scratch: tempfile.TemporaryDirectory[str]) -> AsyncIterator[Path]:
    """The folder's path; it is removed on leaving, by a thread: it may hold gigabytes."""
    try:
        yield Path(scratch.name)
    finally:
        await asyncio.to_thread(scratch.cleanup)


async def run(
    arguments: Sequence[str],
    settings: Settings,
    folder: Path,
    *,
    files: Sequence[int] = (),
    keeps_temporary: bool = False,
) -> Ended:
    """Run `galerly-cdn ARGUMENTS` with these settings; its standard output is read by `read_output`.

    `files` are descriptors that the command inherits. `keeps_temporary`: its temporary files are in `folder`.
    Raises `CommandFailed` if it does not end in `MAX_S`, `OSError` if it cannot be started.
    """
    (folder / _SETTINGS).write_bytes(settings_file(settings))
    process = _start(arguments, folder, files, {"TMPDIR": str(folder)} if keeps_temporary else {})
    waiter = ThreadPoolExecutor(1, "command")  # not a thread of the pool in which files are read for viewers
    try:
        _restrict(process.pid)
        await asyncio.get_running_loop().run_in_executor(waiter, _wait, process, MAX_S)
    finally:
        await _end(process)
        waiter.shutdown(wait=False)
    return Ended(process.returncode, _message(folder, process.returncode))


def _start(
    arguments: Sequence[str], folder: Path, files: Sequence[int], variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """The process. Raises `OSError`."""
    name, *others = arguments
    with (folder / _OUTPUT).open("wb") as output, (folder / _MESSAGES).open("wb") as messages:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and command
            [*_INTERPRETER, name, "--config", str(folder / _SETTINGS), *others],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=messages,
            pass_fds=files,
            env=command_environment(variables),
            process_group=0,  # as a worker's: Ctrl-C reaches the server alone
        )


def read_output(folder: Path, offset: int = 0) -> bytes:
    """What the command has printed after `offset`, so far. Raises `CommandFailed` if it is too much."""
    with (folder / _OUTPUT).open("rb") as file:
        return read_bounded(file.fileno(), offset)


def read_bounded(fd: int, offset: int = 0) -> bytes:
    """The rest of a file that a command wrote. Raises `CommandFailed` above 16 MiB, to bound the memory."""
    length_bytes = os.fstat(fd).st_size - offset
    if length_bytes > _MAX_OUTPUT_BYTES:
        raise CommandFailed(
            f"The result has {length_bytes / 1e6:.0f} MB, which is too much for a page: choose a gallery or "
            "a shorter time, or run the command in a terminal."
        )
    return os.pread(fd, max(0, length_bytes), offset)


def _restrict(pid: int) -> None:
    """Lower the priority of a process, and limit its CPU time and the length of each of its files.

    A file may take half of the free space, so that renditions can still be stored. Limits can be set where
    there is prlimit(2); the CPU time ends a process whose server was killed.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, 19)
    if sys.platform != "linux":
        return
    import resource  # noqa: PLC0415 - Unix alone has it

    free = shutil.disk_usage(tempfile.gettempdir()).free
    file_bytes = min(_MAX_FILE_BYTES, max(_MAX_OUTPUT_BYTES, free // 2))
    cpu_s = int(MAX_S + 1) * (os.cpu_count() or 1)
    with contextlib.suppress(OSError):  # it has ended
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", "ascii")
        resource.prlimit(pid, resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Raises `CommandFailed` after `timeout_s`."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        message = f"It did not end in {timeout_s / 60:.0f} minutes: run the command in a terminal."
        raise CommandFailed(message) from None


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that runs, with its group, and wait for it: then it writes nothing more."""
    if process.poll() is not None:  # its id may be another process's after it has been waited for
        return
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, _KILLED_S)


def _message(folder: Path, exit_code: int) -> str:
    """The end of stderr without the usage lines of click, or what ended the process."""
    with (folder / _MESSAGES).open("rb") as file:
        length_bytes = os.fstat(file.fileno()).st_size
        file.seek(max(0, length_bytes - _MAX_MESSAGE_BYTES))
        text = file.read().decode("utf-8", "replace")
    if exit_code == -signal.SIGKILL:
        return "The kernel ended it, most likely because memory ran out: run the command on another machine."
    if exit_code < 0:
        return f"It was ended by {signal.Signals(-exit_code).name}."
    text = text.rpartition("\nError: ")[2].strip()
    return "".join(one if one.isprintable() else " " for one in text.replace("galerly-cdn: ", ""))
