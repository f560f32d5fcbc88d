"""Opens the stores at the configured roots: folders, or remote stores, depending on the address.

Part of the composition root (`app`).
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.errors import ReadOnlyStore, StoreUnreachable
from galerly_cdn.http.urls import checked_key
from galerly_cdn.settings import locations
from galerly_cdn.settings.load import prepare_cloud_variables
from galerly_cdn.store.folder.originals import FolderOriginals
from galerly_cdn.store.folder.recipes import FolderRecipes
from galerly_cdn.store.folder.renditions import FolderRenditions
from galerly_cdn.store.folder.uploads import WritableFolderOriginals
from galerly_cdn.store.temp_files import sweep_shared_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.clock import Clock
    from galerly_cdn.model import Head
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import (
        DirectUploads,
        Originals,
        RecipeEntries,
        Renditions,
        WritableOriginals,
    )
    from galerly_cdn.store.remote.bucket import Bucket
    from galerly_cdn.store.temp_files import UploadFile
    from galerly_cdn.telemetry import Telemetry

_log = logging.getLogger(__name__)

_INDEX_AFTER_S = 2.0
"""When a folder of renditions is read after a start, which needs the core: a million files keep one busy."""


async def open_originals(
    settings: Settings, places: Locations, telemetry: Telemetry, clock: Clock
) -> WritableOriginals:
    """The store of originals; where it takes no uploads, a write raises `ReadOnlyStore`.

    Raises `SettingsError`.
    """
    if locations.is_remote(places.originals):
        from galerly_cdn.store.remote.originals import RemoteOriginals  # noqa: PLC0415 - loading obstore takes time

        bucket = await open_bucket(places.originals, settings, telemetry, clock)
        sweep_shared_folder(clock.wall())
        remote = RemoteOriginals(bucket, settings, clock.monotonic)
        return remote if places.is_writable else ReadOnlyOriginals(remote)
    return _open_folder(Path(places.originals), settings, clock, is_writable=places.is_writable)


def _open_folder(root: Path, settings: Settings, clock: Clock, *, is_writable: bool) -> WritableOriginals:
    if is_writable and settings.store:
        root.mkdir(parents=True, exist_ok=True)
    opened = (WritableFolderOriginals if is_writable else FolderOriginals)(
        root,
        checked_key,
        now=clock.wall,
        private_folders=private_folders(settings.private_prefixes),
        stale_s=settings.stale_if_error_s,
    )
    return opened if isinstance(opened, WritableFolderOriginals) else ReadOnlyOriginals(opened)


def open_folders(
    settings: Settings, places: Locations, count: Callable[[str], None], clock: Clock
) -> tuple[FolderOriginals, FolderRenditions]:
    """Both folders for reading, as another process writes to them. Raises `SettingsError`."""
    originals = FolderOriginals(
        Path(places.originals),
        checked_key,
        now=clock.wall,
        private_folders=private_folders(settings.private_prefixes),
    )
    return originals, FolderRenditions(Path(places.renditions), settings.renditions_bytes, count, clock.wall)


class ReadOnlyOriginals:
    """Reads from `originals`; every write raises `ReadOnlyStore`."""

    def __init__(self, originals: Originals) -> None:
        self.head = originals.head
        self.known_head = originals.known_head
        self.open = originals.open
        self.read = originals.read
        self.list = originals.list
        self.folders = originals.folders

    def upload_file(self) -> UploadFile:
        raise ReadOnlyStore

    async def put(
        self,
        key: str,  # noqa: ARG002 - the interface has it
        upload: UploadFile,  # noqa: ARG002 - the interface has it
        *,
        media_type: str,  # noqa: ARG002 - the interface has it
        md5: str,  # noqa: ARG002 - the interface has it
        replaces: bool,  # noqa: ARG002 - the interface has it
    ) -> tuple[Head, bool]:
        raise ReadOnlyStore

    async def delete(self, key: str) -> bool:  # noqa: ARG002 - the interface has it
        raise ReadOnlyStore

    async def delete_unchanged(self, key: str, version: str) -> bool:  # noqa: ARG002 - the interface has it
        raise ReadOnlyStore


@contextlib.asynccontextmanager
async def open_renditions(
    settings: Settings, root: str, telemetry: Telemetry, clock: Clock
) -> AsyncIterator[Renditions]:
    """The store of renditions at `root`, closed at the end of the context. Raises `SettingsError`."""
    count = telemetry.counters.count
    if not locations.is_remote(root):
        folder = FolderRenditions(Path(root), settings.renditions_bytes, count, clock.wall)
        folder.start(_INDEX_AFTER_S)
        try:
            yield folder
        finally:
            await folder.close()
        return
    from galerly_cdn.store.remote.renditions import RemoteRenditions  # noqa: PLC0415 - loading obstore takes time

    yield RemoteRenditions(await open_bucket(root, settings, telemetry, clock), count)


async def open_recipes(settings: Settings, root: str, telemetry: Telemetry, clock: Clock) -> RecipeEntries:
    """The list of recipes beside the renditions at `root`; nothing is created. Raises `SettingsError`."""
    if not locations.is_remote(root):
        return FolderRecipes(Path(root))
    from galerly_cdn.store.remote.recipes import RemoteRecipes  # noqa: PLC0415 - loading obstore takes time

    return RemoteRecipes(await open_bucket(root, settings, telemetry, clock))


async def open_bucket(root: str, settings: Settings, telemetry: Telemetry, clock: Clock) -> Bucket:
    """A remote root. One that is unreachable is logged and used all the same. Raises `SettingsError`."""
    bucket = connect_bucket(root, settings, telemetry, clock)
    try:
        await bucket.check()
    except StoreUnreachable as error:
        _log.warning(
            "%s cannot be reached at the start and is tried again at each request: %s", root, error.detail
        )
    return bucket


def connect_bucket(root: str, settings: Settings, telemetry: Telemetry, clock: Clock) -> Bucket:
    """A remote root, to which no request is sent yet. Raises `SettingsError`."""
    from galerly_cdn.store.remote.bucket import Bucket  # noqa: PLC0415 - loading obstore takes time

    prepare_cloud_variables(root)
    return Bucket(root, settings, clock.monotonic, telemetry.counters.count, clock.wall)


async def open_direct_uploads(
    settings: Settings, places: Locations, telemetry: Telemetry, clock: Clock
) -> DirectUploads | None:
    """The uploads that clients send directly to the remote store; None for a folder.

    Raises `SettingsError`.
    """
    if not places.incoming:
        return None
    from galerly_cdn.store.remote.direct_uploads import RemoteDirectUploads  # noqa: PLC0415 - loading obstore takes time
    from galerly_cdn.store.remote.originals import RemoteOriginals  # noqa: PLC0415 - loading obstore takes time

    bucket = await open_bucket(places.incoming, settings, telemetry, clock)
    return RemoteDirectUploads(bucket, RemoteOriginals(bucket, settings, clock.monotonic))
