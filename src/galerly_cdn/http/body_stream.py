"""How is a body sent that is never whole in memory? As a stream: read a chunk at a time, as it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Stream:
    """A body of `length_bytes` bytes that is read as it is sent. Iterate once; always `close`."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], length_bytes: int) -> None:
        self.length_bytes = length_bytes
        self._chunks = chunks
        self._first = b""

    async def begin(self) -> None:
        """Read the first chunk: what fails at once is still an error of its own, no answer cut short.

        Raises what reading raises.
        """
        self._first = await anext(self._chunks, b"")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await anext(self._chunks)

    async def close(self) -> None:
        """Read no more, and let go of what the reading holds."""
        await self._chunks.aclose()
