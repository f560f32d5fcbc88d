"""What an application does with its originals: upload, replace, delete, list, inspect, purge, warm."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from galerly_cdn.errors import (
    ChecksumMismatch,
    EmptyUpload,
    NoSuchOriginal,
    StoreRefused,
    StoreUnreachable,
    UploadTooLarge,
)
from galerly_cdn.http.urls import checked_key
from galerly_cdn.model import Facts, Job, Listed, Target, Value
from galerly_cdn.render.formats import OriginalFormat

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Mapping,
    )

    from galerly_cdn.fill import Recipe, Warmed
    from galerly_cdn.model import Head, Record, Rendered
    from galerly_cdn.store.interfaces import Renditions, WritableOriginals
    from galerly_cdn.store.temp_files import UploadFile


T = TypeVar("T")

Outcome = Literal["created", "replaced", "unchanged"]

_AT_ONCE = 16
"""Requests to the store under way for one purge."""


class Accepted(Value, frozen=True):
    """An upload that was stored, or was there already; sides are those of the upright photograph."""

    key: str
    outcome: Outcome
    version: str
    length_bytes: int
    format: str
    width_px: int
    height_px: int


class Stored(Value, frozen=True):
    """One rendition in the store. It is current while its version and recipe are the present ones."""

    target: str
    format: str
    width_px: int
    height_px: int
    length_bytes: int
    version: str
    recipe: str
    lost: tuple[str, ...]
    is_current: bool


class Inspection(Value, frozen=True):
    """An original, what its header says, and what is stored of it."""

    key: str
    version: str
    length_bytes: int
    facts: Facts
    renditions: tuple[Stored, ...]


class Page(Value, frozen=True):
    """A part of a listing; `next` is what to ask for after it, empty at the end."""

    originals: tuple[Listed, ...]
    next: str


class Purged(Value, frozen=True):
    """The renditions of one original that are no longer stored: `800x600.webp` and the like."""

    key: str
    removed: tuple[str, ...]


class Deleted(Value, frozen=True):
    """An original that is no longer there; whether it was, and the renditions that went with it."""

    key: str
    existed: bool
    removed: tuple[str, ...]


class OriginalRenderer(Protocol):
    """Looks into originals, in worker processes."""

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts: ...

    async def render(self, fd: int, length_bytes: int, job: Job, token: str) -> tuple[Rendered, bytes]: ...


async def no_invalidation(_key: str) -> None:
    """No cache beyond the edge's own holds pictures."""


