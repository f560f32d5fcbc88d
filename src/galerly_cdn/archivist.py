"""Who keeps originals for an application?

The archive of a store (`archive.Archive`), or a running CDN's, reached by its admin side (`client.Client`).
The commands speak to either and do not know to which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Mapping

    from galerly_cdn.fill import Warmed
    from galerly_cdn.library import Accepted, Deleted, Inspection, Page, Purged


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
