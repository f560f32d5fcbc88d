"""Renders in this process: Lambda runs one request at a time in a sandbox, and ends it at its timeout.

It decodes only the formats that the worker processes decode. An original whose decoding would not fit into
the function's memory is refused by its header, because a process that runs out of memory cannot respond.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from galerly_cdn.errors import TooMuchMemory
from galerly_cdn.model import ignore_facts
from galerly_cdn.render import decoders, header, pipeline, refusals
from galerly_cdn.render.pool import worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from galerly_cdn.model import FactRecord, Job, Learn, Rendered


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

    @property
    def formats(self) -> frozenset[str]:
        """The formats that libvips decodes."""
        return decoders.decodable_formats()

    @contextlib.asynccontextmanager
    async def admit(self, length_bytes: int, job: Job, token: str) -> AsyncIterator[InProcessRenderer]:  # noqa: ARG002 - Lambda itself bounds the requests
        """Admit every render at once."""
        yield self

    async def render(  # noqa: PLR0913 - as `WorkerPool.render`
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
    ) -> tuple[Rendered, bytes]:
        """Render a job of one picture. Raises `Unrenderable`, `Unsettled`, `DiskError`."""
        made = self.warm(fd, length_bytes, job, token, known=known, learn=learn)
        async with contextlib.aclosing(made) as pictures:
            return await anext(pictures)

    async def warm(  # noqa: PLR0913 - as `WorkerPool.warm`
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,  # noqa: ARG002 - no crashes of earlier renders are recorded here
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Yield every picture of a job as it is made. Raises as `render`; yielded pictures stay valid.

        `learn` is called as by `WorkerPool.render`.
        """
        original = worker.read_original(fd, length_bytes)
        for picture in self._pictures(original, job, learn, is_known_good=bool(known and known.is_good)):
            yield picture

    def _pictures(
        self, original: bytes, job: Job, learn: Learn, *, is_known_good: bool
    ) -> Iterator[tuple[Rendered, bytes]]:
        image = header.read(original)
        if not is_known_good:
            learn(header.facts_of(image))
        refusals.check_limits(image, job.limits)
        if image.decode_bytes > self._max_decode_bytes:
            raise TooMuchMemory(f"decoding needs {image.decode_bytes} bytes of {self._max_decode_bytes}")
        try:
            yield from pipeline.pictures(original, job, image, is_known_good=is_known_good)
        except MemoryError:
            raise TooMuchMemory("the function's memory is used up") from None
