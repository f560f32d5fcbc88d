"""Builds the pages about galleries and photographs: showing, uploading, changing and linking them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.dashboard.galleries import GalleriesPage
from galerly_cdn.dashboard.photograph import PhotographPage
from galerly_cdn.dashboard.pictures import Pictures
from galerly_cdn.dashboard.signed_links import SignedLinksPage
from galerly_cdn.dashboard.survey import PATIENCE_S, Survey
from galerly_cdn.dashboard.uploads import UploadPage

if TYPE_CHECKING:
    from galerly_cdn.access.signing import Signer
    from galerly_cdn.admin.routes import Route
    from galerly_cdn.clock import Clock
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.downloads import Downloads
    from galerly_cdn.fill import Filler
    from galerly_cdn.library import Library
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals, Renditions


class Photographs(NamedTuple):
    """What the pages read of a CDN. `signer` is None where the settings name no key to sign links with."""

    settings: Settings
    originals: Originals
    renditions: Renditions
    library: Library
    filler: Filler
    downloads: Downloads
    is_writable: bool
    """Whether the store of originals takes uploads, replacements and deletions."""
    signer: Signer | None = None
    patience_s: float = PATIENCE_S
    """How long the page of galleries waits for a count."""


def photograph_routes(site: Site, clock: Clock, photographs: Photographs) -> tuple[Route, ...]:
    """The routes of the pages, and of the pictures in them."""
    settings, originals, library = photographs.settings, photographs.originals, photographs.library
    pictures = Pictures(
        settings, originals=originals, filler=photographs.filler, downloads=photographs.downloads
    )
    survey = Survey(originals, clock.monotonic, patience_s=photographs.patience_s)
    photograph = PhotographPage(
        settings,
        library,
        pictures,
        originals=originals,
        renditions=photographs.renditions,
        is_writable=photographs.is_writable,
    )
    links = SignedLinksPage(settings, library, pictures, signer=photographs.signer, now_s=clock.wall)
    return (
        *pictures.routes(),
        *GalleriesPage(settings, survey, library).routes(site),
        *photograph.routes(site),
        *UploadPage(settings, is_writable=photographs.is_writable).routes(site),
        *links.routes(site),
    )
