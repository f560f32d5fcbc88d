"""Defines the interfaces of the object store: originals, renditions and direct uploads.

The methods are coroutines because a remote store waits for the network. A folder answers reads without
yielding: a hop to a thread costs more than the `stat` or `read` it would move there (decision 0003).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, Self

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from galerly_cdn.model import FactRecord, Head, Listed, RecipeEntry, Record, Rendition, Target
    from galerly_cdn.store.temp_files import UploadFile

    Keeps = Callable[[Record], bool]
    """Whether a stored rendition, by its record, is kept where another one is to be put."""


class Original:
    """An original opened for one render: a file descriptor, and the head of its version.

    The descriptor is passed to a worker process, which reads it. Use as a context manager, which closes it.
    """

    def __init__(self, fd: int, head: Head) -> None:
        self.fd = fd
        self.head = head

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


class Originals(Protocol):
    """A store of originals. Keys are canonical (`http.urls`)."""

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        """Version and length. A remote store may answer with a head up to `store_fresh_s` old.

        With `remembered=False` the store is requested in any case. Raises `NoSuchOriginal`, `StoreRefused`,
        `StoreUnreachable`.
        """
        ...

    def known_head(self, key: str) -> Head | None:
        """The head that `head` would return, if that needs no waiting and is not stale; else None."""
        ...

    async def open(self, key: str) -> Original:
        """The original's bytes for a render. Raises as `head` does, and `TooManyBytes`."""
        ...

    def read(self, key: str, version: str, first: int, length_bytes: int) -> AsyncGenerator[bytes, None]:
        """`length_bytes` bytes (at least one) of exactly this version, from offset `first` on, in chunks.

        Raises `Unsettled` as soon as the original is found to have another version; the chunks yielded
        before are of the requested one. Raises as `head` does otherwise. A caller that does not read to
        the end closes the generator.
        """
        ...

    def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
        """The originals whose keys begin with `prefix` and sort after `after`, in order of UTF-8 bytes."""
        ...

    async def folders(self, folder: str) -> frozenset[str]:
        """The names of the folders directly in a folder of keys; the empty string is the root.

        Raises `StoreRefused`, `StoreUnreachable`.
        """
        ...


class WritableOriginals(Originals, Protocol):
    """A store of originals that takes uploads, replacements and deletions."""

    def upload_file(self) -> UploadFile:
        """A temporary file to receive an upload in; no key names it."""
        ...

    async def put(
        self, key: str, upload: UploadFile, *, media_type: str, md5: str, replaces: bool
    ) -> tuple[Head, bool]:
        """Store an upload's bytes, durably and atomically. Returns its head, and whether this call stored it.

        The second value is False if the key already holds the same bytes. `md5` is the MD5 of the bytes, in
        hex. Raises `OriginalExists` if the key holds other bytes and `replaces` is False, `KeyNotHeld` for a
        key that the store cannot hold exactly, `StoreRefused`, `StoreUnreachable`.
        """
        ...

    async def delete(self, key: str) -> bool:
        """Remove an original; whether there was one. Raises as `put` does."""
        ...

    async def delete_unchanged(self, key: str, version: str) -> bool:
        """Remove an original that still has this version; whether it was removed. Raises as `delete`."""
        ...


class PresignedUpload(Value, frozen=True, kw_only=True):
    """A request that stores an upload directly in the remote store, valid for `expires_s` seconds."""

    method: str
    url: str
    headers: dict[str, str]
    expires_s: int


class DirectUploads(Protocol):
    """Uploads that clients send directly to the store. Each has an id; no key names them."""

    async def presign(self, upload_id: str) -> PresignedUpload:
        """A request that stores one upload without further credentials. Raises `StoreUnreachable`."""
        ...

    def read(self, upload_id: str) -> AsyncGenerator[bytes, None]:
        """An upload's bytes, in chunks. Raises `NoSuchUpload`, `StoreRefused`, `StoreUnreachable`."""
        ...

    async def remove(self, upload_id: str) -> None:
        """Remove an upload, if there is one. Raises `StoreRefused`, `StoreUnreachable`."""
        ...


