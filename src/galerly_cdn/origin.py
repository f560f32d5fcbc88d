"""What fills a miss: original → render → store, once however many ask.

A rendition is handed out only if the original is still the one it was made from after the
rendition was stored; otherwise the fill starts over with what is there now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from galerly_cdn.cache import Coalescer
from galerly_cdn.errors import StoreRefused, StoreUnreachable, Unsettled
from galerly_cdn.model import Job, Record, Rendition, Target, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.model import Rendered
    from galerly_cdn.store import Original, Originals, Renditions

_ATTEMPTS = 5


class Wanted(Value, frozen=True, cache_hash=True):
    """A rendition, by what it is to be made from."""

    key: str
    target: Target


class Filled(Value, frozen=True):
    """A rendition just made, whether the store took it, and how long each stage took."""

    rendition: Rendition
    stored: bool
    stages_ms: dict[str, float]


class Recipe(Value, frozen=True):
    """A target's render job and the digest of all that decides its bytes."""

    job: Job
    digest: str


class Renderer(Protocol):
    """Renders originals handed over as file descriptors."""

    async def render(self, fd: int, length_bytes: int, job: Job, token: str) -> tuple[Rendered, bytes]:
        """What was rendered, and its bytes; `token` names the original and its version."""
        ...


class Origin:
    """Fills misses. `recipes` holds one entry for every target of the allow-list."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        *,
        originals: Originals,
        renditions: Renditions,
        renderer: Renderer,
        recipes: Mapping[Target, Recipe],
        clock: Callable[[], float],
        count: Callable[[str], None],
    ) -> None:
        self.recipes = recipes
        self._originals = originals
        self._renditions = renditions
        self._renderer = renderer
        self._clock = clock
        self._count = count
        self._fills: Coalescer[Wanted, Filled] = Coalescer()

    async def fill(self, wanted: Wanted, version: str) -> tuple[Filled, bool]:
        """The rendition of the original's `version`, or of a newer one that replaced it meanwhile.

        The second value is whether the fill was already under way for somebody else. Raises what
        opening, rendering and heading the original raise; `Unsettled` when the original changed
        under every attempt.
        """
        for _ in range(_ATTEMPTS):
            filled, collapsed = await self._fills.run(wanted, lambda: self._fill(wanted))
            if filled.rendition.record.version == version:
                return filled, collapsed
            version = (await self._originals.head(wanted.key, remembered=False)).version
            if filled.rendition.record.version == version:
                return filled, collapsed
        raise Unsettled

    def is_filling(self, wanted: Wanted) -> bool:
        """Whether it is being made already: asking for it now would start nothing."""
        return wanted in self._fills

    async def drain(self) -> None:
        """Wait for the fills under way."""
        await self._fills.drain()

    async def _fill(self, wanted: Wanted) -> Filled:
        for _ in range(_ATTEMPTS):
            started_s = self._clock()
            with await self._originals.open(wanted.key) as original:
                rendition = await self._render(wanted, original)
            rendered_s = self._clock()
            rendition, stored = await self._put(rendition)
            stages_ms = {"render": _ms(rendered_s - started_s), "put": _ms(self._clock() - rendered_s)}
            head = await self._originals.head(wanted.key, remembered=False)
            if head.version == rendition.record.version:
                return Filled(rendition, stored, stages_ms)
            self._count("original-changed")
        raise Unsettled

    async def _render(self, wanted: Wanted, original: Original) -> Rendition:
        recipe = self.recipes[wanted.target]
        token = f"{original.head.version} {wanted.key}"
        rendered, body = await self._renderer.render(
            original.fd, original.head.length_bytes, recipe.job, token
        )
        self._count("render")
        record = Record(
            key=wanted.key,
            target=wanted.target,
            version=original.head.version,
            recipe=recipe.digest,
            format=rendered.format,
            width_px=rendered.width_px,
            height_px=rendered.height_px,
            length_bytes=rendered.length_bytes,
            md5=rendered.md5,
            lost=rendered.lost,
        )
        return Rendition(record, body)

    async def _put(self, rendition: Rendition) -> tuple[Rendition, bool]:
        """Store it: what is stored now, and whether it is.

        A store that cannot take it costs the next viewer a render, this one nothing.
        """
        try:
            return await self._renditions.put(rendition), True
        except (StoreRefused, StoreUnreachable):
            self._count("rendition-not-stored")
            return rendition, False


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
