"""The functions' composition: settings → stores → renderer → origin. Built while a function starts.

Nothing here may import what `lambda.txt` does not hold, and little of what it does: the start is paid for,
by a viewer who waits.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.fill import Filler, recipes
from galerly_cdn.http import urls
from galerly_cdn.settings import load, locations
from galerly_cdn.store.remote.bucket import Bucket
from galerly_cdn.store.remote.originals import RemoteOriginals
from galerly_cdn.store.remote.renditions import RemoteRenditions

if TYPE_CHECKING:
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.folder.originals import FolderOriginals
    from galerly_cdn.store.folder.renditions import FolderRenditions


class Stores(NamedTuple):
    """The settings that the environment tells, and the two stores they lead to.

    `folder` is where originals lie in `bucket`: `originals/`. Both are empty where there is no bucket.
    """

    settings: Settings
    originals: RemoteOriginals | FolderOriginals
    renditions: RemoteRenditions | FolderRenditions
    bucket: str
    folder: str


def open_stores(settings: Settings | None = None) -> Stores:
    """Of the environment's settings, unless told. Connects to nothing yet. Raises `SettingsError`."""
    settings = settings or load.load_settings().settings
    places = locations.resolve_locations(settings, None)
    if not locations.is_remote(places.originals):
        return _folders(settings, places)
    clock = time.monotonic
    bucket, _, folder = places.originals.partition("://")[2].partition("/")
    return Stores(
        settings=settings,
        originals=RemoteOriginals(Bucket(places.originals, settings, clock, _unheard), settings, clock),
        renditions=RemoteRenditions(Bucket(places.renditions, settings, clock, _unheard), _unheard),
        bucket=bucket,
        folder=f"{folder}/",
    )


def _folders(settings: Settings, places: Locations) -> Stores:
    """The folders of one machine: what `aws local` has in the place of a bucket where no S3 server runs."""
    from galerly_cdn.store.folder.originals import FolderOriginals  # noqa: PLC0415 - no concern of a start in Lambda
    from galerly_cdn.store.folder.renditions import FolderRenditions  # noqa: PLC0415 - likewise

    now = time.time  # noqa: TID251 - the rim
    originals = FolderOriginals(Path(places.originals), urls.checked_key, now=now)
    shelf = FolderRenditions(Path(places.renditions), settings.renditions_bytes, _unheard, now)
    return Stores(settings=settings, originals=originals, renditions=shelf, bucket="", folder="")


def build_filler(of: Stores) -> Filler:
    """What fills the renditions, rendering in this process."""
    from galerly_cdn.aws.functions.in_process_renderer import InProcessRenderer  # noqa: PLC0415 - the janitor does without libvips

    renderer = InProcessRenderer(load.function_memory_bytes())
    return Filler(
        originals=of.originals,
        renditions=of.renditions,
        renderer=renderer,
        recipes=recipes(of.settings, renderer.libvips),
        clock=time.monotonic,
        count=_unheard,
    )


def write_log_line(line: bytes) -> None:
    """Write a line to the function's log."""
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def _unheard(_event: str) -> None:
    """A counter nobody asks: what matters is in the lines of the log."""
