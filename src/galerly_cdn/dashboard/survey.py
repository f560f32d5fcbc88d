"""Counts the photographs and the bytes of every gallery, for the page of the galleries.

The listing of a large store takes long and is billed. A count is therefore valid for 20 times as long as it
took, and the page shows how far it has come. Memory grows with the galleries, not with the photographs.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from galerly_cdn.cache import SingleFlight
from galerly_cdn.http.urls import gallery_name
from galerly_cdn.render.formats import is_photograph_name
from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.store.interfaces import Originals

_MIN_LIFETIME_S = 1.0
_LIFETIME_FACTOR = 20
PATIENCE_S = 0.5
"""How long a page waits for a count before it shows that it is not complete."""


class GalleryCount(Value, frozen=True):
    """The photographs directly in a gallery; the empty name is that of the root."""

    name: str
    photographs: int
    length_bytes: int


class Surveyed(Value, frozen=True):
    """The galleries in the order of their names; none while the count is not complete."""

    galleries: tuple[GalleryCount, ...]
    photographs: int
    length_bytes: int
    other_files: int
    """Files that are not photographs by their extension."""
    is_complete: bool
    age_s: float = 0.0

    def within(self, gallery: str) -> int:
        """The photographs in a gallery and in the galleries inside it; the empty name is everything."""
        prefix = f"{gallery}/" if gallery else ""
        return sum(one.photographs for one in self.galleries if f"{one.name}/".startswith(prefix))


class _Totals:
    """What a count has found so far."""

    def __init__(self) -> None:
        self.by_gallery: dict[str, list[int]] = {}
        self.photographs = self.length_bytes = self.other_files = 0

    def add(self, key: str, length_bytes: int) -> None:
        if not is_photograph_name(key):
            self.other_files += 1
            return
        self.photographs += 1
        self.length_bytes += length_bytes
        counted = self.by_gallery.setdefault(gallery_name(key), [0, 0])
        counted[0] += 1
        counted[1] += length_bytes

    def galleries(self) -> tuple[GalleryCount, ...]:
        return tuple(GalleryCount(name, *counted) for name, counted in sorted(self.by_gallery.items()))

    def surveyed(self, galleries: tuple[GalleryCount, ...] | None = None) -> Surveyed:
        """What was found; complete with the galleries."""
        return Surveyed(
            galleries or (),
            self.photographs,
            self.length_bytes,
            self.other_files,
            is_complete=galleries is not None,
        )


class Survey:
    """Counts a store of originals, once for all who ask at a time. `now_s` is monotonic, in seconds."""

    def __init__(
        self, originals: Originals, now_s: Callable[[], float], *, patience_s: float = PATIENCE_S
    ) -> None:
        self._originals = originals
        self._now_s = now_s
        self._patience_s = patience_s
        self._running: _Totals = _Totals()
        self._counted: Surveyed | None = None
        self._counted_s = self._expires_s = -math.inf
        self._flights: SingleFlight[str, None] = SingleFlight()

    @property
    def known(self) -> Surveyed | None:
        """The last complete count, however old; None if there is none."""
        return self._counted and replaced(self._counted, age_s=self._now_s() - self._counted_s)

    async def read(self, *, again: bool = False) -> Surveyed:
        """The valid count; after a short wait the last one, or else what the one in progress has found.

        `again`: the last one is not valid any more. Raises as listing the originals does.
        """
        if again:
            self._counted = None
        if self._counted is None or self._now_s() >= self._expires_s:
            task, _ = self._flights.begin("", self._count)
            done, _ = await asyncio.wait({task}, timeout=self._patience_s)
            if done:
                task.result()
        return self.known or self._running.surveyed()

    async def _count(self) -> None:
        started_s = self._now_s()
        totals = self._running = _Totals()
        async for listed in self._originals.list():
            totals.add(listed.key, listed.length_bytes)
        self._counted_s = self._now_s()
        lifetime_s = max(_MIN_LIFETIME_S, _LIFETIME_FACTOR * (self._counted_s - started_s))
        self._expires_s = self._counted_s + lifetime_s
        self._counted = totals.surveyed(totals.galleries())
