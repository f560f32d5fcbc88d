"""What is known of originals in a remote store, without asking it for every request?

- A head is remembered for `fresh_s`: so long a replace by somebody else may go unseen.
- Any number who ask for one key are one request to the store.
- While the store cannot be asked, or is late, what was last known is told, with its age: a picture that
  is warm is never held up by a store that is not.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.cache import Coalescer
from galerly_cdn.errors import NoSuchOriginal, StoreUnreachable
from galerly_cdn.model import replaced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.model import Head

_MAX_KNOWN = 100_000
_PATIENCE_S = 0.25
"""How long a request waits for a late store before it takes what was last known."""


class _Known(NamedTuple):
    head: Head | None
    """None: there was no such original."""
    at_s: float


class Heads:
    """Asks `ask` at most once in `fresh_s` for each key; tells heads up to `stale_s` old while that fails.

    `ask` raises `NoSuchOriginal`, `StoreRefused`, `StoreUnreachable`; `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Head]],
        clock: Callable[[], float],
        *,
        fresh_s: float,
        stale_s: float,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: Coalescer[str, Head] = Coalescer()
        self._is_late = False
        """Whether the store failed or was late when it was last asked."""

    async def get(self, key: str) -> Head:
        """The head; `stale_s` in it says how old it is while the store cannot be asked."""
        known = self._known.get(key)
        age_s = self._clock() - known.at_s if known else 0.0
        if known and age_s < self._fresh_s:
            return _told(known.head)
        if known is None or known.head is None or age_s >= self._stale_s:
            return await self._asked(key)
        asked = asyncio.ensure_future(self._asked(key))
        try:
            return await asyncio.wait_for(asyncio.shield(asked), 0 if self._is_late else _PATIENCE_S)
        except (TimeoutError, StoreUnreachable):
            asked.add_done_callback(_heard)
            self._is_late = True
            return replaced(known.head, stale_s=age_s)

    async def refreshed(self, key: str) -> Head:
        """What the store says now, whatever was known. Raises as `ask` does."""
        asked_s = self._clock()
        try:
            head = await self._ask(key)
        except NoSuchOriginal:
            self._learn(key, None, asked_s)
            raise
        self._learn(key, head, asked_s)
        return head

    def learn(self, key: str, head: Head | None) -> None:
        """We changed it ourselves: None if it is gone."""
        self._learn(key, head, self._clock())

    async def _asked(self, key: str) -> Head:
        head, _ = await self._asking.run(key, lambda: self.refreshed(key))
        return head

    def _learn(self, key: str, head: Head | None, asked_s: float) -> None:
        self._is_late = False
        known = self._known.get(key)
        if known and known.at_s > asked_s:
            return  # asked before we changed it, answered after
        self._known.pop(key, None)
        self._known[key] = _Known(head, asked_s)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)


def _told(head: Head | None) -> Head:
    if head is None:
        raise NoSuchOriginal
    return head


def _heard(asked: asyncio.Future[Head]) -> None:
    """Take note of a failure that nobody waits for any more."""
    if not asked.cancelled():
        asked.exception()
