"""Makes the fact records of originals that no viewer has requested: for the gallery page and for operators.

The page needs the sides of many photographs soon, so it reads headers alone. An operator wants the verdict,
so the pixels are decoded too. Both are done once for each version (`facts`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from galerly_cdn.errors import RenderFailed, Unavailable, Unrenderable
from galerly_cdn.render import refusals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.facts import OriginalFacts
    from galerly_cdn.model import FactRecord, Facts, Head, Job, Learn, Rendered, Target
    from galerly_cdn.recipes import Recipe
    from galerly_cdn.store.interfaces import Original, Originals


class InspectingRenderer(Protocol):
    """Reads headers of originals, which it gets as file descriptors; and renders as a `fill.Renderer`."""

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts: ...

    async def render(  # noqa: PLR0913 - as a `fill.Renderer`
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = ...,
        learn: Learn = ...,
    ) -> tuple[Rendered, bytes]: ...


class Inspector:
    """Inspects and decodes originals. `recipes` are those of the allow-list."""

    def __init__(
        self,
        originals: Originals,
        renderer: InspectingRenderer,
        facts: OriginalFacts,
        recipes: Mapping[Target, Recipe],
    ) -> None:
        self._originals = originals
        self._renderer = renderer
        self._facts = facts
        self._smallest = smallest_job(recipes)

    async def record(self, key: str) -> FactRecord:
        """What is known about an original; its header is read if nothing is.

        A header that cannot be read is a `refusal` of the record. Raises what opening and rendering an
        original raise, but no verdict.
        """
        head = await self._originals.head(key)
        known = await self._facts.find(key, head.version)
        if known is not None:
            return known
        with await self._originals.open(key) as original:
            return await self._read_header(key, original)

    async def decided(self, key: str) -> tuple[Head, FactRecord]:
        """An original's head and its record after decoding the pixels, unless they were decoded before.

        The record is undecided if a limit refuses the original, or if decoding fails for another reason than
        the file. Raises as `record` does.
        """
        head = await self._originals.head(key, remembered=False)
        known = await self._facts.find(key, head.version)
        if known is not None and not self._needs_pixels(known):
            return head, known
        with await self._originals.open(key) as original:
            record = await self._read_header(key, original)
            if self._needs_pixels(record):
                record = await self._read_pixels(key, original, record)
            return original.head, record

    async def decode(self, fd: int, length_bytes: int, token: str, known: FactRecord | None = None) -> Facts:
        """The facts of an original whose pixels are good. Raises as rendering it does."""
        learnt: list[Facts] = []
        await self._renderer.render(fd, length_bytes, self._smallest, token, known=known, learn=learnt.append)
        return learnt[0]

    def _needs_pixels(self, record: FactRecord) -> bool:
        return not record.is_decided and self._facts.refusal(record) is None

    async def _read_header(self, key: str, original: Original) -> FactRecord:
        head = original.head
        try:
            facts = await self._renderer.inspect(original.fd, head.length_bytes, head.token(key))
        except Unrenderable as error:
            if not refusals.is_verdict(error):
                raise
            return self._facts.learn_refusal(key, head.version, None, error)
        return self._facts.learn(key, head.version, facts)

    async def _read_pixels(self, key: str, original: Original, record: FactRecord) -> FactRecord:
        head = original.head
        try:
            facts = await self.decode(original.fd, head.length_bytes, head.token(key), record)
        except (Unavailable, RenderFailed):
            return record
        except Unrenderable as error:
            if not refusals.is_verdict(error):
                return record
            return self._facts.learn_refusal(key, head.version, record.facts, error)
        return self._facts.learn(key, head.version, facts, is_good=True)


def smallest_job(recipes: Mapping[Target, Recipe]) -> Job:
    """The job of the smallest rendition: to render it, every byte of the original is read."""
    return recipes[min(recipes, key=lambda target: (target.size, str(target)))].job
