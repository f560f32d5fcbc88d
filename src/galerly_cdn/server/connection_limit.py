"""Who is connected, and is there room for one more?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from galerly_cdn.http.urls import is_loopback

if TYPE_CHECKING:
    from galerly_cdn.settings.table import Settings


class ConnectionLimit:
    """The connections of one listener, in all and by address."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_connections
        self._most_of_one = settings.max_connections_per_client
        self._all = 0
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._all

    def join(self, address: str) -> bool:
        """Count one more, until it leaves; whether there was room for it. Loopback has no cap of its own."""
        self._all += 1
        self._by_address[address] += 1
        if self._all > self._most:
            return False
        return self._by_address[address] <= self._most_of_one or is_loopback(address)

    def leave(self, address: str) -> None:
        """One of those who joined has gone."""
        self._all -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
