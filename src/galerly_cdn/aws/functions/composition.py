"""Builds the Lambda functions from the environment's settings: stores, renderer, filler.

It runs while a function starts, and a viewer waits for that start: it imports only packages that
`lambda.txt` holds, and as few of them as it can.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.facts import OriginalFacts
from galerly_cdn.fill import Filler
from galerly_cdn.http import urls
from galerly_cdn.recipe_list import RecipeList
from galerly_cdn.recipes import recipes_of
from galerly_cdn.render import recipe
from galerly_cdn.settings import load, locations
from galerly_cdn.store.remote.bucket import Bucket
from galerly_cdn.store.remote.originals import RemoteOriginals
from galerly_cdn.store.remote.renditions import RemoteRenditions
from galerly_cdn.stored_renditions import StoredRenditions

if TYPE_CHECKING:
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals, Renditions


class Stores(NamedTuple):
    """The settings, and the two stores that they name.

    `folder` is the prefix of originals in `bucket`, such as `originals/`. Both are empty where the store
    is a folder of this machine.
    """

    settings: Settings
    originals: Originals
    renditions: Renditions
    bucket: str
    folder: str


def open_stores(settings: Settings | None = None) -> Stores:
    """The stores of `settings`, by default the environment's. Connects to nothing. Raises `SettingsError`."""
    settings = settings or load.load_settings().settings
    places = locations.resolve_locations(settings, None)
    if not locations.is_remote(places.originals):
        return _open_folders(settings, places)
    clock = time.monotonic
    bucket, _, folder = places.originals.partition("://")[2].partition("/")
    return Stores(
        settings=settings,
        originals=RemoteOriginals(Bucket(places.originals, settings, clock, _ignore_count), settings, clock),
        renditions=RemoteRenditions(Bucket(places.renditions, settings, clock, _ignore_count), _ignore_count),
        bucket=bucket,
        folder=f"{folder}/",
    )


def _open_folders(settings: Settings, places: Locations) -> Stores:
    """Folders of this machine, for development without an S3 server."""
    from galerly_cdn.store.folder.originals import FolderOriginals  # noqa: PLC0415 - not used in Lambda
    from galerly_cdn.store.folder.renditions import FolderRenditions  # noqa: PLC0415 - not used in Lambda

    now = time.time  # noqa: TID251 - the composition chooses the clock
    return Stores(
        settings=settings,
        originals=FolderOriginals(
            Path(places.originals),
            urls.checked_key,
            now=now,
            private_folders=private_folders(settings.private_prefixes),
        ),
        renditions=FolderRenditions(Path(places.renditions), settings.renditions_bytes, _ignore_count, now),
        bucket="",
        folder="",
    )


def build_filler(stores: Stores) -> Filler:
    """A filler that renders in this process."""
    from galerly_cdn.aws.functions.in_process_renderer import InProcessRenderer  # noqa: PLC0415 - the janitor loads no libvips

    renderer = InProcessRenderer(load.function_memory_bytes())
    facts = OriginalFacts(
        stores.renditions,
        revision=recipe.facts_revision(renderer.libvips, renderer.formats),
        limits=stores.settings.limits,
        count=_ignore_count,
    )
    listed = RecipeList(
        stores.renditions,
        recipes_of(stores.settings, renderer.libvips),
        clock=SYSTEM_CLOCK,
        count=_ignore_count,
    )
    return Filler(
        originals=stores.originals,
        stored=StoredRenditions(stores.renditions, facts, listed),
        renderer=renderer,
        facts=facts,
        clock=time.monotonic,
        count=_ignore_count,
    )


def write_log_line(line: bytes) -> None:
    """Write a line to the function's log."""
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def _ignore_count(_event: str) -> None:
    """Counts nothing: Lambda has no metrics endpoint, and the log lines carry the metrics."""
