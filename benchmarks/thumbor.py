"""Installs and runs thumbor: from PyPI, in its own virtual environment, with one process per core."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.servers import started_group

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.servers import Running

TEMPLATE = "unsafe/fit-in/{width}x{height}/filters:quality({quality}):format({format})/{key}"
_SETTINGS = """\
LOADER = "thumbor.loaders.file_loader"
FILE_LOADER_ROOT_PATH = {root!r}
STORAGE = "thumbor.storages.no_storage"
RESULT_STORAGE = None
ALLOW_UNSAFE_URL = True
MAX_PIXELS = 100e6
"""


@contextmanager
def running(root: Path, scratch: Path) -> Iterator[Running]:
    """Run thumbor for a folder, without storage. The installation takes a minute."""
    environment = scratch / "thumbor"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "thumbor"], check=True, stdout=sys.stderr)
    settings = scratch / "thumbor.conf"
    settings.write_text(_SETTINGS.format(root=str(root)))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    command = [str(environment / "bin" / "thumbor"), "-i", "127.0.0.1", "-p", str(port), "-c", str(settings)]
    command += ["-l", "error", "--processes", str(os.cpu_count())]
    with started_group(command, f"http://127.0.0.1:{port}/", {}) as started:
        yield started
