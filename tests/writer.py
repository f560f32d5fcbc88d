"""A writer of renditions to be killed: forks one for each line on stdin, and names its process.

A line is `{seed} {step}`: the writer kills itself at that system call of one of its puts, or, where
the step is `none`, writes until it is killed. Each put done is a byte on stdout.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from galerly_cdn.store.shelf import FolderRenditions
from tests.shelves import MIB, made

KEYS = [f"gallery/{number}.jpg" for number in range(12)]


def body(key: str, seed: int) -> bytes:
    """What a writer puts: long enough to be torn, and known from its first bytes."""
    rng = random.Random(f"{key} {seed}")
    return f"{key} {seed} ".encode() + rng.randbytes(rng.randrange(200_000))


def main(root: Path) -> None:
    for line in sys.stdin:
        seed, step = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(_write(root, int(seed), step))
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)


async def _write(root: Path, seed: int, step: str) -> None:
    rng = random.Random(seed)
    shelf = FolderRenditions(root, 64 * MIB, lambda _event: None, lambda: 0.0)
    if step != "none":
        die_at(step, rng.randrange(1, 5))
    while True:
        key = rng.choice(KEYS)
        await shelf.put(made(key, body(key, seed)))
        os.write(2, b".")


def die_at(step: str, countdown: int) -> None:
    """Have this process kill itself at the last of so many calls of a function of `os`."""
    real = getattr(os, step)
    left = [countdown]

    def dying(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(os, step, dying)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
