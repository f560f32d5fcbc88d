"""Writes the access log and the audit log as JSON lines, and counts responses and events.

A thread writes the lines in batches, so that a stalled reader of stdout never delays a response. Access
records are dropped and counted when too many wait to be written.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

from galerly_cdn.serialization import Value, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

_MAX_QUEUED = 10_000
_BATCH_S = 0.05
_MAX_RECENT_ERRORS = 300
_LEFT = 499
"""The viewer closed the connection before there was a response, which is no error."""


class AccessRecord(Value, frozen=True, omit_defaults=True):
    """One request: its path, its response, and how long it took."""

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
    """The parameters of Cache-Status (RFC 9211): `hit` or `fwd=…`, and more; empty if it is not a picture."""
    stages_ms: dict[str, float] | None = None
    reason: str = ""
    """An error's code; empty for a success."""
    detail: str = ""
    """An error's private detail, for the log only."""


class AuditRecord(Value, frozen=True, omit_defaults=True):
    """One change through the admin API, or an attempt: who, what, and the outcome."""

    time_s: float
    request_id: str
    client: str
    who: str
    """How the client was authenticated: `loopback`, or `token` or `session` and the beginning of the token's
    SHA-256."""
    action: str
    """The operation's method and path, for example `PUT /originals/{key}`."""
    outcome: str
    """`created`, `replaced`, …, or an error's code."""
    status: int
    duration_ms: float
    subject: str = ""
    """The key, gallery or upload."""
    bytes: int = 0
    """Of the upload, as far as it was received."""
    detail: str = ""


class Histogram:
    """Responses of one kind: their number, bytes and durations."""

    __slots__ = ("buckets", "bytes", "seconds")

    BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

    def __init__(self) -> None:
        self.buckets = [0] * (len(self.BOUNDS_S) + 1)
        """How many durations are up to each bound and above the one before; the last is above all bounds."""
        self.bytes = 0
        self.seconds = 0.0

    @property
    def times(self) -> int:
        return sum(self.buckets)

    def add(self, seconds: float, length_bytes: int = 0) -> None:
        self.buckets[bisect_left(self.BOUNDS_S, seconds)] += 1
        self.bytes += length_bytes
        self.seconds += seconds

    def merge(self, other: Histogram) -> None:
        """Add the values of another one."""
        self.buckets = [sum(both) for both in zip(self.buckets, other.buckets, strict=True)]
        self.bytes += other.bytes
        self.seconds += other.seconds


class TrafficStatistics:
    """Responses to viewers since the start. A hit costs one look-up and three additions."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str, str, int], Histogram] = {}
        """By result (`CacheStatus.result`; empty if there is no picture), size, format and status."""
        self.refusals: Counter[str] = Counter()
        """By error code."""
        self.stages: defaultdict[str, Histogram] = defaultdict(Histogram)
        """Durations of the stages of fills: opening, rendering, storing."""

    def add(self, record: AccessRecord, result: str) -> None:
        """Count one response; `result` is a label of `answers`."""
        kind = (result, record.size, record.format, record.status)
        histogram = self.answers.get(kind)
        if histogram is None:
            histogram = self.answers[kind] = Histogram()
        histogram.add(record.duration_ms / 1000, record.bytes)
        if record.reason:
            self.refusals[record.reason] += 1
        if record.stages_ms:
            for stage, spent_ms in record.stages_ms.items():
                self.stages[stage].add(spent_ms / 1000)


class Counters:
    """Counts events since the start. Their names are the error codes and a few more."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # the access log's thread counts too

    def count(self, event: str, times: int = 1) -> None:
        """Count an event."""
        with self._lock:
            self._counts[event] += times

    def snapshot(self) -> Mapping[str, int]:
        """A copy of the counts."""
        with self._lock:
            return dict(self._counts)


class AccessLog:
    """Writes records to a stream, one JSON line each. `close` writes the remaining ones."""

    def __init__(
        self,
        stream: BinaryIO,
        counters: Counters,
        encode: Callable[[AccessRecord | AuditRecord], bytes] = to_json,
    ) -> None:
        self._stream = stream
        self._encode = encode
        self._counters = counters
        self._queue: deque[AccessRecord | AuditRecord] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_batches, name="access-log", daemon=True)
        self._thread.start()

    def write(self, record: AccessRecord | AuditRecord) -> None:
        """Queue a record without waiting. Audit records, which are few, are never dropped."""
        if len(self._queue) >= _MAX_QUEUED and isinstance(record, AccessRecord):
            self._counters.count("access-record-dropped")
            return
        self._queue.append(record)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write the remaining records; wait at most `timeout_s` for a stalled reader."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _write_batches(self) -> None:
        while self._wake.wait():
            closing = self._closing.wait(_BATCH_S)
            self._wake.clear()
            lines = [self._encode(self._queue.popleft()) + b"\n" for _ in range(len(self._queue))]
            try:
                self._stream.write(b"".join(lines))
                self._stream.flush()
            except (OSError, ValueError):  # the reader has ended; responses must not fail
                self._counters.count("access-record-dropped", len(lines))
            if closing:
                return


class Telemetry:
    """The counters, statistics and logs of one server. A log that is None is off.

    `traffic` is None if no metrics are served.
    """

    def __init__(
        self,
        counters: Counters,
        log: AccessLog | None,
        *,
        audit: AccessLog | None = None,
        traffic: TrafficStatistics | None = None,
    ) -> None:
        self.counters = counters
        self.traffic = traffic
        self.recent_errors: deque[AccessRecord] = deque(maxlen=0 if traffic is None else _MAX_RECENT_ERRORS)
        """The last error responses, oldest first; none is kept if no metrics are served."""
        self._log = log
        self._audit = audit
        self._run = secrets.token_hex(4)
        self._requests = itertools.count(1)

    def next_request_id(self) -> str:
        """Unique within and across runs: a random prefix and a number."""
        return f"{self._run}-{next(self._requests):x}"

    def record(self, record: AccessRecord, result: str = "") -> None:
        """Count a response and an error's code, and log the request; `result` as in `TrafficStatistics`."""
        if self.traffic is not None:
            self.traffic.add(record, result)
        if record.reason:
            self.counters.count(record.reason)
            if record.status != _LEFT:
                self.recent_errors.append(record)
        if self._log is not None:
            self._log.write(record)

    def audit(self, record: AuditRecord) -> None:
        """Log a change made through the admin API."""
        if self._audit is not None:
            self._audit.write(record)

    def close(self) -> None:
        """Write the remaining records of the logs."""
        for log in {self._log, self._audit}:
            if log is not None:
                log.close()


def printable(text: str) -> str:
    """The text as printable ASCII, with escapes: a log must not send control sequences to a terminal."""
    return text.encode("unicode_escape").decode("ascii")


def readable_line(record: AccessRecord | AuditRecord) -> bytes:
    """A record as a line for people: status, duration, bytes, cache status, method and path, reason.

    An audit record stays JSON: its fields differ from operation to operation.
    """
    if isinstance(record, AuditRecord):
        return to_json(record)
    kilobytes = f"{record.bytes / 1000:.1f} kB"
    columns = f"{record.status}  {record.duration_ms:8.1f} ms  {kilobytes:>11}  {record.cache or '-':<24}"
    request = f"{record.method} {record.path}"
    return f"{columns}  {request}{f'  ({record.reason})' if record.reason else ''}".encode()
