"""Opens the stores that the settings name, for commands that list, delete or purge. Starts no worker.

The composition of a CDN has three grades, each a superset of the one before: this one, `renderer` (adds
worker processes) and `server` (adds HTTP). A command pays only for the grade that it needs.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.errors import SettingsError
from galerly_cdn.library import StoreCatalog, no_invalidation, read_page
from galerly_cdn.serialization import replaced
from galerly_cdn.settings import load
from galerly_cdn.settings.locations import is_remote, resolve_locations
from galerly_cdn.store import open as store_open
from galerly_cdn.telemetry import Counters, Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.clock import Clock
    from galerly_cdn.library import Invalidate, Page, Refresh
    from galerly_cdn.model import RecipeEntry
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals, Renditions, WritableOriginals
    from galerly_cdn.store.remote.bucket import Bucket


class Stores:
    """The opened stores of originals and renditions, and the telemetry that they report to."""

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        *,
        originals: WritableOriginals,
        renditions: Renditions,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.clock = clock
        self.originals = originals
        self.renditions = renditions

    def catalog(self, refresh: Refresh | None, invalidate: Invalidate = no_invalidation) -> StoreCatalog:
        """Lists, deletes and purges; `invalidate` drops a key's pictures from caches in front of the CDN."""
        return StoreCatalog(
            originals=self.originals,
            renditions=self.renditions,
            targets=self.settings.all_targets,
            invalidate=invalidate,
            refresh=refresh,
        )


@contextlib.asynccontextmanager
async def open_stores(
    settings: Settings, locations: Locations, telemetry: Telemetry
) -> AsyncIterator[Stores]:
    """Open both stores; the renditions' store is closed on leaving. Raises `SettingsError`."""
    originals = await store_open.open_originals(settings, locations, telemetry, SYSTEM_CLOCK)
    async with store_open.open_renditions(
        settings, locations.renditions, telemetry, SYSTEM_CLOCK
    ) as renditions:
        yield Stores(settings, telemetry, originals=originals, renditions=renditions)


@contextlib.asynccontextmanager
async def open_catalog(
    settings: Settings, invalidate: Invalidate = no_invalidation
) -> AsyncIterator[StoreCatalog]:
    """The catalogue of the settings' store. Raises `SettingsError`."""
    async with (
        open_stores(settings, resolve_locations(settings, None), command_telemetry()) as stores,
        open_refresh(settings) as refresh,
    ):
        yield stores.catalog(refresh, invalidate)


@contextlib.asynccontextmanager
async def open_refresh(settings: Settings) -> AsyncIterator[Refresh | None]:
    """What refreshes the fronts and nodes of the settings; None for none. Raises `SettingsError`."""
    if not (settings.fronts or settings.nodes):
        yield None
        return
    from galerly_cdn.refresh import Refresher  # noqa: PLC0415 - httpx starts slowly, and only fleets need it

    async with Refresher(settings, load.admin_token(settings)) as refresher:
        yield refresher.refresh


class StoreListing:
    """Lists the originals of a store."""

    def __init__(self, originals: Originals) -> None:
        self._originals = originals

    async def list(self, prefix: str = "", after: str = "", limit: int = 1000) -> Page:
        """As `StoreCatalog.list`."""
        return await read_page(self._originals, prefix, after, limit)


@contextlib.asynccontextmanager
async def open_listing(settings: Settings, _: Invalidate = no_invalidation) -> AsyncIterator[StoreListing]:
    """The originals of the settings' store, opened without creating anything. Raises `SettingsError`."""
    places = replaced(resolve_locations(settings, None), is_writable=False)
    yield StoreListing(await store_open.open_originals(settings, places, command_telemetry(), SYSTEM_CLOCK))


def read_recipes(settings: Settings, photographs: str | None) -> tuple[RecipeEntry, ...]:
    """The entries of the list of recipes of a store, or of a folder's renditions; nothing is created.

    Raises `SettingsError`, `StoreRefused`, `StoreUnreachable`.
    """
    root = existing_locations(settings, photographs).renditions

    async def read() -> tuple[RecipeEntry, ...]:
        listed = await store_open.open_recipes(settings, root, command_telemetry(), SYSTEM_CLOCK)
        return await listed.entries()

    return asyncio.run(read())


def existing_locations(settings: Settings, photographs: str | None) -> Locations:
    """As `resolve_locations`. Raises `SettingsError` also if there are no originals."""
    places = resolve_locations(settings, photographs)
    if settings.store:
        check_store_exists(settings)
    elif not is_remote(places.originals) and not Path(places.originals).is_dir():
        raise SettingsError([f"PHOTOGRAPHS: there is no folder {places.originals}"])
    return places


async def open_bucket(settings: Settings, address: str) -> Bucket:
    """The objects at an address of a remote store: `s3://logs/E2QWRUHAPOMQZL`. Raises `SettingsError`."""
    return await store_open.open_bucket(address, settings, command_telemetry(), SYSTEM_CLOCK)


def check_store_exists(settings: Settings) -> None:
    """Raises `SettingsError` if the settings' store is a folder without originals.

    Only an upload creates a store: elsewhere its name is mistyped.
    """
    originals = resolve_locations(settings, None).originals
    if not is_remote(originals) and not Path(originals).is_dir():
        raise SettingsError([f"store: {settings.store} has no folder originals; the first upload creates it"])


def command_telemetry() -> Telemetry:
    """The telemetry of a command: events are counted, and no log is written."""
    return Telemetry(Counters(), None)
