"""The object store's verbs, as small interfaces: originals, renditions, and uploads that come by themselves.

The methods are coroutines because a remote store waits; a folder answers reads without yielding, because
a thread hop costs more than the `stat` or `read` it would hide (decision 0003).
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
    """An original opened for one render: a file descriptor, and the version it has.

    The descriptor goes to a worker process; reading it is the worker's. Use as a context manager.
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
    """Where originals live. Keys are canonical (`url.parse_key`)."""

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        """Version and length; a remote store's may be remembered for `store_fresh_s`, if it may be.

        Raises `NoSuchOriginal`, `StoreRefused`, `StoreUnreachable`.
        """
        ...

    async def open(self, key: str) -> Original:
        """The original's bytes for a render. Raises as `head` does, and `TooManyBytes`."""
        ...

    def read(self, key: str, version: str, first: int, length_bytes: int) -> AsyncGenerator[bytes, None]:
        """`length_bytes` bytes (at least one) from `first` on, of exactly this version, in chunks.

        Raises `Unsettled` as soon as the original is found to be of another version: what was handed
        out before is of this one. Else raises as `head` does. Close it, if it is not read to its end.
        """
        ...

    def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
        """The originals whose keys begin with `prefix` and come after `after`, in the order of bytes."""
        ...


class WritableOriginals(Originals, Protocol):
    """Where originals live that may be uploaded, replaced and deleted."""

    def upload_file(self) -> UploadFile:
        """A temporary file to receive an upload in; no key names it."""
        ...

    async def put(
        self, key: str, upload: UploadFile, *, media_type: str, md5: str, replaces: bool
    ) -> tuple[Head, bool]:
        """Store an upload's bytes, durably and atomically; its head, and whether this made it.

        `md5` is that of its bytes, in hex. It was there already if the same bytes were. Raises
        `OriginalExists` if others were and it does not replace, `KeyNotHeld` for a key the store cannot
        hold exactly, `StoreRefused`, `StoreUnreachable`.
        """
        ...

    async def delete(self, key: str) -> bool:
        """Remove; whether there was one. Raises as `put` does."""
        ...


class PresignedUpload(Value, frozen=True, kw_only=True):
    """Where and how an upload may be sent straight to the store, for so long."""

    method: str
    url: str
    headers: dict[str, str]
    expires_s: int


class DirectUploads(Protocol):
    """Uploads sent straight to the store, under numbers that no key leads to."""

    async def presign(self, number: str) -> PresignedUpload:
        """A request that stores one upload without further credentials. Raises `StoreUnreachable`."""
        ...

    def read(self, number: str) -> AsyncGenerator[bytes, None]:
        """What was sent, a chunk at a time. Raises `NoSuchUpload`, `StoreRefused`, `StoreUnreachable`."""
        ...

    async def remove(self, number: str) -> None:
        """Let go of what was sent. Raises as `read` does, but for what is not there."""
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
    """Where renditions live."""

    async def get(self, key: str, target: Target) -> Rendition | None:
        """The stored rendition, verified; None if there is none or its bytes are not what was put."""
        ...

    async def head(self, key: str, target: Target) -> StoredObject | None:
        """Version and time of the stored object, current or not; None if there is none.

        Changes nothing, and reads as little as the store allows: a damaged body may go unnoticed. Raises
        `StoreRefused`, `StoreUnreachable`.
        """
        ...

    async def record(self, key: str, target: Target) -> Record | None:
        """What the stored rendition is; None if there is none. A remote store is asked for no body.

        So a body that is damaged may not be found out: what is to be answered, or kept, is `get`.
        """
        ...

    async def put(self, rendition: Rendition) -> Rendition:
        """Store durably and atomically, over what was made from another version or recipe.

        What is stored now: it, or what somebody else made of the same version by the same recipe first.
        Raises `StoreRefused`, `StoreUnreachable`.
        """
        ...

    async def delete(self, key: str, target: Target) -> bool:
        """Remove; whether there was one. Raises `StoreRefused`, `StoreUnreachable`."""
        ...