class StoreLibrary:
    """The originals and what is stored of them.

    `warm` makes what pages ask for of a key; `check` lets pass the keys that uploads may have; `forget`
    drops a rendition from the edge's memory, `invalidate` a key's pictures from the caches beyond it.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        *,
        originals: WritableOriginals,
        renditions: Renditions,
        decoder: OriginalRenderer,
        recipes: Mapping[Target, Recipe],
        max_bytes: int,
        warm: Callable[[str], AsyncGenerator[Warmed, None]],
        check: Callable[[str], str] = checked_key,
        forget: Callable[[str, Target], None] = lambda _key, _target: None,
        invalidate: Callable[[str], Awaitable[None]] = no_invalidation,
    ) -> None:
        self._originals = originals
        self._renditions = renditions
        self._decoder = decoder
        self._recipes = recipes
        self._max_bytes = max_bytes
        self._warm = warm
        self._check = check
        self._forget = forget
        self._invalidate = invalidate

    async def upload(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        replaces: bool = False,
        digests: Mapping[str, bytes] | None = None,
    ) -> Accepted:
        """Take an original: whole, as its `digests` say, and decodable; or leave all as it was.

        `digests` are by the names of `hashlib`, and of its lengths (`digests.LENGTHS_BYTES`).
        Uploading the same bytes again is no fault. Raises `MalformedKey`, `UploadTooLarge`, `EmptyUpload`,
        `ChecksumMismatch`, `Unrenderable` with its reason, `OriginalExists`, `KeyNotHeld`, and as the
        store does.
        """
        self._check(key)
        with self._originals.upload_file() as spool:
            md5 = await self._receive(spool, chunks, digests or {})
            facts = await self._try(spool, key)
            is_there = replaces and await self._is_there(key)
            head, is_new = await self._originals.put(
                key, spool, media_type=OriginalFormat(facts.format).media_type, md5=md5, replaces=replaces
            )
        if is_there:
            with suppress(StoreRefused, StoreUnreachable):  # replaced it is: what stays only takes space
                await self.purge(key)
        outcome: Outcome = "replaced" if is_there else "created" if is_new else "unchanged"
        return Accepted(
            key, outcome, head.version, head.length_bytes, facts.format, facts.width_px, facts.height_px
        )

    async def delete(self, key: str) -> Deleted:
        """Remove an original and what was made of it. Raises as the store does."""
        existed = await self._originals.delete(checked_key(key))
        return Deleted(key, existed, (await self.purge(key)).removed)

    async def list(self, prefix: str = "", after: str = "", limit: int = 1000) -> Page:
        """The originals under a prefix, in the order of their keys' bytes, at most `limit` of them."""
        found: list[Listed] = []
        async for one in self._originals.list(prefix, after):
            if len(found) == limit:
                return Page(tuple(found), found[-1].key)
            found.append(one)
        return Page(tuple(found), "")

    async def facts(self, key: str) -> Facts:
        """What an original's header says. Raises as opening and inspecting it do."""
        return (await self._looked_into(key))[1]

    async def inspect(self, key: str) -> Inspection:
        """What is stored of an original, from which version and recipe. Raises as `facts` does."""
        head, facts = await self._looked_into(key)
        found = await self._each(lambda target: self._renditions.record(key, target))
        renditions = tuple(self._stored(one, head.version) for one in found.values() if one)
        return Inspection(key, head.version, head.length_bytes, facts, renditions)

    async def purge(self, key: str) -> Purged:
        """Remove every rendition of an original, also of one that is gone.

        Raises `StoreUnreachable`, `NotInvalidated`.
        """
        checked_key(key)
        removed = await self._each(lambda target: self._renditions.delete(key, target))
        for target in self._recipes:
            self._forget(key, target)
        await self._invalidate(key)
        return Purged(key, tuple(str(target) for target, was_there in removed.items() if was_there))

    async def purge_gallery(self, gallery: str) -> AsyncGenerator[Purged, None]:
        """Purge every original of a gallery, one after the other."""
        async for key in self.keys(gallery):
            yield await self.purge(key)

    async def keys(self, gallery: str, after: str = "") -> AsyncIterator[str]:
        """The keys of a gallery after `after`, in the order of their bytes."""
        async for one in self._originals.list(f"{checked_key(gallery)}/", after):
            yield one.key

    def warm(self, key: str) -> AsyncGenerator[Warmed, None]:
        """Make what pages ask for. Raises as `Origin.warm` does."""
        return self._warm(checked_key(key))

    async def _looked_into(self, key: str) -> tuple[Head, Facts]:
        with await self._originals.open(checked_key(key)) as original:
            head = original.head
            return head, await self._decoder.inspect(original.fd, head.length_bytes, head.token(key))

    async def _receive(
        self, spool: UploadFile, chunks: AsyncIterable[bytes], digests: Mapping[str, bytes]
    ) -> str:
        """Fill the spool; the MD5 of its bytes, in hex."""
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {"md5", *digests}}
        async for chunk in chunks:
            if spool.length_bytes + len(chunk) > self._max_bytes:
                raise UploadTooLarge(f"over {self._max_bytes} bytes")
            spool.write(chunk)
            for one in hashes.values():
                one.update(chunk)
        if not spool.length_bytes:
            raise EmptyUpload
        for name, expected in digests.items():
            if not hmac.compare_digest(hashes[name].digest(), expected):
                raise ChecksumMismatch(f"{name} is {hashes[name].hexdigest()}")
        return hashes["md5"].hexdigest()

    async def _try(self, spool: UploadFile, key: str) -> Facts:
        """Decode it: a good header proves nothing. The smallest picture reads every byte of the original."""
        token = f"upload {spool.path.name} {key}"
        smallest = min(self._recipes, key=lambda one: (one.size, str(one)))
        with spool.reader() as fd:
            facts = await self._decoder.inspect(fd, spool.length_bytes, token)
            await self._decoder.render(fd, spool.length_bytes, self._recipes[smallest].job, token)
        return facts

    async def _is_there(self, key: str) -> bool:
        try:
            await self._originals.head(key, remembered=False)
        except NoSuchOriginal:
            return False
        return True

    async def _each(self, ask: Callable[[Target], Coroutine[Any, Any, T]]) -> dict[Target, T]:
        """Ask for every target of the allow-list, several at once."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(target: Target) -> T:
            async with turns:
                return await ask(target)

        targets = sorted(self._recipes, key=str)
        return dict(zip(targets, await asyncio.gather(*map(one, targets)), strict=True))

    def _stored(self, record: Record, version: str) -> Stored:
        return Stored(
            target=str(record.target),
            format=record.format,
            width_px=record.width_px,
            height_px=record.height_px,
            length_bytes=record.length_bytes,
            version=record.version,
            recipe=record.recipe,
            lost=record.lost,
            is_current=record.is_current(version, self._recipes[record.target].digest),
        )


class Library(Protocol):
    """Each raises what `Archive` raises, and what reaching it raises."""

    async def upload(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        replaces: bool = False,
        digests: Mapping[str, bytes] | None = None,
    ) -> Accepted: ...

    async def delete(self, key: str) -> Deleted: ...

    async def list(self, prefix: str = "", after: str = "", limit: int = 1000) -> Page: ...

    async def inspect(self, key: str) -> Inspection: ...

    async def purge(self, key: str) -> Purged: ...

    def warm(self, key: str) -> AsyncIterator[Warmed]: ...
