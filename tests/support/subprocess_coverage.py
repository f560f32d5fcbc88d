"""Measures the coverage of a worker process from the import of this module to the exit.

A worker cannot write or open files (`sandbox`). Only the soft limit of the file size is therefore set here
and raised again at the exit, and the file for the measurement is opened on import. `conftest` converts the
file to coverage's own format.
"""

from __future__ import annotations

import atexit
import os
import resource
from pathlib import Path
from typing import BinaryIO

import coverage

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".pytest_cache" / "measured"

_set_limit = resource.setrlimit


def _leave_hard_file_size(which: int, limits: tuple[int, int]) -> None:
    if which == resource.RLIMIT_FSIZE:
        limits = limits[0], resource.getrlimit(which)[1]
    _set_limit(which, limits)


def _save() -> None:
    _set_limit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    _coverage.stop()
    _file.write(_coverage.get_data().dumps())
    _file.flush()


def _open_file() -> BinaryIO:
    return (FOLDER / str(os.getpid())).open("wb")


def _open_own_file() -> None:
    """In a worker, which the measured fork server has forked."""
    global _file  # noqa: PLW0603 - `_save` writes to it
    _file.close()
    _file = _open_file()


resource.setrlimit = _leave_hard_file_size
os.chdir(ROOT)
FOLDER.mkdir(parents=True, exist_ok=True)
_file = _open_file()
os.register_at_fork(after_in_child=_open_own_file)
_coverage = coverage.Coverage(config_file="pyproject.toml", data_file=None, messages=False)
_coverage.start()
os.chdir("/")
atexit.register(_save)
