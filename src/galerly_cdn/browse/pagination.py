"""Groups keys into galleries and splits them into pages. Pure.

A gallery is a key without its last segment. Photographs directly in the root form a gallery with an empty
name.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from galerly_cdn.http.urls import gallery_name
from galerly_cdn.render.formats import is_photograph_name
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE_PHOTOGRAPHS = 60
_ADJACENT_PAGES = 2
"""Page numbers listed on either side of the current page."""


class Gallery(Value, frozen=True):
    """A gallery, its number from 1, and the index of its first photograph in the listing's keys."""

    name: str
    number: int
    first: int
    count: int

    @property
    def page(self) -> int:
        """The page with its first photograph, counted from 1."""
        return self.first // PAGE_PHOTOGRAPHS + 1


class GallerySection(Value, frozen=True):
    """A gallery's photographs on one page; `is_continued` if the gallery starts on an earlier page."""

    gallery: Gallery
    keys: tuple[str, ...]
    is_continued: bool


class GalleryListing(Value, frozen=True):
    """Every photograph of a part of the store, ordered by gallery and name."""

    keys: tuple[str, ...]
    galleries: tuple[Gallery, ...]
    other_files: int = 0
    """Files that are not photographs by their extension."""
    after: str = ""
    """The part begins after this key; empty for the first one."""
    next: str = ""
    """The next part begins after this key; empty for the last one."""

    @property
    def pages(self) -> int:
        """The number of pages: at least one, even without photographs."""
        return max(1, -(-len(self.keys) // PAGE_PHOTOGRAPHS))

    def sections(self, page: int) -> tuple[GallerySection, ...]:
        """The galleries on a page, counted from 1."""
        start, end = (page - 1) * PAGE_PHOTOGRAPHS, page * PAGE_PHOTOGRAPHS
        return tuple(
            GallerySection(
                gallery,
                self.keys[max(start, gallery.first) : min(end, gallery.first + gallery.count)],
                gallery.first < start,
            )
            for gallery in self.galleries
            if gallery.first < end and start < gallery.first + gallery.count
        )


def group_by_gallery(keys: Iterable[str], after: str = "", following: str = "") -> GalleryListing:
    """The listing of the photographs among `keys`, which can be in any order, of the part `after` a key.

    `following` is the key after which the next part begins.
    """
    all_keys = list(keys)
    ordered = sorted(filter(is_photograph_name, all_keys), key=_sort_key)
    galleries: list[Gallery] = []
    first = 0
    for name, members in itertools.groupby(ordered, key=gallery_name):
        count = len(list(members))
        galleries.append(Gallery(name, len(galleries) + 1, first, count))
        first += count
    return GalleryListing(tuple(ordered), tuple(galleries), len(all_keys) - len(ordered), after, following)


def _sort_key(key: str) -> tuple[str, str]:
    gallery, _, name = key.rpartition("/")
    return gallery, name


def title(key: str) -> str:
    """A photograph's name as shown on the page: "evening tide" for `coast/evening-tide.jpg`."""
    name = key.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return re.sub(r"[-_\s]+", " ", stem).strip() or name


def page_numbers(page: int, pages: int) -> list[int | None]:
    """The page numbers to link to from `page`; None stands for an ellipsis of two or more pages."""
    adjacent = range(page - _ADJACENT_PAGES, page + _ADJACENT_PAGES + 1)
    linked = sorted({1, pages, *(number for number in adjacent if 1 <= number <= pages)})
    numbers: list[int | None] = []
    for previous, number in itertools.pairwise([0, *linked]):
        if number - previous > 1:
            numbers.append(previous + 1 if number - previous == 2 else None)  # a single page is listed
        numbers.append(number)
    return numbers
