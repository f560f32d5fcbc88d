"""Serves a CDN: the edge, the gallery page and the admin API over the stores and the workers.

stores → workers → filler → edge, page → application → listener
                          → library → admin API     → listener
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.admin.health import Health
from galerly_cdn.app.processes import forgetting, open_hit_processes, open_log, with_possible_processes
from galerly_cdn.app.renderer import open_renderer
from galerly_cdn.app.stores import open_refresh
from galerly_cdn.contents import read_contents
from galerly_cdn.downloads import Downloads
from galerly_cdn.edge import Edge
from galerly_cdn.errors import GalerlyError, SettingsError, StoreRefused, StoreUnreachable
from galerly_cdn.http.cross_origin import for_host, public_hosts
from galerly_cdn.http.exchange import Application
from galerly_cdn.http.urls import AllowList, is_loopback
from galerly_cdn.library import no_invalidation
from galerly_cdn.links import Links
from galerly_cdn.prefix_check import PrefixCheck
from galerly_cdn.rate_limit import MissLimiter
from galerly_cdn.serialization import replaced, to_json
from galerly_cdn.server import serve as http_server
from galerly_cdn.server.notifier import Notifier
from galerly_cdn.server.passed_sockets import PassedSockets
from galerly_cdn.settings.load import take_service_manager
from galerly_cdn.settings.locations import is_remote, resolve_locations
from galerly_cdn.store import open as store_open
from galerly_cdn.telemetry import AccessLog, Counters, Telemetry, TrafficStatistics, readable_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.access.signing import Signer
    from galerly_cdn.admin.composition import AdminSide
    from galerly_cdn.app.renderer import RenderingStores
    from galerly_cdn.browse.page import BrowsePage
    from galerly_cdn.contents import Contents
    from galerly_cdn.dashboard.composition import Dashboard, Photographs
    from galerly_cdn.http.exchange import Handler, ViewerExchange
    from galerly_cdn.http.responses import Response
    from galerly_cdn.library import Invalidate, Refresh
    from galerly_cdn.model import Forgotten
    from galerly_cdn.recipe_list import RecipeList
    from galerly_cdn.render.pool.fork_server_process import ForkServerProcess
    from galerly_cdn.server.processes.hit_processes import HitProcesses
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.tracing import Tracer

_log = logging.getLogger(__name__)


class Cdn:
    """The parts that answer requests, built over open stores and started workers."""

    def __init__(
        self,
        rendering: RenderingStores,
        invalidate: Invalidate = no_invalidation,
        open_application: Callable[..., Application] = Application,
        processes: HitProcesses | None = None,
        refresh: Refresh | None = None,
    ) -> None:
        stores = rendering.stores
        settings, self.telemetry = stores.settings, stores.telemetry
        self.rendering = rendering
        self.filler = rendering.filler
        self.edge = self._open_edge()
        self.processes = processes
        self.library = rendering.library(invalidate, forgetting(self.edge, processes), refresh)
        self._page = self._browse_page()
        self._health_path = settings.health_path
        self.application = for_host(
            open_application(
                self._handler, settings, self.telemetry, clock=stores.clock, find_hit=self.edge.find_hit
            ),
            settings,
        )
        self.prefixes = PrefixCheck(stores.originals, settings.private_prefixes)
        self.health = Health(
            rendering.workers,
            stores.originals,
            settings.limits,
            stores.clock.monotonic,
            prefixes=self.prefixes,
            listed=rendering.listed,
        )
        self.admin: AdminSide | None = None
        self.dashboard: Dashboard | None = None

    @property
    def memory_bytes(self) -> int:
        """The weight of the renditions in the memory of all processes."""
        return self.edge.memory_bytes + (self.processes.memory_bytes if self.processes else 0)

    async def forget_original(self, key: str) -> Forgotten:
        """As `Edge.forget_original`, in the memory of all processes. Raises as it."""
        removed: set[str] = set()
        if self.processes is not None:
            removed = await self.processes.forget(key, self.rendering.stores.settings.all_targets)
        forgotten = await self.edge.forget_original(key)
        return replaced(forgotten, removed=tuple(sorted({*forgotten.removed, *removed})))

    def _open_edge(self) -> Edge:
        rendering, stores = self.rendering, self.rendering.stores
        settings = stores.settings
        limiter = MissLimiter(stores.originals, settings, stores.clock.monotonic)
        self.downloads = Downloads(
            settings,
            limiter,
            stores.originals,
            rendering.authorizer,
            rendering.facts,
            rendering.inspector.record,
        )
        return Edge(
            settings=settings,
            allowed=AllowList(settings.size_rules),
            miss_limiter=limiter,
            renditions=stores.renditions,
            stored=self.filler.stored,
            filler=self.filler,
            authorizer=rendering.authorizer,
            downloads=self.downloads,
        )

    def _browse_page(self) -> Handler | None:
        """The gallery page's handler; None where the settings do not show the page.

        The page is built for its first request.
        """
        stores = self.rendering.stores
        settings = stores.settings
        if not (settings.browse or (is_loopback(settings.host) and not settings.private_prefixes)):
            return None

        @functools.cache
        def page() -> BrowsePage:
            from galerly_cdn.browse.page import BrowsePage  # noqa: PLC0415 - its templates take long to compile

            return BrowsePage(
                stores.originals,
                stores.renditions,
                self.rendering.facts,
                self.rendering.inspector.record,
                Links(sizes=settings.sizes),
                is_public=settings.browse,
                public_hosts=public_hosts(settings.public_urls),
            )

        async def answer(exchange: ViewerExchange) -> Response:
            return await page().answer(exchange)

        return answer

    def _handler(self, raw_path: bytes) -> Handler:
        check = self.health.public_handler(self._health_path, raw_path)
        if check is not None:
            return check
        if self._page is not None and (raw_path == b"/" or raw_path.startswith(b"/-/")):
            return self._page
        return self.edge.answer


@contextlib.asynccontextmanager
async def compose(
    settings: Settings,
    locations: Locations,
    invalidate: Invalidate = no_invalidation,
    fork_server: ForkServerProcess | None = None,
) -> AsyncIterator[Cdn]:
    """A CDN over its two stores, its workers running. Raises `SettingsError`.

    `invalidate` drops a key's pictures from the caches in front of this CDN.

    On leaving, fills in progress are finished, the workers end, and the access log is written out.
    """
    tracer = _open_tracer(settings)
    telemetry = _open_telemetry(settings)
    try:
        async with (
            open_renderer(settings, locations, telemetry, fork_server) as rendering,
            open_refresh(settings) as refresh,
        ):
            open_application = tracer.application if tracer else Application
            processes = open_hit_processes(rendering, locations)
            cdn = Cdn(rendering, invalidate, open_application, processes, refresh)
            await _check_prefixes(cdn.prefixes)
            await _list_recipes(rendering.listed)
            cdn.admin = await _open_admin(cdn, settings, locations)
            try:
                yield cdn
            finally:
                if cdn.dashboard is not None:
                    await cdn.dashboard.close()
            if cdn.admin is not None:
                await cdn.admin.close()
    finally:
        telemetry.close()
        if tracer is not None:
            await asyncio.to_thread(tracer.close)


async def _check_prefixes(prefixes: PrefixCheck) -> None:
    """Raises `SettingsError` for a private prefix that is nearly a folder's name."""
    try:
        await prefixes.check()
    except (StoreRefused, StoreUnreachable) as error:
        _log.warning("private_prefixes were not compared with the store: %s", error.detail)
    for warning in prefixes.warnings:
        _log.warning(warning)


