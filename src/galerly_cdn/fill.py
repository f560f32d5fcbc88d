"""Fills a cache miss: renders the original, stores the rendition, and runs once per rendition key.

Requests that miss the same rendition at the same time share one fill. The original is read when the renderer
has admitted the fill; until then, a fill that nobody waits for any more is dropped. A rendition is returned
only if its original still has the same version after the rendition was stored, or after its put was begun;
otherwise the fill starts again with the present original. `Filler.warm` does the same in advance, for many
targets from one decode.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from typing import TYPE_CHECKING, Protocol

from galerly_cdn.cache import SingleFlight
from galerly_cdn.errors import GalerlyError, StoreRefused, StoreUnreachable, Unrenderable, Unsettled
from galerly_cdn.model import OWN_FORMATS, Facts, Job, Record, Rendition, Target
from galerly_cdn.recipe_list import FILL_AGE_S
from galerly_cdn.render import refusals
from galerly_cdn.serialization import Value
from galerly_cdn.store.fault_log import FaultLog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from galerly_cdn.facts import OriginalFacts
    from galerly_cdn.model import FactRecord, Head, Learn, Rendered
    from galerly_cdn.store.interfaces import Original, Originals
    from galerly_cdn.stored_renditions import StoredRenditions

_ATTEMPTS = 5
"""How often a fill starts again because its original changed."""


class RenditionKey(Value, frozen=True, cache_hash=True):
    """Identifies a rendition by its original's key and its target."""

    key: str
    target: Target


class Filled(Value, frozen=True):
    """A rendition that a fill has made, and how long each stage took.

    `stored`: the store has taken it. `is_copy`: it was not rendered, but copied from another target. `put`:
    the rest of a put that was only begun; it returns the rendition in the store, or None if it failed.
    """

    rendition: Rendition
    stored: bool
    is_copy: bool
    stages_ms: dict[str, float]
    put: asyncio.Task[Rendition | None] | None = None


class Warmed(Value, frozen=True):
    """A rendition that is stored and current; `was_there` if it was before the warming."""

    key: str
    target: Target
    length_bytes: int
    was_there: bool
    duration_ms: float


class AdmittedCall(Protocol):
    """A render that may open its original."""

    async def render(  # noqa: PLR0913 - what is known of the original and what is wanted of it
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = ...,
        learn: Learn = ...,
    ) -> tuple[Rendered, bytes]:
        """Render a job of one picture; `token` names the original and its version, `known` is its record.

        `learn` is called with the facts, if the header could be read and the original is not known to be
        good, before this returns or raises.
        """
        ...


