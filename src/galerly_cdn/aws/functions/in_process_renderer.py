"""Renders in this process: Lambda gives every request a sandbox of its own, and ends it at its time.

What may be decoded is what the worker processes may decode; what would not fit into the function's
memory is refused by its header, because a process that runs out of it has no answer left to give.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from galerly_cdn.errors import TooMuchMemory
from galerly_cdn.render import decoders, header, pipeline
from galerly_cdn.render.pool import worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from galerly_cdn.model import Job, Rendered


_KEPT_BYTES = 300 * 1024 * 1024
"""Not for decoding: interpreter and libraries take 90 MB, the original 64 MiB, encoding 50 MB."""


class InProcessRenderer:
    """An `origin.Renderer`; making one confines the process's libvips for good."""

    def __init__(self, memory_bytes: int) -> None:
        """`memory_bytes` is the function's."""
        # Not into Lambda's log: what matters comes with an error.
        logging.getLogger("pyvips").propagate = False
        decoders.block_untrusted_loaders()
        decoders.decodable_formats()  # while the function starts, not while a viewer waits
        self._decode_bytes = memory_bytes - _KEPT_BYTES

    @property
    def libvips(self) -> str:
        """Its version."""
        return decoders.version()

    async def render(self, fd: int, length_bytes: int, job: Job, token: str) -> tuple[Rendered, bytes]:
        """A job for one picture. Raises `Unrenderable`, `Unsettled`."""
        async with contextlib.aclosing(self.warm(fd, length_bytes, job, token)) as pictures:
            return await anext(pictures)

    async def warm(
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,  # noqa: ARG002 - whoever crashes is remembered by nobody here
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Every picture of a job, as they are made. Raises as `render` does; what came before holds."""
        for made in self._pictures(worker.read_original(fd, length_bytes), job):
            yield made

    def _pictures(self, original: bytes, job: Job) -> Iterator[tuple[Rendered, bytes]]:
        read = header.read(original)
        header.check(read, job.limits)
        if read.decode_bytes > self._decode_bytes:
            raise TooMuchMemory(f"{read.decode_bytes} B over {self._decode_bytes}")
        try:
            yield from pipeline.pictures(original, job, read)
        except MemoryError:
            raise TooMuchMemory("the function's memory is used up") from None
