"""One access record per request, as a JSON line; and a counter for everything worth counting.

Lines are written by a thread in batches, so that a stalled reader of stdout never stalls a viewer;
records that would not fit are dropped and counted.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING

from galerly_cdn.model import Value, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

_MAX_WAITING = 10_000
_BATCH_S = 0.05


class AccessRecord(Value, frozen=True, omit_defaults=True):
    """What one request asked for, what it was answered, and what that took."""

    time_s: float
    request_id: str
    client: str
    method: str
    path: str
    status: int
    bytes: int
    duration_ms: float
    key: str = ""
    size: str = ""
    format: str = ""
    cache: str = ""
    """RFC 9211: `hit`, or `fwd=…` and what came of it."""
    stages_ms: dict[str, float] | None = None
    reason: str = ""
    """An error's code; empty for an answer."""
    detail: str = ""
    """An error's private part: for the log alone."""


class Counters:
    """How often each event happened since the start; names are the errors' codes and a few more."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # the access log's thread counts too

    def count(self, event: str, times: int = 1) -> None:
        """`event` has happened, once unless told."""
        with self._lock:
            self._counts[event] += times

    def snapshot(self) -> Mapping[str, int]:
        """The counts so far."""
        with self._lock:
            return dict(self._counts)


class AccessLog:
    """Writes access records to a stream, one JSON line each. `close` writes what is left."""

    def __init__(self, stream: BinaryIO, counters: Counters) -> None:
        self._stream = stream
        self._counters = counters
        self._waiting: deque[AccessRecord] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def write(self, record: AccessRecord) -> None:
        """Hand over a record; returns at once."""
        if len(self._waiting) >= _MAX_WAITING:
            self._counters.count("access-record-dropped")
            return
        self._waiting.append(record)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left; a reader that has stalled is waited for no longer than `timeout_s`."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _write(self) -> None:
        while self._wake.wait():
            closing = self._closing.wait(_BATCH_S)
            self._wake.clear()
            lines = [to_json(self._waiting.popleft()) + b"\n" for _ in range(len(self._waiting))]
            try:
                self._stream.write(b"".join(lines))
                self._stream.flush()
            except (OSError, ValueError):  # the reader has gone; viewers must not notice
                self._counters.count("access-record-dropped", len(lines))
            if closing:
                return


class Telemetry:
    """What the parts of one server report to: a clock, counters, and the access log (None: off)."""

    def __init__(
        self,
        counters: Counters,
        log: AccessLog | None,
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.counters = counters
        self.wall = wall
        self.monotonic = monotonic
        self._log = log
        self._run = secrets.token_hex(4)
        self._requests = itertools.count(1)

    def next_request_id(self) -> str:
        """Unique within and across runs: a random prefix and a number."""
        return f"{self._run}-{next(self._requests):x}"

    def record(self, record: AccessRecord) -> None:
        """Count the reason of a refusal, and log the request."""
        if record.reason:
            self.counters.count(record.reason)
        if self._log is not None:
            self._log.write(record)

    def close(self) -> None:
        """Write what the access log still holds."""
        if self._log is not None:
            self._log.close()
