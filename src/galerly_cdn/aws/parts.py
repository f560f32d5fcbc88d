"""The functions' composition: settings → stores → renderer → origin. Built while a function starts.

Nothing here may import what `lambda.txt` does not hold, and little of what it does: the start is paid for,
by a viewer who waits.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn import jobs, layers, roots
from galerly_cdn.origin import Origin
from galerly_cdn.store.remote.bucket import Bucket
from galerly_cdn.store.remote.originals import RemoteOriginals
from galerly_cdn.store.remote.renditions import RemoteRenditions

if TYPE_CHECKING:
    from galerly_cdn.config import Settings


class Stores(NamedTuple):
    """The settings that the environment tells, and the two remote stores they lead to.

    `folder` is where originals lie in `bucket`: `originals/`.
    """

    settings: Settings
    originals: RemoteOriginals
    renditions: RemoteRenditions
    bucket: str
    folder: str


def stores(settings: Settings | None = None) -> Stores:
    """Of the environment's settings, unless told. Connects to nothing yet. Raises `SettingsError`."""
    settings = settings or layers.load().settings
    places = roots.resolve(settings, None)
    clock = time.monotonic
    bucket, _, folder = places.originals.partition("://")[2].partition("/")
    return Stores(
        settings=settings,
        originals=RemoteOriginals(Bucket(places.originals, settings, clock, _unheard), settings, clock),
        renditions=RemoteRenditions(Bucket(places.renditions, settings, clock, _unheard), _unheard),
        bucket=bucket,
        folder=f"{folder}/",
    )


def origin(of: Stores) -> Origin:
    """What fills the renditions, rendering in this process."""
    from galerly_cdn.aws.renderer import Renderer  # noqa: PLC0415 - the janitor does without libvips

    renderer = Renderer(layers.function_memory_bytes())
    return Origin(
        originals=of.originals,
        renditions=of.renditions,
        renderer=renderer,
        recipes=jobs.recipes(of.settings, renderer.libvips),
        clock=time.monotonic,
        count=_unheard,
    )


def tell(line: bytes) -> None:
    """Write a line to the function's log."""
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def _unheard(_event: str) -> None:
    """A counter nobody asks: what matters is in the lines of the log."""
