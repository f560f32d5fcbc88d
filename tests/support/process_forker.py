"""A parent of processes to be killed: forks one for each line on stdin, names it, and says when it has ended.

A line is `{seed} {step}`: the child kills itself at one of its next system calls of that name, or, where the
step is `none`, works until it is killed.
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
    """Have each child do `work`, which does not end, in the folder that the command line names."""
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
    """Have this process kill itself at the last of so many calls of a function of `os`; never at `none`."""
    if step == "none":
        return
    real = getattr(os, step)
    left = [countdown]

    def dying(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(os, step, dying)
