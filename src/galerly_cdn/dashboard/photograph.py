"""Shows one photograph: its facts, its stored renditions, what they lose, and the HTML that embeds it."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.browse.pagination import title
from galerly_cdn.dashboard.galleries import PHOTOGRAPH_PATH, gallery_path
from galerly_cdn.dashboard.pictures import original_path, picture_path
from galerly_cdn.errors import Unrenderable
from galerly_cdn.http.urls import format_key, gallery_name, parse_key
from galerly_cdn.insight import units
from galerly_cdn.links import Links
from galerly_cdn.model import parse_target
from galerly_cdn.render.losses import LOSSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.admin.routes import Route
    from galerly_cdn.dashboard.pictures import Pictures
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.library import Inspection, Library, Stored
    from galerly_cdn.model import Facts
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals, Renditions


class ShownRendition(NamedTuple):
    """A line of the table of renditions."""

    target: str
    path: str
    """Where to see it; empty for a size that is no longer allowed."""
    format: str
    sides: str
    length: str
    ratio: str
    made: str
    version: str
    recipe: str
    is_current: bool
    further_losses: tuple[str, ...]
    """Sentences, beside those of every rendition."""


class Embedding(NamedTuple):
    """The HTML that shows a photograph on a page of an application."""

    picture: str
    image: str


class PhotographPage:
    """The page of one photograph."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: Settings,
        library: Library,
        pictures: Pictures,
        *,
        originals: Originals,
        renditions: Renditions,
        is_writable: bool,
    ) -> None:
        self._settings = settings
        self._library = library
        self._originals = originals
        self._renditions = renditions
        self._is_writable = is_writable
        self._large = str(pictures.large)
        self._links = Links(next(iter(settings.public_urls), ""), settings.sizes)
        self._segments = self._links.allowed.segments()
        self._private_folders = private_folders(settings.private_prefixes)

    def routes(self, site: Site) -> tuple[Route, ...]:
        """The route of the page."""
        return (site.view(f"{PHOTOGRAPH_PATH}/{{key}}", "photograph.html", self._photograph),)

    async def _photograph(self, request: AdminRequest) -> Mapping[str, object]:
        """Raises as inspecting it does, but no refusal of the file: it is shown."""
        key = parse_key(request.named)
        head = await self._originals.head(key, remembered=False)
        inspection, problem = await self._inspect(key)
        listed = (await self._library.list(key, limit=1)).originals
        return {
            "key": key,
            "encoded": format_key(key),
            "gallery": gallery_name(key),
            "gallery_path": gallery_path(gallery_name(key)),
            "original_path": original_path(key),
            "length": units.length(head.length_bytes),
            "version": head.version,
            "changed": time_text(listed[0].modified_s) if listed and listed[0].key == key else "",
            "problem": problem,
            "is_writable": self._is_writable,
            "is_private": any(key.startswith(one) for one in self._private_folders),
            "has_host": bool(self._settings.public_urls),
            "warm_targets": len(self._settings.warm_targets),
            **(await self._rendered(key, inspection) if inspection else _NOTHING),
        }

    async def _inspect(self, key: str) -> tuple[Inspection | None, str]:
        """The inspection, and why the photograph is not shown; None if its header cannot be read."""
        try:
            inspection = await self._library.inspect(key)
        except Unrenderable as error:
            return None, error.public
        return inspection, inspection.refused.message if inspection.refused else ""

    async def _rendered(self, key: str, inspection: Inspection) -> Mapping[str, object]:
        """The values of a photograph whose header can be read."""
        facts = inspection.facts
        stored_s = await asyncio.gather(*(self._stored_s(key, one) for one in inspection.renditions))
        shown = [
            self._shown(key, one, inspection, at_s)
            for one, at_s in zip(inspection.renditions, stored_s, strict=True)
        ]
        there = {one.target for one in inspection.renditions}
        is_shown = inspection.refused is None
        return {
            "facts": _facts(facts),
            "losses": _sentences(facts.loses),
            "renditions": shown,
            "missing": [str(one) for one in self._settings.warm_targets if str(one) not in there],
            "large": picture_path(key, self._large) if is_shown else "",
            "large_px": self._links.dimensions(facts.width_px, facts.height_px, self._large),
            "embedding": self._embedding(key, facts) if is_shown else None,
        }

    async def _stored_s(self, key: str, stored: Stored) -> float | None:
        """When a rendition was stored, in seconds of the epoch; None if it has been removed meanwhile."""
        target = parse_target(stored.target)
        found = await self._renditions.head(key, target) if target else None
        return found.modified_s if found else None

    def _shown(
        self, key: str, stored: Stored, inspection: Inspection, stored_s: float | None
    ) -> ShownRendition:
        is_allowed = stored.target in self._segments
        return ShownRendition(
            target=stored.target,
            path=picture_path(key, stored.target) if is_allowed else "",
            format=stored.format.upper(),
            sides=f"{stored.width_px} × {stored.height_px}",
            length=units.length(stored.length_bytes),
            ratio=units.percent(stored.length_bytes / inspection.length_bytes, 1),
            made="" if stored_s is None else time_text(stored_s),
            version=stored.version,
            recipe=stored.recipe,
            is_current=stored.is_current,
            further_losses=_sentences(one for one in stored.lost if one not in inspection.facts.loses),
        )

    def _embedding(self, key: str, facts: Facts) -> Embedding:
        picture = self._links.picture(key, facts.width_px, facts.height_px, self._large, alt=title(key))
        return Embedding(str(picture), picture.image())


_NOTHING: Mapping[str, object] = {
    "facts": {},
    "losses": (),
    "renditions": [],
    "missing": [],
    "large": "",
    "large_px": (0, 0),
    "embedding": None,
}
"""The values of a photograph whose header cannot be read."""


def time_text(time_s: float) -> str:
    """A time in seconds of the epoch, in UTC: `2026-12-01 09:48`."""
    return dt.datetime.fromtimestamp(time_s, dt.UTC).strftime("%Y-%m-%d %H:%M")


def _sentences(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(LOSSES.get(one, one) for one in words)


def _facts(facts: Facts) -> Mapping[str, str]:
    """The facts of a header by their names, as `galerly-cdn inspect` shows them."""
    megapixels = f"{facts.width_px * facts.height_px / 1e6:.1f} megapixels"
    coding = "progressive" if facts.is_progressive else "sequential"
    alpha = ", alpha" if facts.has_alpha else ""
    frames = f", {facts.frames} frames" if facts.frames > 1 else ""
    return {
        "Format": f"{facts.format.upper()}, {coding}",
        "Sides": f"{facts.width_px} × {facts.height_px} px upright ({megapixels}{frames})",
        "Samples": f"{facts.bands} × {facts.bits} bit{alpha}",
        "Profile": facts.profile or "none (taken as sRGB)",
        "Metadata": ", ".join(facts.metadata) or "none",
    }
