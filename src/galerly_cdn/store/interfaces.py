"""Defines the interfaces of the object store: originals, renditions and direct uploads.

The methods are coroutines because a remote store waits for the network. A folder answers reads without
yielding: a hop to a thread costs more than the `stat` or `read` it would move there (decision 0003).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, Self

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from types import TracebackType

    from galerly_cdn.model import Head, Listed, Record, Rendition, Target
    from galerly_cdn.store.temp_files import UploadFile


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


class StoredObject(Value, frozen=True):
    """Version and time of a stored object, without its bytes.

    `version` is that of the original it was made from; empty for an object that is not a rendition.
    `modified_s` is when it was stored, by the store's clock, in seconds since the epoch. A folder, which
    keeps its order of use in the same time, gives the last read instead where that was an hour later.
    """

    version: str
    modified_s: float


class Renditions(Protocol):
    """A store of renditions."""

    async def get(self, key: str, target: Target) -> Rendition | None:
        """The stored rendition, verified; None if there is none or its bytes are not those that were put."""
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

    async def put(self, rendition: Rendition) -> Rendition:
        """Store durably and atomically, over a rendition of another version or recipe.

        Returns the rendition that is stored now: this one, or the one that another writer stored first for
        the same version and recipe. Raises `StoreRefused`, `StoreUnreachable`.
        """
        ...

    async def delete(self, key: str, target: Target) -> bool:
        """Remove a rendition; whether there was one. Raises `StoreRefused`, `StoreUnreachable`."""
        ...
