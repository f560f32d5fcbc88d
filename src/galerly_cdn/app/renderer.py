"""Starts render workers beside the stores, for commands that upload, inspect or warm. Loads no HTTP server.

Also renders or inspects a single file without any store, exactly as the server would.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import Authorizer
from galerly_cdn.app.stores import command_telemetry, existing_locations, open_refresh, open_stores
from galerly_cdn.errors import RenderFailed, Unrenderable
from galerly_cdn.facts import OriginalFacts
from galerly_cdn.fill import Filler
from galerly_cdn.http.urls import AllowList, checked_key
from galerly_cdn.inspector import Inspector, smallest_job
from galerly_cdn.library import FileInspection, StoreLibrary, no_invalidation
from galerly_cdn.recipe_list import RecipeList
from galerly_cdn.recipes import job_of, recipes_of
from galerly_cdn.render import libvips_version, recipe
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.settings.locations import resolve_locations
from galerly_cdn.stored_renditions import StoredRenditions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from galerly_cdn.app.stores import Stores
    from galerly_cdn.library import Forget, Invalidate, Refresh
    from galerly_cdn.model import RecipeEntry, Rendered
    from galerly_cdn.render.pool.fork_server_process import ForkServerProcess
    from galerly_cdn.render.pool.protocol import Ready
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.telemetry import Telemetry


class RenderingStores:
    """The stores, the workers, and the `Filler` that stores what the workers render.

    Raises `SettingsError` for public keys that cannot be used.
    """

    def __init__(self, stores: Stores, workers: WorkerPool, libvips: str, formats: Iterable[str]) -> None:
        """`libvips` is the version that the workers use, `formats` are those that it decodes.

        Recipes and fact records depend on them.
        """
        settings, telemetry = stores.settings, stores.telemetry
        self.stores = stores
        self.workers = workers
        self.libvips = libvips
        self.formats = tuple(formats)
        self.authorizer = _authorizer(settings, stores.clock.wall)
        self.facts = OriginalFacts(
            stores.renditions,
            revision=recipe.facts_revision(libvips, self.formats),
            limits=settings.limits,
            count=telemetry.counters.count,
        )
        self.listed = RecipeList(
            stores.renditions,
            recipes_of(settings, libvips),
            clock=stores.clock,
            count=telemetry.counters.count,
        )
        self.filler = Filler(
            originals=stores.originals,
            stored=StoredRenditions(stores.renditions, self.facts, self.listed),
            renderer=workers,
            facts=self.facts,
            clock=stores.clock.monotonic,
            count=telemetry.counters.count,
        )
        self.inspector = Inspector(stores.originals, workers, self.facts, self.listed.recipes)

    def library(
        self,
        invalidate: Invalidate = no_invalidation,
        forget: Forget | None = None,
        refresh: Refresh | None = None,
    ) -> StoreLibrary:
        """Also uploads, inspects and warms.

        `invalidate` drops a key's pictures from caches in front of the CDN, `forget` renditions from the
        memory of the CDN itself, `refresh` a key's pictures from fronts and other nodes.
        """
        settings = self.stores.settings
        return StoreLibrary(
            originals=self.stores.originals,
            renditions=self.stores.renditions,
            inspector=self.inspector,
            facts=self.facts,
            listed=self.listed,
            max_bytes=settings.max_original_bytes,
            warm=functools.partial(self.filler.warm, targets=settings.warm_targets),
            check=lambda key: self.authorizer.checked_upload(checked_key(key)),
            forget=forget,
            invalidate=invalidate,
            refresh=refresh,
        )


@contextlib.asynccontextmanager
async def open_renderer(
    settings: Settings,
    locations: Locations,
    telemetry: Telemetry,
    fork_server: ForkServerProcess | None = None,
) -> AsyncIterator[RenderingStores]:
    """Open the stores and start the workers, by a `fork_server` that runs already. Raises `SettingsError`.

    On leaving, fills in progress are finished, then the workers end.
    """
    async with (
        open_stores(settings, locations, telemetry) as stores,
        _start_workers(settings, telemetry, fork_server) as (workers, ready),
    ):
        rendering = RenderingStores(stores, workers, ready.libvips, ready.formats)
        yield rendering
        await rendering.filler.drain()


@contextlib.asynccontextmanager
async def open_library(
    settings: Settings, invalidate: Invalidate = no_invalidation
) -> AsyncIterator[StoreLibrary]:
    """The library of the settings' store, without a server. Raises `SettingsError`."""
    locations = resolve_locations(settings, None)
    async with (
        open_renderer(settings, locations, command_telemetry()) as rendering,
        open_refresh(settings) as refresh,
    ):
        yield rendering.library(invalidate, refresh=refresh)


