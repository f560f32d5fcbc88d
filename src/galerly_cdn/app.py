"""The composition root: settings → a running CDN. With `stores`, the only file that builds things.

telemetry → workers → originals, renditions → recipes → origin → edge, page → application → listener
                                                              → archive → admin side → listener
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn import jobs
from galerly_cdn.access.authorizer import Authorizer
from galerly_cdn.downloads import Downloads
from galerly_cdn.edge import Edge
from galerly_cdn.fill import Filler
from galerly_cdn.http.exchange import Application
from galerly_cdn.http.urls import AllowList, checked_key, is_loopback
from galerly_cdn.library import StoreLibrary, no_invalidation
from galerly_cdn.links import Links
from galerly_cdn.model import replaced
from galerly_cdn.rate_limit import MissLimiter
from galerly_cdn.render import libvips_version
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.server import serve as listener
from galerly_cdn.settings import locations
from galerly_cdn.store import open as stores
from galerly_cdn.telemetry import AccessLog, Counters, Telemetry, TrafficStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from galerly_cdn.admin.composition import AdminSide
    from galerly_cdn.http.exchange import Handler
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Renditions, WritableOriginals

    Invalidate = Callable[[str], Awaitable[None]]


class Cdn:
    """The parts of a running CDN, built and wired; `compose` starts and ends them."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: Settings,
        *,
        telemetry: Telemetry,
        workers: WorkerPool,
        libvips: str,
        originals: WritableOriginals,
        renditions: Renditions,
        invalidate: Invalidate = no_invalidation,
    ) -> None:
        self.telemetry = telemetry
        self.workers = workers
        self._settings = settings
        self.originals = originals
        self.origin = Filler(
            originals=originals,
            renditions=renditions,
            renderer=workers,
            recipes=jobs.recipes(settings, libvips),
            clock=telemetry.monotonic,
            count=telemetry.counters.count,
        )
        misses = MissLimiter(originals, settings, telemetry.monotonic)
        guard = _guard(settings, telemetry.wall)
        self.edge = Edge(
            settings=settings,
            allowed=AllowList(settings.size_rules),
            misses=misses,
            renditions=renditions,
            origin=self.origin,
            guard=guard,
            downloads=Downloads(settings, misses, originals, guard),
        )
        self.archive = self._archive(originals, renditions, guard, invalidate)
        self._page = self._browse(renditions)
        self.application = Application(self._route, settings, telemetry)
        self.admin: AdminSide | None = None

    def _archive(
        self, originals: WritableOriginals, renditions: Renditions, guard: Authorizer, invalidate: Invalidate
    ) -> StoreLibrary:
        return StoreLibrary(
            originals=originals,
            renditions=renditions,
            decoder=self.workers,
            recipes=self.origin.recipes,
            max_bytes=self._settings.max_original_bytes,
            warm=functools.partial(self.origin.warm, targets=jobs.page_targets(self._settings)),
            check=lambda key: guard.checked(checked_key(key)),
            forget=self.edge.forget,
            invalidate=invalidate,
        )

    def _browse(self, renditions: Renditions) -> Handler | None:
        """The page, where it is shown."""
        settings = self._settings
        if not (settings.browse or (is_loopback(settings.host) and not settings.private_prefixes)):
            return None
        from galerly_cdn.browse.page import BrowsePage  # noqa: PLC0415 - its templates cost start-up time

        links = Links(sizes=settings.sizes)
        return BrowsePage(
            self.originals, renditions, self.archive.facts, links, is_public=settings.browse
        ).answer

    def _route(self, raw_path: bytes) -> Handler:
        if self._page is not None and (raw_path == b"/" or raw_path.startswith(b"/-/")):
            return self._page
        return self.edge.answer


def _guard(settings: Settings, now: Callable[[], float]) -> Authorizer:
    """Raises `SettingsError` for keys that are unfit."""
    guard = functools.partial(
        Authorizer, settings.private_prefixes, now=now, signs_originals=settings.sign_originals
    )
    if not settings.public_keys:
        return guard(verifier=None)
    from galerly_cdn.access import keys as keyring  # noqa: PLC0415 - cryptography's start-up time is for those who sign
    from galerly_cdn.access.signing import Verifier  # noqa: PLC0415 - likewise

    keys = keyring.load_public_keys(Path(settings.public_keys))
    return guard(verifier=Verifier(keys, settings.public_urls))