async def _list_recipes(listed: RecipeList) -> None:
    """Read the store's list of recipes, and append those of the settings."""
    await listed.refresh()
    for warning in listed.warnings:
        _log.warning(warning)


def _open_telemetry(settings: Settings) -> Telemetry:
    """Counters, and the logs that the settings ask for: a thread writes them, so none starts without one."""
    counters = Counters()
    has_admin = settings.admin_port >= 0
    encode = readable_line if sys.stdout.isatty() else to_json
    log = AccessLog(sys.stdout.buffer, counters, encode) if settings.access_log or has_admin else None
    return Telemetry(
        counters,
        log if settings.access_log else None,
        audit=log,
        traffic=TrafficStatistics() if has_admin else None,
    )


def _open_tracer(settings: Settings) -> Tracer | None:
    """What sends traces; None where the settings do not ask for them. Raises `SettingsError`."""
    if not settings.traces:
        return None
    try:
        from galerly_cdn.tracing import Tracer  # noqa: PLC0415 - an extra, which starts slowly
    except ImportError as error:
        problem = "traces needs OpenTelemetry, which is not installed: pip install 'galerly-cdn[otel]'"
        raise SettingsError([problem]) from error
    return Tracer()


async def _open_admin(cdn: Cdn, settings: Settings, locations: Locations) -> AdminSide | None:
    """The admin API; None where the settings have no port for it. Raises `SettingsError`."""
    if settings.admin_port < 0:
        return None
    from galerly_cdn.admin.auth import authenticator  # noqa: PLC0415 - not needed without an admin port
    from galerly_cdn.admin.composition import (  # noqa: PLC0415 - prometheus_client starts slowly
        AdminSide,
        read_gauges,
    )
    from galerly_cdn.dashboard.composition import Dashboard  # noqa: PLC0415 - as the admin side

    stores, workers = cdn.rendering.stores, cdn.rendering.workers
    authenticated = authenticator(settings, stores.clock.monotonic)
    folder = None if is_remote(locations.renditions) else locations.renditions
    gauges = read_gauges(workers, lambda: cdn.memory_bytes, folder, stores.renditions.usage)
    cdn.dashboard = Dashboard(
        replaced(settings, renditions=locations.renditions),
        telemetry=cdn.telemetry,
        clock=stores.clock,
        authenticator=authenticated,
        gauges=gauges,
        photographs=_photographs(cdn, settings, is_writable=locations.is_writable),
        workers=lambda: workers.worker_facts,
    )
    cdn.dashboard.start()
    return AdminSide(
        settings,
        telemetry=cdn.telemetry,
        clock=stores.clock,
        authenticator=authenticated,
        library=cdn.library,
        forget=cdn.forget_original,
        direct_uploads=await store_open.open_direct_uploads(settings, locations, cdn.telemetry, stores.clock),
        workers=workers,
        libvips=cdn.rendering.libvips,
        health=cdn.health,
        gauges=gauges,
        pages=cdn.dashboard,
    )


