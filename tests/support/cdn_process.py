"""A CDN as a shell starts it, with its admin side."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = [sys.executable, "-m", "galerly_cdn"]


def environment(**more: str) -> dict[str, str]:
    """This process's, without the settings of this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GALERLY_")}
    return {**kept, **more}


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[str]:
    """Serves the store in `folder`; the address of its admin side. It ends as if asked to, and cleanly."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--store", str(folder), "--port", "0", "--admin-port", "0", *options],
        stdout=subprocess.PIPE,
        env=environment(GALERLY_ACCESS_LOG="false", GALERLY_WORKERS="2"),
        text=True,
    )
    assert process.stdout
    with process.stdout as told:
        lines = [told.readline(), told.readline()]
        try:
            yield lines[1].split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            told.read()  # the audit log: a full pipe would stop it
            assert process.wait(60) == 0
