"""What fills a miss: original → render → store, once however many ask; and what warms before any do.

A rendition is handed out only if the original is still the one it was made from after the
rendition was stored; otherwise the fill starts over with what is there now.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Protocol

from galerly_cdn.cache import SingleFlight
from galerly_cdn.errors import StoreRefused, StoreUnreachable, Unsettled
from galerly_cdn.model import Job, Record, Rendition, Target
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from galerly_cdn.model import Rendered
    from galerly_cdn.store.interfaces import Original, Originals, Renditions

_ATTEMPTS = 5


class RenditionKey(Value, frozen=True, cache_hash=True):
    """A rendition, by what it is to be made from."""

    key: str
    target: Target


class Filled(Value, frozen=True):
    """A rendition just made, whether the store took it, and how long each stage took."""

    rendition: Rendition
    stored: bool
    stages_ms: dict[str, float]


class Warmed(Value, frozen=True):
    """A rendition that is stored and current: since now, or `was_there` before."""

    key: str
    target: Target
    length_bytes: int
    was_there: bool
    duration_ms: float


class Recipe(Value, frozen=True):
    """A target's render job, for one picture, and the digest of all that decides its bytes."""

    job: Job
    digest: str


class Renderer(Protocol):
    """Renders originals handed over as file descriptors."""

    async def render(self, fd: int, length_bytes: int, job: Job, token: str) -> tuple[Rendered, bytes]:
        """What was rendered, and its bytes; `token` names the original and its version."""
        ...

    def warm(
        self, fd: int, length_bytes: int, job: Job, token: str
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """The same for every picture of a job, as they are made, when no viewer waits."""
        ...


class Filler:
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
        self._fills: SingleFlight[RenditionKey, Filled] = SingleFlight()

    async def fill(self, wanted: RenditionKey, version: str) -> tuple[Filled, bool]:
        """The rendition of the original's `version`, or of a newer one that replaced it meanwhile.

        The second value is whether the fill was already under way for somebody else. Raises what
        opening, rendering and heading the original raise; `Unsettled` when the original changed
        under every attempt.
        """
        for _ in range(_ATTEMPTS):
            filled, collapsed = await self._fills.run(wanted, lambda: self._fill(wanted))
            if filled.rendition.record.version == version:
                return filled, collapsed
            version = await self._version(wanted.key)
            if filled.rendition.record.version == version:
                return filled, collapsed
        raise Unsettled

    async def warm(self, key: str, targets: Sequence[Target]) -> AsyncGenerator[Warmed, None]:
        """Store what is not stored and current yet, from one decode; each picture as it is there.

        Every target is in `recipes`. Begun again it goes on where it ended. One told twice was replaced
        meanwhile: the last word holds. Raises as `fill` does, and `StoreUnreachable` when the store
        takes no more.
        """
        for _ in range(_ATTEMPTS):
            version = await self._version(key)
            lacking = []
            for target in targets:
                started_s = self._clock()
                found = await self._stored(RenditionKey(key, target), version)
                if found is None:
                    lacking.append(target)
                else:
                    yield self._warmed(found, started_s, was_there=True)
            async with contextlib.aclosing(self._made(key, lacking)) as made:
                async for warmed, of_version in made:
                    yield warmed
                    if of_version != version:
                        break
                else:
                    return
        raise Unsettled

    def is_current(self, record: Record, version: str) -> bool:
        """Whether a rendition was made from this version of its original by the present recipe."""
        return record.is_current(version, self.recipes[record.target].digest)

    def is_filling(self, wanted: RenditionKey) -> bool:
        """Whether it is being made already: asking for it now would start nothing."""
        return wanted in self._fills

    async def drain(self) -> None:
        """Wait for the fills under way."""
        await self._fills.drain()

    async def _made(self, key: str, targets: Sequence[Target]) -> AsyncGenerator[tuple[Warmed, str], None]:
        """What is stored for each target, in the order the renderer makes them, and of which version."""
        if not targets:
            return
        first, *_ = jobs = [self.recipes[target].job for target in targets]
        job = first.of(picture for one in jobs for picture in one.pictures)
        started_s = self._clock()
        with await self._originals.open(key) as original:
            head = original.head
            pictures = self._renderer.warm(original.fd, head.length_bytes, job, head.token(key))
            async with contextlib.aclosing(pictures):
                async for rendered, body in pictures:
                    wanted = RenditionKey(key, rendered.target)
                    rendition = self._rendition(wanted, original, rendered, body)
                    keep = functools.partial(self._keep, wanted, rendition)
                    filled, _ = await self._fills.run(wanted, keep)
                    if not filled.stored:
                        raise StoreUnreachable
                    record = filled.rendition.record
                    yield self._warmed(filled.rendition, started_s, was_there=False), record.version
                    started_s = self._clock()

    async def _keep(self, wanted: RenditionKey, rendition: Rendition) -> Filled:
        """Store what warming made, unless a viewer's fill was first: the others read the winner."""
        first = await self._stored(wanted, rendition.record.version)
        if first is not None:
            return Filled(first, stored=True, stages_ms={})
        return await self._fill(wanted, rendition)

    async def _fill(self, wanted: RenditionKey, rendition: Rendition | None = None) -> Filled:
        """Render, unless the rendition is there already, and store until the original stays the same."""
        for _ in range(_ATTEMPTS):
            took = _Stages(self._clock)
            rendition = rendition or await self._render(wanted, took)
            rendition, stored = await self._put(rendition)
            took.ended("put")
            version = await self._version(wanted.key)
            took.ended("head")
            if version == rendition.record.version:
                return Filled(rendition, stored, took.stages_ms)
            self._count("original-changed")
            rendition = None
        raise Unsettled

    async def _render(self, wanted: RenditionKey, took: _Stages) -> Rendition:
        with await self._originals.open(wanted.key) as original:
            took.ended("open")
            head, job = original.head, self.recipes[wanted.target].job
            token = head.token(wanted.key)
            rendered, body = await self._renderer.render(original.fd, head.length_bytes, job, token)
            took.ended("render")
            return self._rendition(wanted, original, rendered, body)

    def _rendition(
        self, wanted: RenditionKey, original: Original, rendered: Rendered, body: bytes
    ) -> Rendition:
        self._count("render")
        record = Record(
            key=wanted.key,
            target=wanted.target,
            version=original.head.version,
            recipe=self.recipes[wanted.target].digest,
            format=rendered.format,
            width_px=rendered.width_px,
            height_px=rendered.height_px,
            length_bytes=rendered.length_bytes,
            md5=rendered.md5,
            lost=rendered.lost,
        )
        return Rendition(record, body)

    async def _version(self, key: str) -> str:
        """The original's version now, asked of the store itself."""
        return (await self._originals.head(key, remembered=False)).version

    async def _stored(self, wanted: RenditionKey, version: str) -> Rendition | None:
        """The rendition the store has, if it is current."""
        found = await self._renditions.get(wanted.key, wanted.target)
        return found if found and self.is_current(found.record, version) else None

    def _warmed(self, rendition: Rendition, started_s: float, *, was_there: bool) -> Warmed:
        record = rendition.record
        duration_ms = _ms(started_s, self._clock())
        return Warmed(record.key, record.target, record.length_bytes, was_there, duration_ms)

    async def _put(self, rendition: Rendition) -> tuple[Rendition, bool]:
        """Store it: what is stored now, and whether it is.

        A store that cannot take it costs the next viewer a render, this one nothing.
        """
        try:
            return await self._renditions.put(rendition), True
        except (StoreRefused, StoreUnreachable):
            self._count("rendition-not-stored")
            return rendition, False


class _Stages:
    """How long each stage took, from the end of the one before."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_s = clock()
        self.stages_ms: dict[str, float] = {}

    def ended(self, stage: str) -> None:
        now_s = self._clock()
        self.stages_ms[stage] = _ms(self._began_s, now_s)
        self._began_s = now_s


def _ms(began_s: float, ended_s: float) -> float:
    return round((ended_s - began_s) * 1000, 3)
