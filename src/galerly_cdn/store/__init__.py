"""The object store's verbs, as two small interfaces: originals and renditions.

The methods are coroutines because a remote store waits; a folder answers without yielding, because
a thread hop costs more than the `stat` or `read` it would hide (decision 0003).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from types import TracebackType

    from galerly_cdn.model import Head, Rendition, Target


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

    async def head(self, key: str) -> Head:
        """Version and length. Raises `NoSuchOriginal`, `StoreRefused`, `StoreUnreachable`."""
        ...

    async def open(self, key: str) -> Original:
        """The original's bytes. Raises as `head` does."""
        ...

    def read(self, key: str, version: str, first: int, length_bytes: int) -> AsyncGenerator[bytes, None]:
        """`length_bytes` bytes from `first` on, of exactly this version, a chunk at a time.

        Raises `Unsettled` as soon as the original is found to be of another version: what was handed
        out before is of this one. Else raises as `head` does. Close it, if it is not read to its end.
        """
        ...

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """The keys under `prefix`, in the order of their UTF-8 bytes."""
        ...


class Renditions(Protocol):
    """Where renditions live."""

    async def get(self, key: str, target: Target) -> Rendition | None:
        """The stored rendition, verified; None if there is none or its bytes are not what was put."""
        ...

    async def put(self, rendition: Rendition) -> None:
        """Store durably and atomically, over what was there. Raises `StoreUnreachable`."""
        ...

    async def delete(self, key: str, target: Target) -> bool:
        """Remove; whether there was one."""
        ...
