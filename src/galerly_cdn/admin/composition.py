"""Builds the admin API of a CDN."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

from galerly_cdn.admin.app import AdminApplication
from galerly_cdn.admin.handlers import Handlers
from galerly_cdn.admin.metrics import Metrics
from galerly_cdn.admin.routes import all_routes
from galerly_cdn.admin.warming import Warmer
from galerly_cdn.render.pool.worker_state import Phase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.admin.app import Pages
    from galerly_cdn.admin.auth import Authenticator
    from galerly_cdn.admin.health import Health
    from galerly_cdn.admin.metrics import Gauges
    from galerly_cdn.clock import Clock
    from galerly_cdn.library import StoreLibrary
    from galerly_cdn.model import Forgotten
    from galerly_cdn.render.pool.pool import WorkerPool
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import DirectUploads, Usage
    from galerly_cdn.telemetry import Telemetry


def read_gauges(
    workers: WorkerPool,
    memory_cache_bytes: Callable[[], int],
    renditions_folder: str | None,
    usage: Callable[[], Usage | None],
) -> Gauges:
    """The functions that read the gauges of `metric_table`.

    `renditions_folder` is None for renditions in a remote store; `usage` is what a folder holds.
    """
    gauges = {**_worker_gauges(workers), "galerly_memory_cache_bytes": memory_cache_bytes}
    return gauges if renditions_folder is None else {**gauges, **_folder_gauges(renditions_folder, usage)}


class AdminSide:
    """The admin application, with the steps that end it."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: Settings,
        *,
        telemetry: Telemetry,
        clock: Clock,
        authenticator: Authenticator,
        library: StoreLibrary,
        forget: Callable[[str], Awaitable[Forgotten]],
        direct_uploads: DirectUploads | None,
        workers: WorkerPool,
        libvips: str,
        health: Health,
        gauges: Gauges,
        pages: Pages | None = None,
    ) -> None:
        self._health = health
        self._warming = Warmer(library, workers.capacity, telemetry.counters.count)
        handlers = Handlers(library, self._warming, settings, forget=forget, direct_uploads=direct_uploads)
        metrics = Metrics(telemetry, gauges, libvips)
        self.application = AdminApplication(
            all_routes(handlers, self._health, metrics),
            authenticator,
            settings,
            telemetry,
            clock=clock,
            pages=pages,
        )

    def drain(self) -> None:
        """Answer readiness checks with 503 from now on, because the process is about to stop."""
        self._health.drain()

    async def close(self) -> None:
        """End the warming that runs in the background."""
        await self._warming.close()


def _worker_gauges(workers: WorkerPool) -> Gauges:
    def states() -> dict[str, float]:
        counts = workers.phases()
        return {phase.name.lower(): counts[phase] for phase in Phase}

    return {
        "galerly_workers": lambda: workers.size,
        "galerly_worker_states": states,
        "galerly_renders_in_progress": lambda: workers.in_flight,
        "galerly_render_queue": lambda: workers.queued,
        "galerly_render_queue_age_seconds": workers.oldest_wait_s,
    }


def _folder_gauges(folder: str, usage: Callable[[], Usage | None]) -> Gauges:
    """The gauges of renditions in a folder; NaN for what is not known."""
    return {
        "galerly_renditions_bytes": lambda: found.disk_bytes if (found := usage()) else math.nan,
        "galerly_renditions_files": lambda: found.objects if (found := usage()) else math.nan,
        "galerly_renditions_disk_free_bytes": lambda: _disk_bytes(folder)[0],
        "galerly_renditions_disk_size_bytes": lambda: _disk_bytes(folder)[1],
    }


def _disk_bytes(folder: str) -> tuple[float, float]:
    """Free bytes and size of a folder's disk; NaN if it cannot be read."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.nan, math.nan
    return float(usage.free), float(usage.total)
