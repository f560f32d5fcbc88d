"""Forks a process for each line on stdin; prints its id, and `ended` when it has ended.

A line is `{seed} {step}`: the child kills itself at one of its next system calls of that name. With the step
`none` it works until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def main(work: Callable[[Path, int, str], Coroutine[Any, Any, None]]) -> None:
    """Run `work`, which does not end, in each child, in the folder that the command line names."""
    root = Path(sys.argv[1])
    for line in sys.stdin:
        seed, step = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(work(root, int(seed), step))
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)


def die_at(step: str, countdown: int) -> None:
    """Kill this process at the `countdown`-th call of a function of `os`; not at all for `none`."""
    if step == "none":
        return
    real = getattr(os, step)
    remaining = [countdown]

    def count_down(*arguments: object, **options: object) -> object:
        remaining[0] -= 1
        if remaining[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(os, step, count_down)
