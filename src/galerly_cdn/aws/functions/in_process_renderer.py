"""Renders in this process: Lambda runs one request at a time in a sandbox, and ends it at its timeout.

It decodes only the formats that the worker processes decode. An original whose decoding would not fit into
the function's memory is refused by its header, because a process that runs out of memory cannot respond.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from galerly_cdn.errors import TooMuchMemory
from galerly_cdn.render import decoders, header, pipeline
from galerly_cdn.render.pool import worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from galerly_cdn.model import Job, Rendered


_RESERVED_BYTES = 300 * 1024 * 1024
"""Not for decoding: interpreter and libraries take 90 MB, the original 64 MiB, encoding 50 MB."""


class InProcessRenderer:
    """A `fill.Renderer`. Making one blocks libvips' untrusted loaders in this process for good."""

    def __init__(self, memory_bytes: int) -> None:
        """`memory_bytes` is the memory of the Lambda function."""
        # Keeps pyvips' lines out of Lambda's log; errors carry the same information.
        logging.getLogger("pyvips").propagate = False
        decoders.block_untrusted_loaders()
        decoders.decodable_formats()  # cached while the function starts, not while a viewer waits
        self._max_decode_bytes = memory_bytes - _RESERVED_BYTES

    @property
    def libvips(self) -> str:
        """The version of libvips."""
        return decoders.version()

    @contextlib.asynccontextmanager
    async def admit(self, length_bytes: int, job: Job, token: str) -> AsyncIterator[InProcessRenderer]:  # noqa: ARG002 - Lambda itself bounds the requests
        """Admit every render at once."""
        yield self

    async def render(self, fd: int, length_bytes: int, job: Job, token: str) -> tuple[Rendered, bytes]:
        """Render a job of one picture. Raises `Unrenderable`, `Unsettled`."""
        async with contextlib.aclosing(self.warm(fd, length_bytes, job, token)) as pictures:
            return await anext(pictures)

    async def warm(
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,  # noqa: ARG002 - no crashes of earlier renders are recorded here
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Yield every picture of a job as it is made. Raises as `render`; yielded pictures stay valid."""
        for picture in self._pictures(worker.read_original(fd, length_bytes), job):
            yield picture

    def _pictures(self, original: bytes, job: Job) -> Iterator[tuple[Rendered, bytes]]:
        image = header.read(original)
        header.check(image, job.limits)
        if image.decode_bytes > self._max_decode_bytes:
            raise TooMuchMemory(f"decoding needs {image.decode_bytes} bytes of {self._max_decode_bytes}")
        try:
            yield from pipeline.pictures(original, job, image)
        except MemoryError:
            raise TooMuchMemory("the function's memory is used up") from None
