"""Opens a store for an audit or a clean-up. Creates nothing in it, and starts no worker."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.app.stores import command_telemetry, existing_locations
from galerly_cdn.audit.caches import RememberedCaches
from galerly_cdn.audit.cleaner import Cleaner
from galerly_cdn.audit.expired import ExpiredOriginals
from galerly_cdn.audit.index import open_index
from galerly_cdn.audit.inventory import (
    InvalidInventory,
    Inventory,
    InventoryOriginals,
    InventoryRenditions,
    download_inventory,
    read_inventory,
)
from galerly_cdn.audit.judge import Judge
from galerly_cdn.audit.judgement import Rules
from galerly_cdn.audit.survey import Presumption, Survey
from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.errors import CommandError, ReadOnlyStore
from galerly_cdn.library import StoreCatalog
from galerly_cdn.recipes import Ranks
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.locations import is_remote
from galerly_cdn.store import open as store_open
from galerly_cdn.store.folder.stored_files import OriginalFiles, RenditionFiles, UploadFiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.audit.caches import InvalidateKeys
    from galerly_cdn.audit.index import AuditIndex
    from galerly_cdn.audit.judgement import Selection
    from galerly_cdn.audit.result import Audit, Cleaned, Removed
    from galerly_cdn.audit.survey import Progress
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals
    from galerly_cdn.store.remote.bucket import Bucket
    from galerly_cdn.store.stored_items import OriginalItems, StoredItems


class NoOriginals(CommandError):
    """The store shows no original, and a clean-up would remove all renditions."""

    code = "no-originals"
    public = "The store has renditions and no original, so nothing is removed."


class OpenedAudit:
    """One audit, and the clean-up after it."""

    def __init__(
        self, settings: Settings, places: Locations, judge: Judge, survey: Survey, index: AuditIndex
    ) -> None:
        self._settings = settings
        self._places = places
        self._judge = judge
        self._survey = survey
        self._index = index
        self._loses_originals = False

    async def run(self) -> Audit:
        """List the store, and judge everything in it. Raises as `Survey.run`."""
        audit = await self._survey.run()
        self._loses_originals = audit.expired_originals > 0
        return audit

    def preview(self, selection: Selection, show: Callable[[Removed], None]) -> Cleaned:
        """Show what `clean` would remove; after `run`."""
        return self._cleaner(selection, show).preview(self._index.findings())

    async def clean(
        self, selection: Selection, invalidate: InvalidateKeys | None, show: Callable[[Removed], None]
    ) -> Cleaned:
        """Remove what `run` has found. `invalidate` drops keys from the caches in front, if there are some.

        Raises `NoOriginals`, `ReadOnlyStore`, and as the stores and `invalidate` do; the first two before
        anything is removed.
        """
        if not self._survey.all_originals and self._index.findings_by_reason():
            raise NoOriginals("if all of them were deleted on purpose, delete the renditions' folder instead")
        if self._loses_originals and not self._places.is_writable:
            raise ReadOnlyStore(
                "photographs expire by `expire`: set `writable`, or drop its word `originals`"
            )
        async with contextlib.AsyncExitStack() as stack:
            caches = expired = None
            if invalidate is not None:
                caches = await self._caches(invalidate)
                await caches.finish(selection.shard)
            if self._loses_originals:
                expired = await self._expired(selection, stack)
            cleaner = self._cleaner(selection, show, caches, expired)
            return await cleaner.remove(self._index.findings())

    def _cleaner(
        self,
        selection: Selection,
        show: Callable[[Removed], None],
        caches: RememberedCaches | None = None,
        expired: ExpiredOriginals | None = None,
    ) -> Cleaner:
        return Cleaner(self._judge, selection, caches=caches, show=show, expired=expired)

    async def _caches(self, invalidate: InvalidateKeys) -> RememberedCaches:
        """The caches in front; a folder remembers nothing for the next clean-up."""
        if not is_remote(self._places.renditions):
            return RememberedCaches(invalidate, None)
        from galerly_cdn.store.remote.pending_invalidations import PendingInvalidations  # noqa: PLC0415 - loading obstore takes time

        bucket = await _bucket(self._settings, self._places.renditions)
        return RememberedCaches(invalidate, PendingInvalidations(bucket))

    async def _expired(self, selection: Selection, stack: contextlib.AsyncExitStack) -> ExpiredOriginals:
        """The originals, opened for deletions."""
        settings, places, telemetry = self._settings, self._places, command_telemetry()
        originals = await store_open.open_originals(settings, places, telemetry, SYSTEM_CLOCK)
        opening = store_open.open_renditions(settings, places.renditions, telemetry, SYSTEM_CLOCK)
        catalog = StoreCatalog(
            originals=originals,
            renditions=await stack.enter_async_context(opening),
            targets=settings.all_targets,
        )
        return ExpiredOriginals(
            originals, catalog, rules=self._judge.rules, selection=selection, now=SYSTEM_CLOCK.wall
        )


@contextlib.asynccontextmanager
async def open_audit(
    settings: Settings,
    photographs: str | None,
    selection: Selection,
    *,
    inventory: str = "",
    report: Callable[[Progress], None] = lambda _: None,
) -> AsyncIterator[OpenedAudit]:
    """The audit of a store, or of a folder and its renditions. `inventory` is a manifest's path or address.

    Raises `SettingsError`, `InvalidInventory`, `OSError`, and as the stores do.
    """
    places = existing_locations(settings, photographs)
    telemetry, now = command_telemetry(), SYSTEM_CLOCK.wall
    read_only = replaced(places, is_writable=False)
    originals = await store_open.open_originals(settings, read_only, telemetry, SYSTEM_CLOCK)
    recipes = await store_open.open_recipes(settings, places.renditions, telemetry, SYSTEM_CLOCK)
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(open_index())
        listed = None
        if inventory:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="galerly-inventory-")))
            listed = await _open_inventory(settings, places, inventory, folder)
        rules = Rules(frozenset(settings.all_targets), Ranks.of(()), settings.expire_rules)
        roots = await _open_roots(settings, places, listed)
        judge = Judge(roots, originals, recipes, rules, now)
        await judge.read_recipes()
        survey = Survey(
            judge,
            await _open_listing(settings, places, originals, listed),
            index,
            selection=selection,
            limits=settings.limits,
            max_bytes=settings.max_original_bytes,
            presumption=Presumption.of(judge.entries) if listed else None,
            report=report,
        )
        yield OpenedAudit(settings, places, judge, survey, index)


async def _open_roots(
    settings: Settings, places: Locations, inventory: Inventory | None
) -> tuple[StoredItems, ...]:
    """The root of the renditions, and that of uploads."""
    renditions = await _open_renditions(settings, places.renditions, inventory)
    if is_remote(places.originals) and not places.incoming:
        return (renditions,)
    return renditions, await _open_uploads(settings, places)


async def _open_renditions(settings: Settings, root: str, inventory: Inventory | None) -> StoredItems:
    if not is_remote(root):
        return RenditionFiles(Path(root), SYSTEM_CLOCK.wall)
    from galerly_cdn.store.remote.stored_objects import RenditionObjects  # noqa: PLC0415 - loading obstore takes time

    objects = RenditionObjects(await _bucket(settings, root))
    return InventoryRenditions(inventory, _prefix(root), objects) if inventory else objects


async def _open_uploads(settings: Settings, places: Locations) -> StoredItems:
    if not places.incoming:
        return UploadFiles(Path(places.originals), SYSTEM_CLOCK.wall)
    from galerly_cdn.store.remote.stored_objects import UploadObjects  # noqa: PLC0415 - loading obstore takes time

    return UploadObjects(await _bucket(settings, places.incoming), SYSTEM_CLOCK.wall)


async def _open_listing(
    settings: Settings, places: Locations, originals: Originals, inventory: Inventory | None
) -> OriginalItems:
    if not is_remote(places.originals):
        return OriginalFiles(Path(places.originals), originals)
    if inventory:
        return InventoryOriginals(inventory, _prefix(places.originals))
    from galerly_cdn.store.remote.stored_objects import OriginalObjects  # noqa: PLC0415 - loading obstore takes time

    return OriginalObjects(await _bucket(settings, places.originals))


async def _open_inventory(settings: Settings, places: Locations, address: str, folder: Path) -> Inventory:
    bucket, _, _ = places.renditions.removeprefix("s3://").partition("/")
    if not all(root.startswith(f"s3://{bucket}/") for root in (places.originals, places.renditions)):
        raise InvalidInventory("only a store in one bucket of S3 has an inventory")
    if not is_remote(address):
        return read_inventory(Path(address), bucket)
    source, _, manifest = address.removeprefix("s3://").partition("/")
    return await download_inventory(await _bucket(settings, f"s3://{source}"), manifest, bucket, folder)


def _prefix(root: str) -> str:
    """The beginning of a root's keys in its bucket: `originals/`."""
    return f"{root.partition('://')[2].partition('/')[2]}/"


async def _bucket(settings: Settings, root: str) -> Bucket:
    return await store_open.open_bucket(root, settings, command_telemetry(), SYSTEM_CLOCK)