class Renderer(AdmittedCall, Protocol):
    """Renders originals, which it gets as file descriptors."""

    def admit(self, length_bytes: int, job: Job, token: str) -> AbstractAsyncContextManager[AdmittedCall]:
        """Wait until the original may be opened, or refuse the render before it is."""
        ...

    def warm(  # noqa: PLR0913 - as `render`
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = ...,
        learn: Learn = ...,
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Render every picture of a job, each yielded as soon as it is made; viewers' renders go first.

        `learn` is called before the first picture is yielded.
        """
        ...


class Filler:
    """Fills misses, by the recipes of `stored.listed`: one for every target of the allow-list."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        *,
        originals: Originals,
        stored: StoredRenditions,
        renderer: Renderer,
        facts: OriginalFacts,
        clock: Callable[[], float],
        count: Callable[[str], None],
    ) -> None:
        """`clock` is monotonic, in seconds; `count` counts one occurrence of a named event."""
        self._originals = originals
        self.stored = stored
        self._listed = stored.listed
        self._renderer = renderer
        self._facts = facts
        self._clock = clock
        self._count = count
        self._fills: SingleFlight[RenditionKey, Filled] = SingleFlight()
        self._puts: set[asyncio.Task[Rendition | None]] = set()
        self._faults = FaultLog(count, clock)
        self._not_stored: GalerlyError = StoreUnreachable()
        """Why the last rendition was not stored."""

    async def fill(self, rendition_key: RenditionKey, version: str) -> tuple[Filled, bool]:
        """The rendition of the original's `version`, or of a newer version that has replaced it.

        The second value is whether another request had started the fill already. Raises what opening,
        rendering and heading the original raise; `Unsettled` when the original changed during every attempt.
        """
        for _ in range(_ATTEMPTS):
            filled, collapsed = await self._fills.run(rendition_key, lambda: self._fill(rendition_key))
            if filled.rendition.record.version == version:
                return filled, collapsed
            version = await self._version(rendition_key.key)
            if filled.rendition.record.version == version:
                return filled, collapsed
        raise Unsettled

    async def warm(self, key: str, targets: Sequence[Target]) -> AsyncGenerator[Warmed, None]:
        """Render from one decode, and store, each target that is not stored and current; yield each target.

        Every target is in the allow-list. A warming that was interrupted can be repeated: it renders what is
        still missing, and reads no body of what is stored. A target may be yielded twice if its original was
        replaced; the last one counts. Raises as `fill` does, and as the store does when it takes no more.
        """
        await self._listed.refresh(FILL_AGE_S)
        for _ in range(_ATTEMPTS):
            version = await self._version(key)
            missing = []
            started_s = self._clock()
            records = await asyncio.gather(
                *(self.stored.find_record(key, target, version) for target in targets)
            )
            for target, record in zip(targets, records, strict=True):
                if record is not None:
                    yield self._warmed(record, started_s, was_there=True)
                else:
                    missing.append(target)
            async with contextlib.aclosing(self._render_all(key, version, missing)) as rendered:
                async for warmed, rendered_version in rendered:
                    yield warmed
                    if rendered_version != version:
                        break
                else:
                    return
        raise Unsettled

    def is_filling(self, rendition_key: RenditionKey) -> bool:
        """Whether a fill of it is in progress, which another request would share."""
        return rendition_key in self._fills

    async def drain(self) -> None:
        """Wait for the fills and puts in progress, and until the fact records are written."""
        await self._fills.drain()
        if self._puts:
            await asyncio.wait(self._puts)
        await self._facts.drain()
        await self._listed.drain()

    async def _render_all(
        self, key: str, version: str, targets: Sequence[Target]
    ) -> AsyncGenerator[tuple[Warmed, str], None]:
        """Render and store each target, in the renderer's order; with the version that it was made from."""
        if not targets:
            return
        first, *_ = jobs = [self._listed.recipes[target].job for target in targets]
        job = first.of(picture for one in jobs for picture in one.pictures)
        started_s = self._clock()
        original, known = await self._open(key, version)
        with original:
            async with contextlib.aclosing(self._warm(key, original, known, job)) as pictures:
                async for rendered, body in pictures:
                    rendition_key = RenditionKey(key, rendered.target)
                    rendition = self._rendition(rendition_key, original, rendered, body)
                    store = functools.partial(self._store_warmed, rendition_key, rendition)
                    filled, _ = await self._fills.run(rendition_key, store)
                    if not filled.stored or (filled.put and await filled.put is None):
                        raise self._not_stored
                    record = filled.rendition.record
                    yield self._warmed(record, started_s, was_there=False), record.version
                    started_s = self._clock()

    async def _store_warmed(self, rendition_key: RenditionKey, rendition: Rendition) -> Filled:
        """Store what warming has rendered, unless a viewer's fill has stored it first."""
        record = rendition.record
        stored = await self.stored.find(record.key, record.target, record.version)
        if stored is not None:
            return Filled(stored, stored=True, is_copy=False, stages_ms={})
        return await self._fill(rendition_key, rendition)

    async def _fill(self, rendition_key: RenditionKey, rendition: Rendition | None = None) -> Filled:
        """Copy or render (unless given a rendition) and store; repeat until the original stayed the same.

        The put of a given rendition is awaited.
        """
        is_given = rendition is not None
        for _ in range(_ATTEMPTS):
            stages = _Stages(self._clock)
            refreshed = self._listed.refresh(FILL_AGE_S)
            copied = None
            if rendition is not None:
                await refreshed
            else:
                _, head = await asyncio.gather(refreshed, self._head(rendition_key))
                copied = await self._copy(rendition_key, head.version, stages)
                self._facts.check(self._facts.remembered(rendition_key.key, head.version))
                rendition = copied or await self._render(rendition_key, head, stages)
            put = None if is_given else self._begin_put(rendition)
            stored = True
            if put is None:
                rendition, stored = await self._put(rendition)
            stages.ended("put")
            version = await self._version(rendition_key.key)
            stages.ended("head")
            if version == rendition.record.version:
                return Filled(rendition, stored, copied is not None, stages.stages_ms, put)
            self._count("original-changed")
            rendition = None
        raise Unsettled

    async def _head(self, rendition_key: RenditionKey) -> Head:
        """The original's head. Raises a known refusal.

        For a picture in the own format, whose twin only the fact record tells, the record is sought too: it
        is in memory then, or the store has none.
        """
        key = rendition_key.key
        head = await self._originals.head(key)
        self._facts.check(self._facts.remembered(key, head.version))
        if rendition_key.target.format is None:
            await self._facts.find(key, head.version)
        return head

    async def _copy(self, rendition_key: RenditionKey, version: str, stages: _Stages) -> Rendition | None:
        """The same picture under another target, which may be in the making."""
        key, target = rendition_key.key, rendition_key.target
        if target.format in OWN_FORMATS:
            await self._fills.wait(RenditionKey(key, Target(target.size)))
        copied = await self.stored.copy(key, target, version)
        if copied is not None:
            self._count("copy")
            stages.ended("copy")
        return copied

    async def _render(self, rendition_key: RenditionKey, head: Head, stages: _Stages) -> Rendition:
        key, job = rendition_key.key, self._listed.recipes[rendition_key.target].job
        async with contextlib.AsyncExitStack() as stack:
            with self._fills.droppable(rendition_key), self._counted_drop():
                admission = self._renderer.admit(head.length_bytes, job, head.token(key))
                call = await stack.enter_async_context(admission)
            stages.ended("queue")
            # `_head` has looked for the record of a picture in the own format
            is_sought = rendition_key.target.format is None
            original, known = await self._open(key, head.version, is_sought=is_sought)
            stack.enter_context(original)
            stages.ended("open")
            head, learnt = original.head, list[Facts]()
            try:
                rendered, body = await call.render(
                    original.fd, head.length_bytes, job, head.token(key), known=known, learn=learnt.append
                )
            except Unrenderable as error:
                await self._learn_refusal(key, head.version, learnt, error)
                raise
            self._learn_good(key, head.version, learnt)
            stages.ended("render")
            return self._rendition(rendition_key, original, rendered, body)

    @contextlib.contextmanager
    def _counted_drop(self) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            self._count("fill-dropped")
            raise

    async def _warm(
        self, key: str, original: Original, known: FactRecord | None, job: Job
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Yield every picture of a job."""
        head, learnt = original.head, list[Facts]()
        pictures = self._renderer.warm(
            original.fd, head.length_bytes, job, head.token(key), known=known, learn=learnt.append
        )
        async with contextlib.aclosing(pictures):
            try:
                async for rendered, body in pictures:
                    self._learn_good(key, head.version, learnt)
                    yield rendered, body
            except Unrenderable as error:
                await self._learn_refusal(key, head.version, learnt, error)
                raise

    async def _open(
        self, key: str, version: str, *, is_sought: bool = False
    ) -> tuple[Original, FactRecord | None]:
        """The original, and its record if it is known. Raises a known refusal; `version` is the expected one.

        The record is read while the original is: that costs no time, and a refusal ends the download. If it
        `is_sought` already, it is in memory, or the store has none.
        """
        opening = asyncio.create_task(self._originals.open(key))
        try:
            record = (
                self._facts.remembered(key, version) if is_sought else await self._facts.find(key, version)
            )
            self._facts.check(record)
            original = await opening
        except BaseException:
            opening.cancel()
            opening.add_done_callback(_close)
            raise
        is_same = record is not None and record.version == original.head.version
        return original, record if is_same else None

    def _learn_good(self, key: str, version: str, learnt: Sequence[Facts]) -> None:
        if learnt:
            self._facts.learn(key, version, learnt[0], is_good=True)

    async def _learn_refusal(
        self, key: str, version: str, learnt: Sequence[Facts], error: Unrenderable
    ) -> None:
        """Record a verdict, unless the original was replaced meanwhile; without a verdict the facts alone."""
        if not refusals.is_verdict(error):
            if learnt:
                self._facts.learn(key, version, learnt[0])
            return
        with contextlib.suppress(GalerlyError):
            if await self._version(key) == version:
                self._facts.learn_refusal(key, version, learnt[0] if learnt else None, error)

    def _rendition(
        self, rendition_key: RenditionKey, original: Original, rendered: Rendered, body: bytes
    ) -> Rendition:
        self._count("render")
        record = Record(
            key=rendition_key.key,
            target=rendition_key.target,
            version=original.head.version,
            recipe=self._listed.recipes[rendition_key.target].digests[rendered.format],
            format=rendered.format,
            width_px=rendered.width_px,
            height_px=rendered.height_px,
            length_bytes=rendered.length_bytes,
            md5=rendered.md5,
            lost=rendered.lost,
        )
        return Rendition(record, body)

    async def _version(self, key: str) -> str:
        """The original's present version, read from the store itself and not from a cached head."""
        return (await self._originals.head(key, remembered=False)).version

    def _warmed(self, record: Record, started_s: float, *, was_there: bool) -> Warmed:
        duration_ms = _milliseconds(started_s, self._clock())
        return Warmed(record.key, record.target, record.length_bytes, was_there, duration_ms)

    async def _put(self, rendition: Rendition) -> tuple[Rendition, bool]:
        """Store it; the rendition that the store has now, and whether it has one.

        If the store cannot take it, the viewer still gets it; the next viewer's request renders it again.
        """
        stored = await self._end_put(self.stored.put(rendition))
        return stored or rendition, stored is not None

    def _begin_put(self, rendition: Rendition) -> asyncio.Task[Rendition | None] | None:
        """A put that viewers do not wait for; None where they do."""
        begun = self.stored.begin_put(rendition)
        if begun is None:
            return None
        put = asyncio.create_task(self._end_put(begun))
        self._puts.add(put)
        put.add_done_callback(self._puts.discard)
        return put

    async def _end_put(self, put: Coroutine[Any, Any, Rendition]) -> Rendition | None:
        """The rendition that the store has now; None, and counted, if it has none."""
        try:
            return await put
        except (StoreRefused, StoreUnreachable) as error:
            self._not_stored = error
            self._faults.add("rendition-not-stored", error)
            return None


def _close(opening: asyncio.Task[Original]) -> None:
    """Close an original that was opened in vain."""
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result().fd)


class _Stages:
    """Measures each stage of a fill, from the end of the stage before it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_s = clock()
        self.stages_ms: dict[str, float] = {}

    def ended(self, stage: str) -> None:
        now_s = self._clock()
        self.stages_ms[stage] = _milliseconds(self._started_s, now_s)
        self._started_s = now_s


def _milliseconds(started_s: float, ended_s: float) -> float:
    return round((ended_s - started_s) * 1000, 3)
