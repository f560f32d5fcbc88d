"""Starts `galerly-cdn serve` as a shell does, with its admin listener."""

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


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without `GALERLY_` settings, plus `variables`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GALERLY_")}
    return {**inherited, **variables}


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[str]:
    """Serve the store in `folder`; yields the admin API's address. Asserts that SIGTERM ends it with 0."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--store", str(folder), "--port", "0", "--admin-port", "0", *options],
        stdout=subprocess.PIPE,
        env=environment(GALERLY_ACCESS_LOG="false", GALERLY_WORKERS="2"),
        text=True,
    )
    assert process.stdout
    with process.stdout as output:
        lines = [output.readline(), output.readline()]
        try:
            yield lines[1].split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            output.read()  # the audit log: a full pipe would block the server
            assert process.wait(60) == 0
