"""Imported first in a worker process under coverage: measures it from here to its end.

A worker may write no file and open none (`sandbox`): the size limit stays a soft one here, lifted at the
end, and the file for what was seen is opened now. `conftest` turns it into coverage's own.
"""

from __future__ import annotations

import atexit
import os
import resource
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]
SEEN = ROOT / ".pytest_cache" / "measured"

_set_limit = resource.setrlimit


def _leave_hard_file_size(which: int, limits: tuple[int, int]) -> None:
    if which == resource.RLIMIT_FSIZE:
        limits = limits[0], resource.getrlimit(which)[1]
    _set_limit(which, limits)


def _save() -> None:
    _set_limit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    _measured.stop()
    _seen.write(_measured.get_data().dumps())
    _seen.flush()


resource.setrlimit = _leave_hard_file_size
os.chdir(ROOT)
SEEN.mkdir(parents=True, exist_ok=True)
_seen = (SEEN / str(os.getpid())).open("wb")
_measured = coverage.Coverage(config_file="pyproject.toml", data_file=None, messages=False)
_measured.start()
os.chdir("/")
atexit.register(_save)
