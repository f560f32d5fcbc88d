"""Builds the admin API of a CDN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.admin.app import AdminApplication
from galerly_cdn.admin.auth import authenticator
from galerly_cdn.admin.handlers import Handlers
from galerly_cdn.admin.metrics import Metrics
from galerly_cdn.admin.routes import all_routes
from galerly_cdn.admin.warming import Warmer

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.admin.health import Health
    from galerly_cdn.clock import Clock
    from galerly_cdn.library import StoreLibrary
    from galerly_cdn.render.pool.pool import WorkerPool
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import DirectUploads
    from galerly_cdn.telemetry import Telemetry


class AdminSide:
    """The admin application, with the steps that end it. Raises `SettingsError`."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: Settings,
        *,
        telemetry: Telemetry,
        clock: Clock,
        library: StoreLibrary,
        direct_uploads: DirectUploads | None,
        workers: WorkerPool,
        libvips: str,
        health: Health,
        memory_cache_bytes: Callable[[], int],
    ) -> None:
        self._health = health
        self._warming = Warmer(library, workers.capacity, telemetry.counters.count)
        gauges = {
            "workers": ("Render processes that are ready or at work.", lambda: float(workers.size)),
            "renders_in_progress": ("Calls in a worker's hands.", lambda: float(workers.in_flight)),
            "render_queue": ("Viewers' calls that wait for a worker.", lambda: float(workers.queued)),
            "memory_cache_bytes": (
                "Bytes of hot renditions in memory.",
                lambda: float(memory_cache_bytes()),
            ),
        }
        handlers = Handlers(library, self._warming, settings, direct_uploads=direct_uploads)
        metrics = Metrics(telemetry, gauges, libvips)
        self.application = AdminApplication(
            all_routes(handlers, self._health, metrics),
            authenticator(settings),
            settings,
            telemetry,
            clock=clock,
        )

    def drain(self) -> None:
        """Answer readiness checks with 503 from now on, because the process is about to stop."""
        self._health.drain()

    async def close(self) -> None:
        """End the warming that runs in the background."""
        await self._warming.close()
