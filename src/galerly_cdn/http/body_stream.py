"""A response body that is read chunk by chunk while it is sent, and is never whole in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Stream:
    """A body of `length_bytes` bytes, or of unknown length (None). Iterate it once; always `close` it."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], length_bytes: int | None) -> None:
        self.length_bytes = length_bytes
        self._chunks = chunks
        self._first = b""

    async def begin(self) -> None:
        """Read the first chunk, so that an immediate failure is an error response and not a cut body.

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
        """Stop reading, and release what the reading holds."""
        await self._chunks.aclose()
