"""Counts what a store of originals holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.http.urls import gallery_name
from galerly_cdn.render.formats import is_photograph_name
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.store.interfaces import Originals


class Contents(Value, frozen=True):
    """What a store of originals holds; a gallery is a key without its last segment."""

    photographs: int
    galleries: int
    other_files: int
    """Files that are not photographs by their extension."""
    first_photograph: str
    """The key of the first one; empty if there is none."""


async def read_contents(originals: Originals) -> Contents:
    """Count the originals of a store by their keys. Raises as listing them does."""
    photographs = other_files = 0
    galleries: set[str] = set()
    first_photograph = ""
    async for listed in originals.list():
        if not is_photograph_name(listed.key):
            other_files += 1
            continue
        photographs += 1
        galleries.add(gallery_name(listed.key))
        first_photograph = first_photograph or listed.key
    return Contents(photographs, len(galleries), other_files, first_photograph)
