"""Manages originals: lists, uploads, replaces and deletes them; inspects, purges and warms their renditions.

`Catalog` is the part that needs no renderer, `Library` the whole. Both are implemented twice: over the
stores, by `StoreCatalog` and `StoreLibrary`, and over the admin API of a running CDN, by `client.Client`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.errors import (
    ChecksumMismatch,
    EmptyUpload,
    NoSuchOriginal,
    StoreRefused,
    StoreUnreachable,
    Unrenderable,
    UploadTooLarge,
)
from galerly_cdn.http.urls import checked_key
from galerly_cdn.model import Facts, Listed, Record, Refreshed, Target
from galerly_cdn.render.formats import media_type_of
from galerly_cdn.retries import RENDERERS_BUSY, Retries
from galerly_cdn.serialization import Value, fields_of, replaced

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Iterable,
        Mapping,
    )

    from galerly_cdn.facts import OriginalFacts
    from galerly_cdn.fill import Warmed
    from galerly_cdn.inspector import Inspector
    from galerly_cdn.recipe_list import RecipeList
    from galerly_cdn.store.interfaces import Originals, Renditions, WritableOriginals
    from galerly_cdn.store.temp_files import UploadFile

    Invalidate = Callable[[str], Awaitable[None]]
    """Drops all pictures of a key from CloudFront."""
    Forget = Callable[[str, Iterable[Target]], Awaitable[None]]
    Refresh = Callable[[str, Iterable[Target]], Awaitable[tuple[Refreshed, ...]]]
    """Drops pictures of a key from nodes' memory and from fronts; it never raises."""

T = TypeVar("T")

Outcome = Literal["created", "replaced", "unchanged"]

_MAX_TURN_S = 60.0
"""How long an upload waits for the workers: its client waits for 120 s."""
_LISTING_AGE_S = 1.0
_MAX_REQUESTS = 16
"""Requests to the store in progress at once, for one purge or one inspection."""


class Accepted(Value, frozen=True):
    """An upload that was stored, or was stored already; width and height are of the upright photograph."""

    key: str
    outcome: Outcome
    version: str
    length_bytes: int
    format: str
    width_px: int
    height_px: int
    refreshed: tuple[Refreshed, ...] = ()


class Stored(Value, frozen=True):
    """A rendition in the store; current while it has the present version, and the store's present recipe."""

    target: str
    format: str
    width_px: int
    height_px: int
    length_bytes: int
    version: str
    recipe: str
    lost: tuple[str, ...]
    is_current: bool


class Refused(Value, frozen=True):
    """Why an original cannot be shown: a stable code, and a sentence for people."""

    code: str
    message: str


Verdict = Literal["good", "refused", "unknown"]
"""`unknown`: the pixels could not be decoded this time, for another reason than the file (a time-out)."""


class FileInspection(Facts, frozen=True):
    """The facts of a file's header, and whether it can be shown."""

    verdict: Verdict = "unknown"
    refused: Refused | None = None

    @classmethod
    def of(cls, facts: Facts, verdict: Verdict, refusal: Unrenderable | None = None) -> FileInspection:
        """The inspection of a file with these facts."""
        return cls(**fields_of(facts), verdict=verdict, refused=_refused(refusal))


class Inspection(Value, frozen=True):
    """An original, the facts of its header, whether it can be shown, and its stored renditions."""

    key: str
    version: str
    length_bytes: int
    facts: Facts
    renditions: tuple[Stored, ...]
    verdict: Verdict = "unknown"
    refused: Refused | None = None


class Page(Value, frozen=True):
    """A page of a listing; the next page begins after the key `next`, which is empty at the end."""

    originals: tuple[Listed, ...]
    next: str


class Purged(Value, frozen=True):
    """The renditions of an original that a purge has removed: `800x600.webp` and the like."""

    key: str
    removed: tuple[str, ...]
    refreshed: tuple[Refreshed, ...] = ()


class Deleted(Value, frozen=True):
    """A deleted original; whether it existed, and the renditions that were removed with it."""

    key: str
    existed: bool
    removed: tuple[str, ...]
    refreshed: tuple[Refreshed, ...] = ()


async def read_page(originals: Originals, prefix: str, after: str, limit: int) -> Page:
    """At most `limit` originals under a prefix, in the order of their keys' bytes."""
    found: list[Listed] = []
    async for one in originals.list(prefix, after):
        if len(found) == limit:
            return Page(tuple(found), found[-1].key)
        found.append(one)
    return Page(tuple(found), "")


class Listing(Protocol):
    """Lists. Raises what listing a store raises, and what reaching it raises."""

    async def list(self, prefix: str = "", after: str = "", limit: int = 1000) -> Page: ...


class Catalog(Listing, Protocol):
    """Lists, deletes and purges. Raises what `StoreCatalog` raises, and what reaching it raises."""

    async def delete(self, key: str) -> Deleted: ...

    async def purge(self, key: str) -> Purged: ...


