"""Where do originals and renditions live? Two roots, each a folder or a remote store's address.

`--store ADDRESS` is both: `originals/` and `resized/` in it, as specified, and in a remote store `incoming/`
beside them. A plain folder of photographs is an originals root by itself; its renditions lie in the user's
cache folder, one folder for each root.
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
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Locations(Value, frozen=True):
    """The addresses, each a URL without a final slash or an absolute path; whether uploads are taken.

    `incoming` is for uploads sent straight to a remote store, to which no key leads yet; else it is empty.
    """

    originals: str
    renditions: str
    is_writable: bool
    incoming: str = ""


def resolve_locations(settings: Settings, photographs: str | None) -> Locations:
    """The roots of the settings, or of a folder or address of photographs.

    Raises `SettingsError` for none, both, an unknown scheme, or a root that lies in the other.
    """
    if bool(settings.store) == bool(photographs):
        raise SettingsError(
            ["say what to serve: a folder of photographs, or a store (--store), one of the two"]
        )
    if settings.store:
        store = _address(settings.store)
        originals, beside = f"{store}/originals", f"{store}/resized"
        incoming = f"{store}/incoming" if is_remote(store) else ""
    else:
        originals = _address(photographs or "")
        beside, incoming = _cache_folder(originals), ""
    renditions = _address(settings.renditions) if settings.renditions else beside
    if _holds(originals, renditions) or _holds(renditions, originals):
        raise SettingsError([f"renditions: {renditions} and the originals in {originals} lie in each other"])
    return Locations(originals, renditions, bool(settings.store) or settings.writable, incoming)


def is_remote(root: str) -> bool:
    """Whether a root is a remote store's address."""
    return _REMOTE.fullmatch(root) is not None


def _address(told: str) -> str:
    """A root in its one spelling. Raises `SettingsError`."""
    if is_remote(told):
        return told.rstrip("/")
    if _SCHEME.match(told):
        raise SettingsError([f"{told}: no store is known by this address; s3://, gs:// and az:// are"])
    return str(Path(told).resolve())


def _cache_folder(originals: str) -> str:
    digest = hashlib.sha256(os.fsencode(originals)).hexdigest()[:16]
    return str(Path(platformdirs.user_cache_path("galerly-cdn", appauthor=False)) / digest)


def _holds(outer: str, inner: str) -> bool:
    return outer == inner or inner.startswith(outer.rstrip("/") + "/")