def _photographs(cdn: Cdn, settings: Settings, *, is_writable: bool) -> Photographs:
    """What the dashboard reads of the CDN. Raises `SettingsError`."""
    from galerly_cdn.dashboard.composition import Photographs  # noqa: PLC0415 - only with an admin port

    stores = cdn.rendering.stores
    return Photographs(
        settings,
        stores.originals,
        stores.renditions,
        cdn.library,
        cdn.filler,
        cdn.downloads,
        is_writable=is_writable,
        signer=_open_signer(settings),
    )


def _open_signer(settings: Settings) -> Signer | None:
    """What signs the dashboard's links; None without the setting. Raises `SettingsError`."""
    if not settings.signing_key:
        return None
    from galerly_cdn.access import keys  # noqa: PLC0415 - cryptography starts slowly

    public_keys = keys.load_public_keys(Path(settings.public_keys))
    return keys.load_paired_signer(Path(settings.signing_key), public_keys)


def serve(  # noqa: PLR0913 - what is served, and the callbacks
    settings: Settings,
    photographs: str | None,
    announce: Callable[[str], None],
    *,
    announce_admin: Callable[[str], None] = lambda _: None,
    invalidate: Invalidate = no_invalidation,
    describe: Callable[[str, Contents], None] | None = None,
    fork_server: ForkServerProcess | None = None,
) -> bool:
    """Serve until a signal; whether every answer in progress was finished. Raises `SettingsError`.

    `announce` and `announce_admin` are called with the address of each side once it accepts connections.
    `describe` is called later with the public address and the contents of the store of originals. The workers
    come from `fork_server`, if it runs already; the caller ends it.
    """
    service = take_service_manager()
    sockets = PassedSockets(service.sockets)
    settings = sockets.applied_to(settings)
    locations = resolve_locations(settings, photographs)
    open_log(settings)
    settings = with_possible_processes(settings, locations)

    async def main() -> bool:
        async with compose(settings, locations, invalidate, fork_server) as cdn, _background_tasks() as tasks:

            def on_ready(address: str) -> None:
                gc.freeze()  # collections while serving need not visit what the start has made
                gc.enable()
                announce(address)
                if describe is not None:
                    tasks.append(asyncio.create_task(_describe(cdn, address, describe)))

            listeners = _listeners(cdn, settings, sockets, on_ready, announce_admin)
            notifier = Notifier(service.notify_socket, service.watchdog_s)
            return await http_server.serve(
                *listeners, settings=settings, on_drain=cdn.health.drain, notifier=notifier
            )

    return http_server.run(main())


def _listeners(
    cdn: Cdn,
    settings: Settings,
    sockets: PassedSockets,
    on_ready: Callable[[str], None],
    on_admin_ready: Callable[[str], None],
) -> tuple[http_server.Listener, ...]:
    """The listener for viewers, and that for the admin API where there is one."""
    public = http_server.Listener(
        application=cdn.application,
        host=settings.host,
        port=settings.port,
        sockets=sockets.public,
        proxies=settings.proxy_protocol_networks,
        refuse=cdn.application.refuse,
        answer_hit=cdn.application.answer_hit,
        processes=cdn.processes,
        on_ready=on_ready,
    )
    if cdn.admin is None:
        return (public,)
    admin = http_server.Listener(
        application=cdn.admin.application,
        host=settings.admin_host,
        port=settings.admin_port,
        sockets=sockets.admin,
        takes_bodies=True,
        refuse=cdn.admin.application.refuse,
        on_ready=on_admin_ready,
    )
    return public, admin


@contextlib.asynccontextmanager
async def _background_tasks() -> AsyncIterator[list[asyncio.Task[None]]]:
    """A list of tasks that are cancelled on leaving."""
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    for task in tasks:
        task.cancel()


async def _describe(cdn: Cdn, address: str, describe: Callable[[str, Contents], None]) -> None:
    try:
        describe(address, await read_contents(cdn.rendering.stores.originals))
    except GalerlyError as error:
        _log.warning("the originals cannot be listed: %s", error.detail or error.public)
