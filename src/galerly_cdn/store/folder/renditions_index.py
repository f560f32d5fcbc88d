"""What does the folder of renditions hold, and what goes next when it is full? In memory only.

Weights are bytes on disk, rounded up to blocks: a limit in bytes then bounds the files as well.
"""

from __future__ import annotations

from collections import OrderedDict

BLOCK_BYTES = 4096


def disk_bytes(length_bytes: int) -> int:
    """What a file of this length takes on disk, in bytes; an empty one takes a block."""
    return max(1, -(-length_bytes // BLOCK_BYTES)) * BLOCK_BYTES


class RenditionsIndex:
    """Names and weights, the least recently used first."""

    def __init__(self) -> None:
        self._weights: OrderedDict[bytes, int] = OrderedDict()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._weights)

    def use(self, name: bytes, weight_bytes: int) -> None:
        """It is there, has this weight, and is now the most recently used."""
        self.used_bytes += weight_bytes - self._weights.pop(name, 0)
        self._weights[name] = weight_bytes

    def forget(self, name: bytes) -> None:
        self.used_bytes -= self._weights.pop(name, 0)

    def evict(self, limit_bytes: int) -> list[bytes]:
        """Forget and name what must go, least recently used first, until the rest fits."""
        victims: list[bytes] = []
        while self.used_bytes > limit_bytes and self._weights:
            victim, weight_bytes = self._weights.popitem(last=False)
            self.used_bytes -= weight_bytes
            victims.append(victim)
        return victims

    def used_after(self, older: RenditionsIndex) -> RenditionsIndex:
        """`older`, overlaid by what this one has seen used since; `older` is given up."""
        for name, weight_bytes in self._weights.items():
            older.use(name, weight_bytes)
        return older