def roll_back(settings: Settings, photographs: str | None) -> RecipeEntry | None:
    """Make the settings' recipes current for a store, or a folder; the entry appended, None if they are.

    Raises `SettingsError`, `StoreRefused`, `StoreUnreachable`.
    """
    places = existing_locations(settings, photographs)

    async def append() -> RecipeEntry | None:
        async with open_renderer(settings, places, command_telemetry()) as opened:
            return await opened.listed.rollback()

    return asyncio.run(append())


def render_file(
    settings: Settings, file: Path, size: str, image_format: str | None
) -> tuple[Rendered, bytes]:
    """Render one file at a size of the allow-list. Raises the errors that answer a request for it."""
    segment = f"{size}.{image_format}" if image_format else size
    rule, target = AllowList(settings.size_rules).find(segment.encode())
    job = job_of(rule, target, settings)

    async def render() -> tuple[Rendered, bytes]:
        async with _start_workers(settings, command_telemetry()) as (workers, _):
            with file.open("rb") as original:
                length_bytes = os.fstat(original.fileno()).st_size
                return await workers.render(original.fileno(), length_bytes, job, str(file))

    return asyncio.run(render())


def inspect_file(settings: Settings, file: Path) -> FileInspection:
    """Read one file's header, and decode its pixels. Raises the refusal of a header that cannot be read."""

    async def inspect() -> FileInspection:
        async with _start_workers(settings, command_telemetry()) as (workers, ready):
            with file.open("rb") as original:
                fd, length_bytes = original.fileno(), os.fstat(original.fileno()).st_size
                facts = await workers.inspect(fd, length_bytes, str(file))
                job = smallest_job(recipes_of(settings, ready.libvips))
                try:
                    await workers.render(fd, length_bytes, job, str(file))
                except Unrenderable as error:
                    return FileInspection.of(facts, "refused", error)
                except RenderFailed:
                    return FileInspection.of(facts, "unknown")
                return FileInspection.of(facts, "good")

    return asyncio.run(inspect())


def describe_renderer(settings: Settings) -> Ready:
    """The version of libvips that the workers use, and the formats that it decodes."""
    ready = describe_worker(settings)
    libvips_version.check_version(ready.libvips)
    return ready


def describe_worker(settings: Settings) -> Ready:
    """As `describe_renderer`, and the limits in force, of any libvips. Raises `SettingsError`."""

    async def describe() -> Ready:
        workers = WorkerPool(settings, command_telemetry().counters.count)
        try:
            return await workers.start()
        finally:
            await workers.close(settings.drain_s)

    return asyncio.run(describe())


@contextlib.asynccontextmanager
async def _start_workers(
    settings: Settings, telemetry: Telemetry, fork_server: ForkServerProcess | None = None
) -> AsyncIterator[tuple[WorkerPool, Ready]]:
    """Start the worker processes; they end on leaving. Raises `SettingsError`."""
    workers = WorkerPool(
        settings, telemetry.counters.count, observe=telemetry.record_render, started=fork_server
    )
    try:
        ready = await workers.start()
        libvips_version.check_version(ready.libvips)
        yield workers, ready
    finally:
        await workers.close(settings.drain_s)


def _authorizer(settings: Settings, now: Callable[[], float]) -> Authorizer:
    """Raises `SettingsError` for public keys that cannot be used."""
    authorizer = functools.partial(
        Authorizer, settings.private_prefixes, now=now, signs_originals=settings.sign_originals
    )
    if not settings.public_keys:
        return authorizer(verifier=None)
    from galerly_cdn.access import keys  # noqa: PLC0415 - cryptography starts slowly, and only signed galleries use it
    from galerly_cdn.access.signing import Verifier  # noqa: PLC0415 - likewise

    public_keys = keys.load_public_keys(Path(settings.public_keys))
    return authorizer(verifier=Verifier(public_keys, settings.public_urls))
