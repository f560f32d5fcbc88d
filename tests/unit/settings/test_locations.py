"""Tests of where originals and renditions are stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from galerly_cdn.errors import SettingsError
from galerly_cdn.settings import locations
from galerly_cdn.settings.locations import Locations
from galerly_cdn.settings.table import Settings


def test_renditions_of_each_root_have_their_own_cache_folder(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (tmp_path / "link").symlink_to(one)
    roots = [str(one), str(two), str(tmp_path / "link"), "s3://photographs"]
    folders = [locations.resolve_locations(Settings(), root).renditions for root in roots]
    assert len(set(folders)) == 3
    assert folders[0] == folders[2]
    assert all(Path(folder).is_absolute() for folder in folders)


@pytest.mark.parametrize(
    ("settings", "photographs", "expected"),
    [
        (
            Settings(store="s3://b"),
            None,
            Locations("s3://b/originals", "s3://b/resized", is_writable=True, incoming="s3://b/incoming"),
        ),
        (
            Settings(store="gs://b/x/"),
            None,
            Locations(
                "gs://b/x/originals", "gs://b/x/resized", is_writable=True, incoming="gs://b/x/incoming"
            ),
        ),
        (
            Settings(store="/srv/s"),
            None,
            Locations("/srv/s/originals", "/srv/s/resized", is_writable=True),
        ),
        (
            Settings(store="s3://b", renditions="/r"),
            None,
            Locations("s3://b/originals", "/r", is_writable=True, incoming="s3://b/incoming"),
        ),
        (Settings(renditions="s3://r/x"), "/p", Locations("/p", "s3://r/x", is_writable=False)),
        (Settings(renditions="/r", writable=True), "/p", Locations("/p", "/r", is_writable=True)),
        (Settings(renditions="s3://b/r"), "s3://b/p", Locations("s3://b/p", "s3://b/r", is_writable=False)),
        (Settings(renditions="here"), "/p", Locations("/p", str(Path.cwd() / "here"), is_writable=False)),
    ],
)
def test_locations_are_resolved_from_settings_or_photographs(
    settings: Settings, photographs: str | None, expected: Locations
) -> None:
    assert locations.resolve_locations(settings, photographs) == expected


@pytest.mark.parametrize(
    ("settings", "photographs"),
    [
        (Settings(), None),
        (Settings(store="s3://b"), "/p"),
        (Settings(), "ftp://host/p"),
        (Settings(store="http://host"), None),
        (Settings(renditions="/p/r"), "/p"),
        (Settings(renditions="/p"), "/p"),
        (Settings(renditions="/"), "/p"),
        (Settings(renditions="s3://b"), "s3://b/p"),
        (Settings(renditions="s3://b/p/r"), "s3://b/p"),
    ],
)
def test_invalid_locations_raise(settings: Settings, photographs: str | None) -> None:
    with pytest.raises(SettingsError):
        locations.resolve_locations(settings, photographs)


def test_root_with_the_other_root_as_name_prefix_is_not_inside_it() -> None:
    assert locations.resolve_locations(Settings(renditions="s3://b/pr"), "s3://b/p").renditions == "s3://b/pr"
