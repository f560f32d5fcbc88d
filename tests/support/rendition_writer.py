"""Writes renditions until it is killed (`process_forker`), and a byte to stderr after each put."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from galerly_cdn.store.folder.renditions import FolderRenditions
from tests.support import process_forker
from tests.support.rendition_folders import MIB, make_rendition

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [f"gallery/{number}.jpg" for number in range(12)]


def body(key: str, seed: int) -> bytes:
    """The body of a rendition: long enough to be written in part, and identified by its first bytes."""
    rng = random.Random(f"{key} {seed}")
    return f"{key} {seed} ".encode() + rng.randbytes(rng.randrange(200_000))


async def _write(root: Path, seed: int, step: str) -> None:
    rng = random.Random(seed)
    store = FolderRenditions(root, 64 * MIB, lambda _event: None, lambda: 0.0)
    process_forker.die_at(step, rng.randrange(1, 5))
    while True:
        key = rng.choice(KEYS)
        await store.put(make_rendition(key, body(key, seed), version=f"{seed}"))
        os.write(2, b".")


if __name__ == "__main__":
    process_forker.main(_write)
