"""Imported first in a worker process under coverage: measures it from here to its end.

A worker may write no file (`sandbox`): the limit stays a soft one here, and is lifted to save what was seen.
"""

from __future__ import annotations

import atexit
import os
import resource
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[1]

_set_limit = resource.setrlimit


def _leave_hard_file_size(which: int, limits: tuple[int, int]) -> None:
    if which == resource.RLIMIT_FSIZE:
        limits = limits[0], resource.getrlimit(which)[1]
    _set_limit(which, limits)


def _save() -> None:
    _set_limit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    os.chdir(ROOT)
    _measured.stop()
    _measured.save()


resource.setrlimit = _leave_hard_file_size
os.chdir(ROOT)
_measured = coverage.Coverage(config_file="pyproject.toml", data_suffix=True, messages=False)
_measured.start()
os.chdir("/")
atexit.register(_save)
