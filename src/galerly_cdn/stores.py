"""How are the stores at the roots opened? By a folder's code or a remote store's, as their address says.

Part of the composition root (`app`).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn import roots
from galerly_cdn.store.deposit import FolderDeposit
from galerly_cdn.store.folder import FolderOriginals
from galerly_cdn.store.shelf import FolderRenditions
from galerly_cdn.url import checked_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.config import Settings
    from galerly_cdn.roots import Roots
    from galerly_cdn.store import Incoming, Originals, Renditions, WritableOriginals
    from galerly_cdn.store.remote.originals import RemoteOriginals
    from galerly_cdn.telemetry import Telemetry


def readable(settings: Settings, places: Roots, telemetry: Telemetry) -> Originals:
    """The store of originals at their root. Raises `SettingsError`."""
    if roots.is_remote(places.originals):
        return _remote_originals(settings, places, telemetry)
    return FolderOriginals(Path(places.originals), checked_key, now=telemetry.wall)


def writable(settings: Settings, places: Roots, telemetry: Telemetry) -> WritableOriginals:
    """The same, taking uploads. Raises `SettingsError`."""
    if roots.is_remote(places.originals):
        return _remote_originals(settings, places, telemetry)
    root = Path(places.originals)
    if settings.store:
        root.mkdir(parents=True, exist_ok=True)
    return FolderDeposit(root, checked_key, now=telemetry.wall)


def _remote_originals(settings: Settings, places: Roots, telemetry: Telemetry) -> RemoteOriginals:
    from galerly_cdn.store import remote  # noqa: PLC0415 - obstore's start-up time is for those who need it
    from galerly_cdn.store.remote.originals import RemoteOriginals  # noqa: PLC0415 - likewise

    return RemoteOriginals(remote.connect(places.originals, settings), settings, telemetry.monotonic)


@contextlib.asynccontextmanager
async def renditions(settings: Settings, root: str, telemetry: Telemetry) -> AsyncIterator[Renditions]:
    """The store of renditions at their root, closed on leaving. Raises `SettingsError`."""
    count = telemetry.counters.count
    if not roots.is_remote(root):
        shelf = FolderRenditions(Path(root), settings.renditions_bytes, count, telemetry.wall)
        shelf.start()
        try:
            yield shelf
        finally:
            await shelf.close()
        return
    from galerly_cdn.store import remote  # noqa: PLC0415 - likewise
    from galerly_cdn.store.remote.renditions import RemoteRenditions  # noqa: PLC0415 - likewise

    yield RemoteRenditions(remote.connect(root, settings), count)


def incoming(settings: Settings, places: Roots) -> Incoming | None:
    """Where uploads come that are sent straight to the store; None for a folder."""
    if not (places.incoming and roots.is_remote(places.incoming)):
        return None
    from galerly_cdn.store import remote  # noqa: PLC0415 - likewise
    from galerly_cdn.store.remote.incoming import RemoteIncoming  # noqa: PLC0415 - likewise

    return RemoteIncoming(remote.connect(places.incoming, settings))
