"""Defines what a clean-up sees of a store: every original, and everything in the root of the renditions.

Unlike `interfaces`, whose stores know only keys and targets, these listings show what no request can reach.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from galerly_cdn.model import FactRecord, Record, Target
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Kind(enum.StrEnum):
    """What a file or an object is, by its name and by as much of its content as was read."""

    RENDITION = "rendition"
    FACTS = "facts"
    MISNAMED = "misnamed"
    """A rendition or a fact record under a name that no request asks for, such as an old spelling."""
    DAMAGED = "damaged"
    """In the place of a rendition or a fact record, and none."""
    TEMPORARY = "temporary"
    """Left by a writer that was killed."""
    FOREIGN = "foreign"
    """Of another program, or in use by a writer: it is left alone."""


class StoredItem(Value, frozen=True, kw_only=True):
    """A file or an object beside the originals.

    `name` is its path below its root; `modified_s` is in seconds of the epoch, by the store's clock, and in a
    folder that of the last read. `tag` identifies its bytes, and in a folder its time. `stored` is the key as
    names spell it (`stored_keys`), or the name of what has none. `key` is empty where it is not known. What
    is not `is_read` was classified by its name alone.
    """

    name: str
    kind: Kind
    length_bytes: int
    modified_s: float
    tag: str = ""
    stored: str = ""
    key: str = ""
    target: Target | None = None
    record: Record | None = None
    facts: FactRecord | None = None
    is_read: bool = False

    @property
    def label(self) -> str:
        """What it is, for people: `800x600.webp/gallery/a.jpg`; its name if that is not known."""
        if not self.key or self.kind is Kind.MISNAMED:
            return self.name
        return f"{self.target or 'facts'}/{self.key}"

    @property
    def version(self) -> str:
        """The version of the original that it was made from; empty if it is not known."""
        made = self.record or self.facts
        return made.version if made else ""


class OriginalItem(Value, frozen=True):
    """An original in a listing; without a key if no request can name it.

    `version` is empty where a listing does not tell it: in a folder, where a head costs as little.
    """

    name: str
    key: str
    length_bytes: int
    modified_s: float
    version: str


class OriginalItems(Protocol):
    """Lists every original but hidden ones, also those that no request can name."""

    def list(self) -> AsyncIterator[OriginalItem]:
        """The originals, in an order of the store's. Raises `StoreRefused`, `StoreUnreachable`."""
        ...

    def version(self, key: str) -> str:
        """The version of a file of this name, without a check whether the key is served; empty if not known.

        It costs no request. An item that was made from it can be kept; for another one the store is asked.
        """
        ...


class StoredItems(Protocol):
    """Lists a root completely, reads single items again, and removes those that have not changed.

    All methods raise `StoreRefused`, `StoreUnreachable`.
    """

    parallel: int
    """How many items are worth reading at the same time: one for a folder."""

    async def parts(self) -> tuple[str, ...]:
        """The names of the parts that `items` lists; fact records come after all renditions."""
        ...

    def items(self, part: str) -> AsyncIterator[StoredItem]:
        """The items of a part, as far as the listing reads them."""
        ...

    async def read(self, item: StoredItem) -> StoredItem | None:
        """The item as it is now, with its record and its tag; None if it is gone."""
        ...

    async def remove(self, item: StoredItem) -> bool:
        """Remove an item that still has its tag; whether it was removed."""
        ...