@contextlib.asynccontextmanager
async def compose(
    settings: Settings, places: Locations, invalidate: Invalidate = no_invalidation
) -> AsyncIterator[Cdn]:
    """A CDN over its two roots, its workers running. Raises `SettingsError`.

    `invalidate` drops a key's pictures from caches in front of it: whoever starts the CDN knows them.

    On leaving, fills under way are finished, the workers end, and the access log is written out.
    """
    telemetry = _telemetry(settings)
    workers = WorkerPool(settings, telemetry.counters.count)
    try:
        hello = await workers.start()
        libvips_version.check_version(hello.libvips)
        originals = await stores.open_originals(settings, places, telemetry)
        async with stores.open_renditions(settings, places.renditions, telemetry) as renditions:
            cdn = Cdn(
                settings,
                telemetry=telemetry,
                workers=workers,
                libvips=hello.libvips,
                originals=originals,
                renditions=renditions,
                invalidate=invalidate,
            )
            cdn.admin = await _admin(cdn, settings, places, hello.libvips)
            yield cdn
            if cdn.admin is not None:
                await cdn.admin.close()
            await cdn.origin.drain()
    finally:
        await workers.close(settings.drain_s)
        telemetry.close()


def _telemetry(settings: Settings) -> Telemetry:
    """What is reported to; lines are written where somebody has something to say."""
    counters = Counters()
    has_admin = settings.admin_port >= 0
    lines = AccessLog(sys.stdout.buffer, counters) if settings.access_log or has_admin else None
    return Telemetry(
        counters,
        lines if settings.access_log else None,
        audit=lines,
        traffic=TrafficStatistics() if has_admin else None,
        wall=time.time,  # noqa: TID251 - the rim
        monotonic=time.monotonic,
    )


@contextlib.asynccontextmanager
async def open_library(
    settings: Settings, invalidate: Invalidate = no_invalidation
) -> AsyncIterator[StoreLibrary]:
    """The archive of the settings' store, and no server. Raises `SettingsError`."""
    places = locations.resolve_locations(settings, None)
    async with compose(replaced(settings, access_log=False, admin_port=-1), places, invalidate) as cdn:
        yield cdn.archive


async def _admin(cdn: Cdn, settings: Settings, places: Locations, libvips: str) -> AdminSide | None:
    """The admin side, if the settings ask for one. Raises `SettingsError`."""
    if settings.admin_port < 0:
        return None
    from galerly_cdn.admin.composition import AdminSide  # noqa: PLC0415 - prometheus_client's start-up time

    return AdminSide(
        settings,
        telemetry=cdn.telemetry,
        archive=cdn.archive,
        originals=cdn.originals,
        incoming=await stores.open_direct_uploads(settings, places, cdn.telemetry),
        workers=cdn.workers,
        libvips=libvips,
        memory_cache_bytes=lambda: cdn.edge.memory_bytes,
    )


def serve(
    settings: Settings,
    photographs: str | None,
    announce: Callable[[str], None],
    announce_admin: Callable[[str], None] = lambda _: None,
    invalidate: Invalidate = no_invalidation,
) -> bool:
    """Serve until a signal; whether every answer under way was finished. Raises `SettingsError`."""
    places = locations.resolve_locations(settings, photographs)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )

    async def main() -> bool:
        async with compose(settings, places, invalidate) as cdn:
            listeners = [
                listener.Listener(
                    application=cdn.application,
                    host=settings.host,
                    port=settings.port,
                    refuse=cdn.application.refuse,
                    on_ready=announce,
                )
            ]
            if cdn.admin is None:
                return await listener.serve(*listeners, settings=settings)
            listeners.append(
                listener.Listener(
                    application=cdn.admin.application,
                    host=settings.admin_host,
                    port=settings.admin_port,
                    takes_bodies=True,
                    refuse=cdn.admin.application.refuse,
                    on_ready=announce_admin,
                )
            )
            return await listener.serve(*listeners, settings=settings, on_drain=cdn.admin.drain)

    return listener.run(main())
