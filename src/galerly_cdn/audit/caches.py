"""Tells the caches in front which photographs a clean-up has changed, also after one that was killed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from galerly_cdn.stored_keys import stored_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.stored_keys import Shard

InvalidateKeys = Callable[[Sequence[str]], Awaitable[None]]
"""Drops all pictures of keys from the caches in front. Raises `NotInvalidated`."""


class Pending(Protocol):
    """Keys that are still to be invalidated, kept until that is done."""

    async def add(self, keys: Sequence[str], /) -> None: ...

    async def remove(self, keys: Sequence[str], /) -> None: ...

    def read(self) -> AsyncIterator[tuple[str, ...]]: ...


class RememberedCaches:
    """The caches behind `invalidate`, None for none; keys are remembered in `pending`, if there is one."""

    def __init__(self, invalidate: InvalidateKeys | None, pending: Pending | None) -> None:
        self._invalidate = invalidate
        self._pending = pending

    async def finish(self, shard: Shard) -> None:
        """Invalidate what an earlier clean-up of the shard has left. Raises as `invalidate` does.

        Keys of another shard alone are left to it: its clean-up may be about to remove them, and would
        otherwise not find them again if it is killed.
        """
        if self._pending is not None:
            left = [keys async for keys in self._pending.read()]
            for keys in left:
                if any(shard.has(stored_key(key)) for key in keys):
                    await self.invalidate(keys, keys)

    async def expect(self, keys: Sequence[str]) -> None:
        """Remember keys before their renditions are removed. Raises as the store does."""
        if self._pending is not None and keys:
            await self._pending.add(keys)

    async def invalidate(self, keys: Sequence[str], changed: Sequence[str]) -> None:
        """Invalidate the changed ones of keys, and forget all. Raises `NotInvalidated`."""
        if self._invalidate is not None and changed:
            await self._invalidate(changed)
        if self._pending is not None and keys:
            await self._pending.remove(keys)
