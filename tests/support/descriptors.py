"""Names the open file descriptors of this process, to find those that a test leaves open."""

from __future__ import annotations

import gc
import os
from contextlib import suppress


def open_descriptors() -> set[tuple[str, str]]:
    """The number and the target of each open file descriptor, without those that garbage still holds.

    Compare two of these sets with `<=`: descriptors of earlier tests may be closed in between.
    """
    gc.collect()
    found = set()
    for number in os.listdir("/dev/fd"):  # noqa: PTH208 - a Path would open one more for longer
        with suppress(OSError):  # the listing's own, which is closed by now
            found.add((number, os.readlink(f"/dev/fd/{number}")))  # noqa: PTH115 - likewise
    return found
