"""Tests the grouping of keys into galleries."""

from __future__ import annotations

from galerly_cdn.browse.pagination import group_by_gallery


def test_listing_counts_other_files_without_listing_them() -> None:
    listing = group_by_gallery(["b/2.jpg", "b/notes.txt", "a/1.png", "movie.mp4"])
    assert listing.keys == ("a/1.png", "b/2.jpg")
    assert [gallery.name for gallery in listing.galleries] == ["a", "b"]
    assert listing.other_files == 2
