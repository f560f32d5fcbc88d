"""Measures the throughput of uploads, relative to plain copies of the same bytes into the same store.

A plain copy into a folder is write, fsync and rename; into a remote store, it is one put. Both run with the
concurrency of `galerly-cdn upload`. An upload also computes checksums and decodes the photograph.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
import time
from argparse import ArgumentParser
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyvips

from benchmarks import photographs
from benchmarks.report import Report
from benchmarks.sampling import interleave, ratios, spread
from galerly_cdn.app.server import compose
from galerly_cdn.settings import load, locations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from galerly_cdn.library import StoreLibrary
    from galerly_cdn.settings.table import Settings

MIN_RATIO = 0.75
_BYTES = 8_000_000
_CHUNK_BYTES = 256 * 1024
_CONCURRENCY = 8


def photograph(folder: Path | None, length_bytes: int) -> bytes:
    """The JPEG of a folder closest to a length, or the sample of 24 megapixels at the closest quality."""
    if folder is not None:
        paths = [folder / key for key in photographs.keys(folder)]
        return min(paths, key=lambda path: abs(path.stat().st_size - length_bytes)).read_bytes()
    pixels = pyvips.Image.new_from_file(str(photographs.large())).copy_memory()
    encoded = (
        pixels.jpegsave_buffer(Q=quality, subsample_mode="on", keep=0) for quality in range(99, 79, -1)
    )
    return bytes(min(encoded, key=lambda content: abs(len(content) - length_bytes)))


async def chunks_of(content: bytes) -> AsyncIterator[bytes]:
    """The content in chunks, as in a request's body."""
    for at in range(0, len(content), _CHUNK_BYTES):
        yield content[at : at + _CHUNK_BYTES]


async def timed(store_one: Callable[[int], Awaitable[object]], count: int) -> float:
    """Seconds to call `store_one` for each number below `count`, several concurrently."""
    started_s = time.perf_counter()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await store_one(number)

    await asyncio.gather(*(work() for _ in range(_CONCURRENCY)))
    return time.perf_counter() - started_s


def write(folder: Path, content: bytes, number: int) -> None:
    """Write one plain copy durably."""
    temporary = folder / f".{number}"
    with temporary.open("wb") as file:
        for at in range(0, len(content), _CHUNK_BYTES):
            file.write(content[at : at + _CHUNK_BYTES])
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / f"{number}.jpg")


class Candidates:
    """Plain copies and uploads into one store."""

    def __init__(self, runner: asyncio.Runner, settings: Settings, content: bytes, count: int) -> None:
        self._runner = runner
        self._content = content
        self._count = count
        self._settings = settings
        self._store = settings.store
        self._rounds = itertools.count()
        self._exit_stack = AsyncExitStack()
        cdn = runner.run(
            self._exit_stack.enter_async_context(
                compose(settings, locations.resolve_locations(settings, None))
            )
        )
        self._library: StoreLibrary = cdn.library

    def close(self) -> None:
        self._runner.run(self._exit_stack.aclose())

    def copy(self) -> float:
        """Seconds of plain copies."""
        if locations.is_remote(self._store):
            return self._put()
        folder = Path(self._store, "plain")
        folder.mkdir()
        try:
            return self._runner.run(
                timed(lambda number: asyncio.to_thread(write, folder, self._content, number), self._count)
            )
        finally:
            shutil.rmtree(folder)

    def upload(self) -> float:
        """Seconds of uploads."""
        gallery = f"round-{next(self._rounds)}"
        duration_s = self._runner.run(
            timed(
                lambda number: self._library.upload(f"{gallery}/{number}.jpg", chunks_of(self._content)),
                self._count,
            )
        )
        self._runner.run(timed(lambda number: self._library.delete(f"{gallery}/{number}.jpg"), self._count))
        return duration_s

    def _put(self) -> float:
        from galerly_cdn.store.remote.bucket import Bucket

        bucket = Bucket(f"{self._store}/plain", self._settings, time.monotonic, lambda _event: None)
        return self._runner.run(
            timed(
                lambda number: bucket.put(f"{number}.jpg", self._content, {}, creates=False),
                self._count,
            )
        )


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.upload", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of plain copies and uploads [5]")
    parser.add_argument("--count", type=int, default=100, help="uploads per round [100]")
    parser.add_argument("--store", help="folder or address to upload to [a temporary folder]")
    options = parser.parse_args()
    content = photograph(options.photographs, _BYTES)
    report = Report(f"Uploads: {options.count} × {len(content) / 1e6:.1f} MB, {_CONCURRENCY} concurrently")
    with TemporaryDirectory() as scratch, asyncio.Runner() as runner:
        settings = load.load_settings({"store": options.store or scratch, "access_log": False}).settings
        candidates = Candidates(runner, settings, content, options.count)
        seconds = interleave({"plain copy": candidates.copy, "upload": candidates.upload}, options.rounds)
        candidates.close()
    total_mb = len(content) * options.count / 1e6
    relative = spread(ratios(seconds["plain copy"], seconds["upload"]))
    rows = [
        [name, spread([total_mb / one_s for one_s in durations_s]).show(0), ""]
        for name, durations_s in seconds.items()
    ]
    verdict = report.at_least("throughput of uploads over plain copies", relative.median, MIN_RATIO)
    report.table(["", "MB/s (quartiles)", "target"], [*rows, ["upload over copy", relative.show(), verdict]])
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
