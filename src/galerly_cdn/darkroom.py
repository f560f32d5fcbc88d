"""What is done with one file, and no server? It is rendered, or looked into; as the server would."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from galerly_cdn.http.urls import AllowList
from galerly_cdn.jobs import job_of
from galerly_cdn.render import libvips_version
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.server import serve
from galerly_cdn.telemetry import Counters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from galerly_cdn.model import Facts, Rendered
    from galerly_cdn.render.pool.protocol import Ready
    from galerly_cdn.settings.table import Settings


def render_file(
    settings: Settings, file: Path, size: str, image_format: str | None
) -> tuple[Rendered, bytes]:
    """Render one file as the server would. Raises as a request for it would."""
    segment = f"{size}.{image_format}" if image_format else size
    rule, target = AllowList(settings.size_rules).find(segment.encode())
    job = job_of(rule, target, settings)

    async def main() -> tuple[Rendered, bytes]:
        async with _workers(settings) as (workers, _):
            with file.open("rb") as original:
                length_bytes = os.fstat(original.fileno()).st_size
                return await workers.render(original.fileno(), length_bytes, job, str(file))

    return serve.run(main())


def inspect_file(settings: Settings, file: Path) -> Facts:
    """What a file's header says. Raises as a request for it would."""

    async def main() -> Facts:
        async with _workers(settings) as (workers, _):
            with file.open("rb") as original:
                length_bytes = os.fstat(original.fileno()).st_size
                return await workers.inspect(original.fileno(), length_bytes, str(file))

    return serve.run(main())


def describe_renderer(settings: Settings) -> Ready:
    """The renderer in use: libvips' version, and the formats it really decodes."""

    async def main() -> Ready:
        async with _workers(settings) as (_, hello):
            return hello

    return serve.run(main())


@contextlib.asynccontextmanager
async def _workers(settings: Settings) -> AsyncIterator[tuple[WorkerPool, Ready]]:
    workers = WorkerPool(settings, Counters().count)
    hello = await workers.start()
    try:
        libvips_version.check_version(hello.libvips)
        yield workers, hello
    finally:
        await workers.close(settings.drain_s)
