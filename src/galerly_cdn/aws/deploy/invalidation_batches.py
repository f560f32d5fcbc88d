"""Collects the keys that a running CDN invalidates, so that many photographs of a gallery become one item.

A batch is sent when no key was added for `QUIET_S`, at the latest `WINDOW_S` after its first key. The
photographs of the last `WINDOW_S` are counted, so that those that come one after the other count too.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from galerly_cdn.http.urls import gallery_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    Send = Callable[[Sequence[str], Mapping[str, int]], Awaitable[None]]
    """Invalidates keys; the photographs sent in the last minute are counted by gallery."""

WINDOW_S = 60.0
QUIET_S = 1.0


@dataclass
class _Batch:
    """The keys to send, in order, and when the first and the last was added."""

    first_s: float
    last_s: float
    keys: dict[str, None] = field(default_factory=dict)
    sending: asyncio.Task[None] | None = None


class InvalidationBatches:
    """Sends keys in batches. `clock` is monotonic, `pause` waits; both in seconds."""

    def __init__(
        self, send: Send, *, clock: Callable[[], float], pause: Callable[[float], Awaitable[None]]
    ) -> None:
        self._send = send
        self._clock = clock
        self._pause = pause
        self._batch: _Batch | None = None
        self._sent: deque[tuple[float, str]] = deque()

    async def add(self, key: str) -> None:
        """Invalidate a key with its batch; returns when the batch was sent. Raises what `send` raises."""
        now_s = self._clock()
        batch = self._batch
        if batch is None:
            batch = self._batch = _Batch(now_s, now_s)
            batch.sending = asyncio.create_task(self._send_when_due(batch))
        batch.keys[key] = None
        batch.last_s = now_s
        assert batch.sending is not None  # noqa: S101 - for the type checker
        await asyncio.shield(batch.sending)  # a caller that is cancelled does not cancel the others' batch

    async def _send_when_due(self, batch: _Batch) -> None:
        while (wait_s := min(batch.last_s + QUIET_S, batch.first_s + WINDOW_S) - self._clock()) > 0:
            await self._pause(wait_s)
        self._batch = None
        now_s = self._clock()
        while self._sent and self._sent[0][0] <= now_s - WINDOW_S:
            self._sent.popleft()
        before = Counter(gallery for _, gallery in self._sent)
        self._sent.extend((now_s, gallery_name(key)) for key in batch.keys)
        await self._send(list(batch.keys), before)