class Library(Catalog, Protocol):
    """Also uploads, inspects and warms. Raises what `StoreLibrary` raises, and what reaching it raises."""

    async def upload(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        replaces: bool = False,
        digests: Mapping[str, bytes] | None = None,
    ) -> Accepted: ...

    async def inspect(self, key: str) -> Inspection: ...

    def warm(self, key: str) -> AsyncIterator[Warmed]: ...


async def no_invalidation(_key: str) -> None:
    """Invalidates nothing: there is no cache in front of this CDN."""


class StoreCatalog:
    """The catalogue of the stores.

    `targets` are all of the allow-list; others that are stored are purged too. `remove_facts` removes an
    original's record, `forget` renditions from the memory of a running CDN, `invalidate` a key's pictures
    from CloudFront, `refresh` from fronts and nodes. `clock` is monotonic, in seconds.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        *,
        originals: WritableOriginals,
        renditions: Renditions,
        targets: Iterable[Target],
        remove_facts: Callable[[str], Awaitable[None]] | None = None,
        forget: Forget | None = None,
        invalidate: Invalidate = no_invalidation,
        refresh: Refresh | None = None,
        clock: Callable[[], float] = SYSTEM_CLOCK.monotonic,
    ) -> None:
        self._originals = originals
        self._renditions = renditions
        self._allowed = frozenset(targets)
        self._stored_targets: frozenset[Target] = frozenset()
        self._listed_s = -math.inf
        self._clock = clock
        self._remove_facts = remove_facts or renditions.delete_facts
        self._forget = forget
        self._invalidate = invalidate
        self._refresh = refresh

    async def delete(self, key: str) -> Deleted:
        """Delete an original and its renditions. Raises as the store does."""
        existed = await self._originals.delete(checked_key(key))
        purged = await self.purge(key)
        return Deleted(key, existed, purged.removed, purged.refreshed)

    async def list(self, prefix: str = "", after: str = "", limit: int = 1000) -> Page:
        """At most `limit` originals under a prefix, in the order of their keys' bytes."""
        return await read_page(self._originals, prefix, after, limit)

    async def keys(self, gallery: str, after: str = "") -> AsyncIterator[str]:
        """The keys of a gallery after `after`, in the order of their bytes."""
        async for one in self._originals.list(f"{checked_key(gallery)}/", after):
            yield one.key

    async def purge(self, key: str) -> Purged:
        """Remove every rendition of an original and its fact record, also if the original is deleted.

        Raises `StoreUnreachable`, `NotInvalidated`.
        """
        return await self._told(await self._remove(key))

    async def _told(self, purged: Purged) -> Purged:
        """The same, after CloudFront, nodes and fronts were told of it. Raises `NotInvalidated` last."""
        try:
            await self._invalidate(purged.key)
        finally:
            purged = await self._refreshed(purged)
        return purged

    async def _refreshed(self, purged: Purged) -> Purged:
        targets = self._allowed | self._stored_targets
        refreshed = await self._refresh(purged.key, targets) if self._refresh else ()
        return replaced(purged, refreshed=refreshed)

    async def _remove(self, key: str) -> Purged:
        await self._remove_facts(checked_key(key))
        removed = await self._for_each_target(lambda target: self._renditions.delete(key, target))
        if self._forget is not None:
            await self._forget(key, removed)
        return Purged(key, tuple(str(target) for target, was_there in removed.items() if was_there))

    async def purge_gallery(self, gallery: str) -> AsyncGenerator[Purged, None]:
        """Purge every original of a gallery, one after the other, and invalidate them together at the end.

        Raises as `purge` does; `NotInvalidated` after the last one.
        """
        removed: list[str] = []
        try:
            async for key in self.keys(gallery):
                removed.append(key)
                yield await self._refreshed(await self._remove(key))
        finally:  # also if the caller has stopped early
            await asyncio.gather(*map(self._invalidate, removed))

    async def _for_each_target(self, request: Callable[[Target], Coroutine[Any, Any, T]]) -> dict[Target, T]:
        """The result of `request` for every target that is allowed or stored; several run at once."""
        slots = asyncio.Semaphore(_MAX_REQUESTS)
        targets = await self._targets()

        async def one(target: Target) -> T:
            async with slots:
                return await request(target)

        return dict(zip(targets, await asyncio.gather(*map(one, targets)), strict=True))

    async def _targets(self) -> tuple[Target, ...]:
        """The targets of the allow-list, and those that are stored, listed at most once a second.

        A gallery's purge asks for each key. Raises `StoreRefused`, `StoreUnreachable`.
        """
        if self._clock() - self._listed_s > _LISTING_AGE_S:
            self._stored_targets = await self._renditions.targets()
            self._listed_s = self._clock()
        return tuple(sorted(self._allowed | self._stored_targets, key=str))


