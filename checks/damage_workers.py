"""Runs a function in worker processes; one that dies or takes too long costs only its own task."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import threading
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

_NICE = 10
_DEADLINE_S = 300
_MEMORY_BYTES = 6 << 30


def run_all(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], jobs: int, lost: Callable[..., Any]
) -> list[Any]:
    """The results of `function`, in the order of `tasks`; `lost` gives that of a task whose worker died.

    Both are functions of modules, called with the values of a task. Shows the progress on stderr.
    """
    started_s = time.monotonic()
    results: dict[int, Any] = {}
    workers = threading.local()

    def run_one(task: tuple[Any, ...]) -> Any:  # noqa: ANN401 - what `function` returns
        if not hasattr(workers, "own"):
            workers.own = _Worker(function)
        try:
            return workers.own.ask(task)
        except (EOFError, TimeoutError, OSError) as error:
            workers.own.kill()
            del workers.own
            return lost(*task, type(error).__name__)

    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run_one, task): number for number, task in enumerate(tasks)}
        for future in as_completed(running):
            results[running[future]] = future.result()
            _show_progress(len(results), len(tasks), time.monotonic() - started_s)
    return [results[number] for number in sorted(results)]


class _Mistake(NamedTuple):
    """What a task raised: a mistake in the check, which ends it."""

    text: str


class _Worker:
    """A process that answers tasks, one at a time. It ends with its parent, as a daemon process."""

    def __init__(self, function: Callable[..., Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, task: tuple[Any, ...]) -> Any:  # noqa: ANN401 - what the function returns
        """The result. Raises `EOFError` if the process died, `TimeoutError` after the deadline."""
        self._connection.send(task)
        if not self._connection.poll(_DEADLINE_S):
            raise TimeoutError
        result = self._connection.recv()
        if isinstance(result, _Mistake):
            raise RuntimeError(f"{task}: {result.text}")  # noqa: TRY004 - the type is not the mistake
        return result

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._connection.close()


def _serve(connection: Connection, function: Callable[..., Any]) -> None:
    os.nice(_NICE)
    os.environ["VIPS_CONCURRENCY"] = "1"
    warnings.simplefilter("ignore")  # Pillow's, about damaged metadata
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            connection.send(function(*task))
        except Exception:  # noqa: BLE001 - reported by the parent
            connection.send(_Mistake(traceback.format_exc()))


def _show_progress(done: int, total: int, passed_s: float) -> None:
    """Rewrite one line of a terminal; in a log, write a line at every tenth."""
    text = f"{done} of {total} files, {passed_s / done * (total - done):.0f} s left"
    if sys.stderr.isatty():
        print(f"\r{text}   ", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done * 10 // total > (done - 1) * 10 // total:
        print(text, file=sys.stderr, flush=True)