class Usage(Value, frozen=True):
    """What a store of renditions holds: renditions and fact records."""

    objects: int
    disk_bytes: int


class StoredObject(Value, frozen=True):
    """Version and time of a stored object, without its bytes.

    `version` is that of the original it was made from; empty for an object that is not a rendition.
    `modified_s` is when it was stored, by the store's clock, in seconds since the epoch. A folder, which
    keeps its order of use in the same time, gives the last read instead where that was an hour later.
    """

    version: str
    modified_s: float


class FactRecords(Protocol):
    """A store of fact records: at most one for each original, whatever its version."""

    async def facts(self, key: str) -> FactRecord | None:
        """The stored record, verified, of whatever version and revision.

        None if there is none, if its bytes are not those that were put or of another release's form, or if
        the store fails.
        """
        ...

    async def put_facts(self, record: FactRecord) -> None:
        """Store a record atomically, over an earlier one. Raises `StoreRefused`, `StoreUnreachable`."""
        ...

    async def delete_facts(self, key: str) -> None:
        """Remove a record, if there is one. Raises `StoreRefused`, `StoreUnreachable`."""
        ...


class RecipeEntries(Protocol):
    """A store's list of recipes, which is only ever appended to (decision 0022)."""

    async def entries(self, after: int = 0) -> tuple[RecipeEntry, ...]:
        """The entries whose numbers follow `after` without a gap, in order.

        An entry that is damaged, or of another form, names no recipes. Raises `StoreRefused`,
        `StoreUnreachable`.
        """
        ...

    async def append(self, entry: RecipeEntry) -> bool:
        """Store an entry durably and atomically; False if there is one of its number.

        Also False if the response to a first attempt was lost. Raises `StoreRefused`, `StoreUnreachable`.
        """
        ...


class Renditions(FactRecords, RecipeEntries, Protocol):
    """A store of renditions, of their originals' fact records, and of the list of recipes."""

    async def get(self, key: str, target: Target) -> Rendition | None:
        """The stored rendition, verified; None if there is none or its bytes are not those that were put."""
        ...

    def known(self, key: str, target: Target) -> Rendition | None:
        """The rendition that `get` would return, if that needs no waiting; else None."""
        ...

    async def head(self, key: str, target: Target) -> StoredObject | None:
        """Version and time of the stored object, current or not; None if there is none.

        Changes nothing, and reads as little as the store allows: a damaged body may go unnoticed. Raises
        `StoreRefused`, `StoreUnreachable`.
        """
        ...

    async def record(self, key: str, target: Target) -> Record | None:
        """The record of the stored rendition; None if there is none. A remote store sends no body for it.

        A damaged body may go unnoticed: use `get` for a rendition that is answered or kept.
        """
        ...

    async def put(self, rendition: Rendition, keeps: Keeps | None = None) -> Rendition:
        """Store atomically, unless `keeps` is true for the stored rendition.

        A remote store has stored it durably; a power failure may damage a folder's file. By default one of
        the same version and recipe is kept: another writer has stored it first. Returns the rendition that
        is stored now. `keeps` may be called in another thread, and more than once; what it has not seen is
        not replaced. Raises `StoreRefused`, `StoreUnreachable`.
        """
        ...

    def begin_put(self, rendition: Rendition, keeps: Keeps) -> Awaitable[Rendition] | None:
        """Begin a `put` whose rendition this object returns from now on; its end, which must be awaited.

        None, and nothing is begun, where the put itself has to be awaited: always in a remote store
        (decision 0028). The put is finished even if nothing awaits its end.
        """
        ...

    def usage(self) -> Usage | None:
        """What the store holds, where that is known without asking it; None for a remote store."""
        ...

    async def targets(self) -> frozenset[Target]:
        """Every target of which renditions may be stored. Raises `StoreRefused`, `StoreUnreachable`."""
        ...

    async def delete(self, key: str, target: Target) -> bool:
        """Remove a rendition; whether there was one. Raises `StoreRefused`, `StoreUnreachable`."""
        ...


def keeps_same(made: Record) -> Keeps:
    """Keeps what was made from the same version by the same recipe."""
    return lambda stored: stored.is_current(made.version, made.recipe)
