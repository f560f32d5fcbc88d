"""Resolves where originals and renditions are stored: two roots, each a folder or a remote store's address.

`--store ADDRESS` names both: the roots are `originals/` and `resized/` in it, and a remote store has
`incoming/` beside them. A plain folder of photographs is a root of originals; its renditions are in the
user's cache folder, in one folder for each root.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.settings.table import Settings

_REMOTE = re.compile(r"(s3|gs|az)://[^/?#]+(/[^?#]*)?")
_BUCKET = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""Bucket and container names of every cloud consist of these characters."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Locations(Value, frozen=True):
    """The roots, each a URL without a final slash or an absolute path; and whether uploads are accepted.

    `incoming` is for direct uploads to a remote store, before they have a key; it is empty for a folder.
    """

    originals: str
    renditions: str
    is_writable: bool
    incoming: str = ""


def resolve_locations(settings: Settings, photographs: str | None) -> Locations:
    """The roots of the settings' store, or of `photographs`, a folder or an address.

    Raises `SettingsError` for neither, both, an unknown scheme, or a root that is inside the other.
    """
    if bool(settings.store) == bool(photographs):
        raise SettingsError(
            ["name either a folder of photographs or a store (--store) to serve, and not both"]
        )
    if settings.store:
        store = _address("store", settings.store)
        originals, default_renditions = f"{store}/originals", f"{store}/resized"
        incoming = f"{store}/incoming" if is_remote(store) else ""
    else:
        originals = _address("PHOTOGRAPHS", photographs or "")
        default_renditions, incoming = _cache_folder(originals), ""
    renditions = _address("renditions", settings.renditions) if settings.renditions else default_renditions
    if _holds(originals, renditions) or _holds(renditions, originals):
        raise SettingsError(
            [f"renditions: {renditions} and the originals in {originals} must not be inside each other"]
        )
    return Locations(originals, renditions, bool(settings.store) or settings.writable, incoming)


def renditions_root(settings: Settings) -> str:
    """The root of the renditions, also where no photographs are named: then what holds those of any folder.

    Raises `SettingsError`.
    """
    if settings.store:
        return resolve_locations(settings, None).renditions
    return _address("renditions", settings.renditions) if settings.renditions else str(_cache())


def is_remote(root: str) -> bool:
    """Whether a root is the address of a remote store."""
    return _REMOTE.fullmatch(root) is not None


def _address(name: str, root: str) -> str:
    """The normalised spelling of the root in a setting. Raises `SettingsError`."""
    if is_remote(root):
        _check_remote(name, root.rstrip("/"))
        return root.rstrip("/")
    if _SCHEME.match(root):
        raise SettingsError(
            [f"{name}: {root}: no store is known by this address; write s3://, gs://, az:// or a folder"]
        )
    if "\0" in root:
        raise SettingsError([f"{name}: {root!r} is no path"])
    return str(Path(root).resolve())


def _check_remote(name: str, root: str) -> None:
    """Raises `SettingsError` for a bucket or a folder in it that no store can have."""
    bucket, *folders = root.partition("://")[2].split("/")
    if not _BUCKET.fullmatch(bucket):
        shown = bucket.rpartition("@")[2]  # what stands before it may be a password
        raise SettingsError([f"{name}: {shown!r} is no bucket's name: write s3://photographs"])
    if any(one in {"", ".", ".."} or not one.isprintable() for one in folders):
        raise SettingsError([f"{name}: {root!r} has an empty, `.` or `..` folder, or a control character"])


def _cache_folder(originals: str) -> str:
    digest = hashlib.sha256(os.fsencode(originals)).hexdigest()[:16]
    return str(_cache() / digest)


def _cache() -> Path:
    return Path(platformdirs.user_cache_path("galerly-cdn", appauthor=False))


def _holds(outer: str, inner: str) -> bool:
    return outer == inner or inner.startswith(outer.rstrip("/") + "/")
