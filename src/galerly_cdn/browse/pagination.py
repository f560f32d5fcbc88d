"""Which photographs are on which page? Keys in, galleries and pages out. Pure.

A gallery is everything of a key but its last segment; photographs directly in the root form one of
their own, without a name.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE_PHOTOGRAPHS = 60
_WINDOW_PAGES = 2
"""Pages named on either side of the one shown."""


class Gallery(Value, frozen=True):
    """A gallery and where it lies in the collection: `first` is the position of its first photograph."""

    name: str
    number: int
    first: int
    count: int

    @property
    def page(self) -> int:
        """The page that its first photograph is on."""
        return self.first // PAGE_PHOTOGRAPHS + 1


class GalleryPage(Value, frozen=True):
    """What one page shows of a gallery; `is_continued` if it began on a page before."""

    gallery: Gallery
    keys: tuple[str, ...]
    is_continued: bool


class Galleries(Value, frozen=True):
    """Every photograph, gallery after gallery."""

    keys: tuple[str, ...]
    galleries: tuple[Gallery, ...]

    @property
    def pages(self) -> int:
        """How many pages there are: at least one, though it be empty."""
        return max(1, -(-len(self.keys) // PAGE_PHOTOGRAPHS))

    def parts(self, page: int) -> tuple[GalleryPage, ...]:
        """What page `page` shows, counted from 1."""
        begin, end = (page - 1) * PAGE_PHOTOGRAPHS, page * PAGE_PHOTOGRAPHS
        return tuple(
            GalleryPage(
                one, self.keys[max(begin, one.first) : min(end, one.first + one.count)], one.first < begin
            )
            for one in self.galleries
            if one.first < end and begin < one.first + one.count
        )


def group_by_gallery(keys: Iterable[str]) -> Galleries:
    """The collection that `keys`, in any order, make: by gallery, then by name."""
    arranged = sorted(keys, key=_place)
    galleries: list[Gallery] = []
    first = 0
    for name, members in itertools.groupby(arranged, key=gallery_name):
        count = len(list(members))
        galleries.append(Gallery(name, len(galleries) + 1, first, count))
        first += count
    return Galleries(tuple(arranged), tuple(galleries))


def gallery_name(key: str) -> str:
    """The gallery's part of a key; empty for a photograph directly in the root."""
    return key.rpartition("/")[0]


def _place(key: str) -> tuple[str, str]:
    gallery, _, name = key.rpartition("/")
    return gallery, name


def title(key: str) -> str:
    """A photograph's name for people: `coast/evening-tide.jpg` is "evening tide"."""
    name = key.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return re.sub(r"[-_\s]+", " ", stem).strip() or name


def page_numbers(page: int, pages: int) -> list[int | None]:
    """The pages to name when `page` is shown; None stands for those left out."""
    near = range(page - _WINDOW_PAGES, page + _WINDOW_PAGES + 1)
    named = sorted({1, pages, *(one for one in near if 1 <= one <= pages)})
    numbers: list[int | None] = []
    for before, one in itertools.pairwise([0, *named]):
        if one - before > 1:
            numbers.append(before + 1 if one - before == 2 else None)  # a gap of one page names it
        numbers.append(one)
    return numbers