class StoreLibrary(StoreCatalog):
    """The library of the stores.

    `warm` renders the sizes of `warm_sizes` of a key; `check` raises for keys that no upload may have. An
    upload waits for its `turns` while the render queue is full, or its render is late.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        *,
        originals: WritableOriginals,
        renditions: Renditions,
        inspector: Inspector,
        facts: OriginalFacts,
        listed: RecipeList,
        max_bytes: int,
        warm: Callable[[str], AsyncGenerator[Warmed, None]],
        check: Callable[[str], str] = checked_key,
        turns: Retries | None = None,
        forget: Forget | None = None,
        invalidate: Invalidate = no_invalidation,
        refresh: Refresh | None = None,
    ) -> None:
        super().__init__(
            originals=originals,
            renditions=renditions,
            targets=listed.recipes,
            remove_facts=facts.remove,
            forget=forget,
            invalidate=invalidate,
            refresh=refresh,
        )
        self._inspector = inspector
        self._facts = facts
        self._listed = listed
        self._max_bytes = max_bytes
        self._warm = warm
        self._check = check
        self._turns = turns or Retries(RENDERERS_BUSY, _MAX_TURN_S, SYSTEM_CLOCK.monotonic)

    async def upload(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        replaces: bool = False,
        digests: Mapping[str, bytes] | None = None,
    ) -> Accepted:
        """Store an original that is complete, matches its `digests` and can be decoded; else change nothing.

        `digests` are by the names of `hashlib`, in the lengths of `checksums.LENGTHS_BYTES`. Uploading the
        same bytes again is no error. Raises `MalformedKey`, `UploadTooLarge`, `EmptyUpload`, `KeyNotHeld`,
        `ChecksumMismatch`, `Unrenderable` with its reason, `OriginalExists`, and as the store does.
        """
        self._check(key)
        with self._originals.upload_file() as temp_file:
            md5 = await self._receive(temp_file, chunks, digests or {})
            with temp_file.reader() as fd:
                token = f"upload {temp_file.path.name} {key}"
                length_bytes = temp_file.length_bytes
                facts = await self._turns.run(lambda: self._inspector.decode(fd, length_bytes, token))
            is_there = replaces and await self._is_there(key)
            head, is_new = await self._originals.put(
                key, temp_file, media_type=media_type_of(facts.format, key), md5=md5, replaces=replaces
            )
        purged = Purged(key, ())
        if is_there:
            # It is replaced by now. A rendition that stays is stale, and only takes space.
            with suppress(StoreRefused, StoreUnreachable):
                await self._remove(key)
            purged = await self._told(purged)
        else:  # fronts and nodes may have kept that it was missing, also if an earlier upload was interrupted
            purged = await self._refreshed(purged)
        self._facts.learn(key, head.version, facts, is_good=True)
        outcome: Outcome = "replaced" if is_there else "created" if is_new else "unchanged"
        shown = facts.format, facts.width_px, facts.height_px
        return Accepted(key, outcome, head.version, head.length_bytes, *shown, purged.refreshed)

    async def inspect(self, key: str) -> Inspection:
        """An original and its stored renditions, each with its version and recipe.

        An original that was never rendered is decoded for its verdict. Raises as opening it does, and the
        refusal of an original whose header cannot be read.
        """
        head, record = await self._inspector.decided(checked_key(key))
        refusal = self._facts.refusal(record)
        if record.facts is None:
            raise refusal or Unrenderable
        await self._listed.read()
        records = await self._for_each_target(lambda target: self._renditions.record(key, target))
        return Inspection(
            key=key,
            version=head.version,
            length_bytes=head.length_bytes,
            facts=record.facts,
            renditions=tuple(self._stored(stored, head.version) for stored in records.values() if stored),
            verdict="refused" if refusal else "good" if record.is_good else "unknown",
            refused=_refused(refusal),
        )

    def warm(self, key: str) -> AsyncGenerator[Warmed, None]:
        """Render and store the sizes of `warm_sizes`. Raises as `Filler.warm` does."""
        return self._warm(checked_key(key))

    async def _receive(
        self, temp_file: UploadFile, chunks: AsyncIterable[bytes], digests: Mapping[str, bytes]
    ) -> str:
        """Write the chunks into the file; the MD5 of the whole, in hex."""
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {"md5", *digests}}
        async for chunk in chunks:
            if temp_file.length_bytes + len(chunk) > self._max_bytes:
                raise UploadTooLarge(f"over {self._max_bytes} bytes")
            temp_file.write(chunk)
            for one in hashes.values():
                one.update(chunk)
        if not temp_file.length_bytes:
            raise EmptyUpload
        for name, expected in digests.items():
            if not hmac.compare_digest(hashes[name].digest(), expected):
                raise ChecksumMismatch(f"{name} is {hashes[name].hexdigest()}")
        return hashes["md5"].hexdigest()

    async def _is_there(self, key: str) -> bool:
        with suppress(NoSuchOriginal):
            await self._originals.head(key, remembered=False)
            return True
        return False

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
            is_current=record.version == version and self._listed.is_current(record),
        )


def _refused(refusal: Unrenderable | None) -> Refused | None:
    return Refused(refusal.code, refusal.public) if refusal else None
