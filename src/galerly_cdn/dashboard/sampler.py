"""Reads the server's counters every few seconds, and keeps the samples of the last hour in memory.

Requests cost nothing extra: the counters are kept anyway. A sample costs less than a millisecond.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.dashboard.samples import HISTORY_S, INTERVAL_S, Load, Sample, count_totals
from galerly_cdn.telemetry import TrafficStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from galerly_cdn.admin.metrics import Gauges
    from galerly_cdn.clock import Clock
    from galerly_cdn.render.pool.supervisor import WorkerFacts
    from galerly_cdn.telemetry import Telemetry


class Sampler:
    """The samples of the last hour; `start` begins to take them, `stop` ends it."""

    def __init__(
        self, telemetry: Telemetry, gauges: Gauges, workers: Callable[[], Sequence[WorkerFacts]], clock: Clock
    ) -> None:
        self._traffic = telemetry.traffic or TrafficStatistics()
        self._gauges = gauges
        self._workers = workers
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=int(HISTORY_S / INTERVAL_S) + 1)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take a sample now, and then one each `INTERVAL_S`."""
        self.sample()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self.start)

    def stop(self) -> None:
        """Take no more samples."""
        if self._timer is not None:
            self._timer.cancel()

    def sample(self) -> None:
        """Take a sample, and forget the one before the last hour."""
        self._samples.append(self.read())

    @property
    def history(self) -> list[Sample]:
        """The samples, oldest first."""
        return list(self._samples)

    def read(self) -> Sample:
        """The counters at this moment."""
        return Sample(
            time_s=self._clock.wall(),
            clock_s=self._clock.monotonic(),
            totals=count_totals(self._traffic),
            load=Load(
                workers=int(self._gauge("galerly_workers")),
                busy=int(self._gauge("galerly_renders_in_progress")),
                queued=int(self._gauge("galerly_render_queue")),
                cache_bytes=self._gauge("galerly_memory_cache_bytes"),
                memory_bytes=_memory_bytes(),
                worker_bytes=float(sum(one.resident_bytes for one in self._workers())),
                cpu_s=time.process_time(),
                disk_free_bytes=self._gauge("galerly_renditions_disk_free_bytes"),
                disk_bytes=self._gauge("galerly_renditions_disk_size_bytes"),
            ),
        )

    def _gauge(self, name: str) -> float:
        """A gauge of `metric_table`; NaN if it is not kept here."""
        read = self._gauges.get(name)
        return read() if read is not None else math.nan


def _memory_bytes() -> float:
    """The resident memory of this process; NaN where the system does not tell it (Linux does)."""
    try:
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    except OSError:
        return math.nan
    return float(pages) * os.sysconf("SC_PAGE_SIZE")
