"""Measures `store audit` on a folder, and on a listing that is made up: time and peak memory."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.report import Report
from galerly_cdn.audit.index import open_index
from galerly_cdn.audit.judge import Judge
from galerly_cdn.audit.judgement import Rules, Selection
from galerly_cdn.audit.survey import Survey
from galerly_cdn.http.urls import checked_key
from galerly_cdn.model import Format, Head, Limits, RecipeEntry, Record, Rendition, Size, Target
from galerly_cdn.recipes import Ranks
from galerly_cdn.serialization import replaced
from galerly_cdn.store.folder.originals import FolderOriginals
from galerly_cdn.store.folder.rendition_file import encode_rendition
from galerly_cdn.store.folder.renditions_index import file_name, file_path
from galerly_cdn.store.folder.stored_files import OriginalFiles, RenditionFiles
from galerly_cdn.store.remote.raw_listing import ListedObject
from galerly_cdn.store.remote.stored_objects import item_of
from galerly_cdn.store.stored_items import OriginalItem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from galerly_cdn.store.interfaces import Originals, RecipeEntries
    from galerly_cdn.store.stored_items import OriginalItems, StoredItem, StoredItems

COUNTS = (100_000, 1_000_000)
TARGETS = tuple(
    Target(Size(side_px, side_px), form)
    for side_px in (150, 400, 800, 2000)
    for form in (None, Format.WEBP, Format.AVIF)
)
GALLERY = 1000
"""Photographs of a gallery."""
OUTDATED = 100
"""Every hundredth photograph was replaced, and its renditions are outdated."""
CPU_S_PER_100_000 = 8.0
PEAK_MB = 250.0
_RECIPE = "0123456789abcdef"
_SHAPES = ("folder", "listing")


def key_of(number: int) -> str:
    """The key of a photograph."""
    return f"gallery {number // GALLERY:05d}/IMG_{number % GALLERY:04d}.jpg"


def record_of(key: str, target: Target, version: str) -> Record:
    """The record of a rendition with an empty body."""
    empty_md5 = "d41d8cd98f00b204e9800998ecf8427e"
    return Record(key, target, version, _RECIPE, target.format or Format.JPEG, 1, 1, 0, empty_md5)


class MadeUpStore:
    """A remote store that holds `renditions` renditions and answers each request at once."""

    parallel = 32

    def __init__(self, renditions: int) -> None:
        self._photographs = renditions // len(TARGETS)

    async def list(self) -> AsyncIterator[OriginalItem]:
        for number in range(self._photographs):
            key = key_of(number)
            yield OriginalItem(key, key, 5_000_000, 1.7e9, f"{number}")

    def version(self, key: str) -> str:
        del key
        return ""

    async def parts(self) -> tuple[str, ...]:
        return tuple(map(str, TARGETS))

    async def items(self, part: str) -> AsyncIterator[StoredItem]:
        target = next(one for one in TARGETS if str(one) == part)
        for number in range(self._photographs):
            yield item_of(ListedObject(target.rendition_key(key_of(number)), 50_000, 1.7e9, "etag"))

    async def read(self, item: StoredItem) -> StoredItem:
        assert item.target
        version = "earlier" if _number(item.key) % OUTDATED == 0 else f"{_number(item.key)}"
        return replaced(item, is_read=True, record=record_of(item.key, item.target, version))

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        del remembered
        return Head(f"{_number(key)}", 5_000_000)

    async def remove(self, item: StoredItem) -> bool:
        raise AssertionError(item)


class Recipes:
    """A list of recipes with one entry."""

    async def entries(self, after: int = 0) -> tuple[RecipeEntry, ...]:
        named = {str(Target(target.size, form)): _RECIPE for target in TARGETS for form in Format}
        return () if after else (RecipeEntry(1, named),)

    async def append(self, entry: RecipeEntry) -> bool:
        raise AssertionError(entry)


def _number(key: str) -> int:
    gallery, name = key.split("/")
    return int(gallery[-5:]) * GALLERY + int(name[4:8])


def fill(root: Path, renditions: int) -> None:
    """Make originals of one byte, and renditions with an empty body; nothing is fsynced."""
    for number in range(renditions // len(TARGETS)):
        key = key_of(number)
        original = root / "originals" / key
        original.parent.mkdir(parents=True, exist_ok=True)
        original.write_bytes(b".")
        status = original.stat()
        version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
        for name, content in _files(key, "earlier" if number % OUTDATED == 0 else version):
            path = file_path(root / "resized", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _files(key: str, version: str) -> Iterator[tuple[bytes, bytes]]:
    for target in TARGETS:
        rendition = Rendition(record_of(key, target, version), b"")
        yield file_name(target.rendition_key(key)), encode_rendition(rendition)


async def audit(
    roots: tuple[StoredItems, ...], originals: Originals, listing: OriginalItems, recipes: RecipeEntries
) -> str:
    """One audit; its seconds, CPU seconds and findings."""
    rules = Rules(frozenset(TARGETS), Ranks.of(()), ())
    judge = Judge(roots, originals, recipes, rules, time.time)
    await judge.read_recipes()
    started_s, cpu_s = time.perf_counter(), time.process_time()
    with open_index() as index:
        survey = Survey(
            judge, listing, index, selection=Selection(), limits=Limits(1, 1, 1), max_bytes=1 << 40
        )
        made = await survey.run()
    found = sum(one.items for one in made.removable)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    seconds = time.perf_counter() - started_s, time.process_time() - cpu_s
    return f"{made.renditions.items} {found} {seconds[0]:.1f} {seconds[1]:.1f} {peak_mb:.0f}"


def measure(shape: str, renditions: int, root: Path) -> None:
    """Audit in this process, and print the result."""
    if shape == "listing":
        store = MadeUpStore(renditions)
        work = audit((store,), store, store, Recipes())  # type: ignore[arg-type]  # it is asked for heads only
    else:
        originals = FolderOriginals(root / "originals", checked_key, now=time.time)
        files = RenditionFiles(root / "resized", time.time)
        work = audit((files,), originals, OriginalFiles(root / "originals", originals), Recipes())
    print(asyncio.run(work))


def main() -> int:
    """Run the command line; each audit is a process of its own, so that its peak memory is its own."""
    parser = ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="*", help="numbers of renditions [100000 1000000]")
    parser.add_argument("--shapes", nargs="*", choices=_SHAPES, help="[all]")
    parser.add_argument("--measure", nargs=3, metavar=("SHAPE", "COUNT", "FOLDER"), help="one audit only")
    options = parser.parse_args()
    if options.measure:
        shape, count, folder = options.measure
        measure(shape, int(count), Path(folder))
        return 0
    report = Report("Auditing a store; every hundredth photograph has outdated renditions")
    rows = []
    for count in options.counts or COUNTS:
        for shape in options.shapes or _SHAPES:
            with TemporaryDirectory() as root:
                if shape == "folder":
                    fill(Path(root), count)
                command = [sys.executable, "-m", "benchmarks.audit", "--measure", shape, str(count), root]
                printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            audited, found, wall_s, cpu_s, peak_mb = map(float, printed)
            verdict = report.at_most(f"{shape}, {count:,}: peak MB", peak_mb, PEAK_MB)
            limit_s = CPU_S_PER_100_000 * count / 100_000
            verdict += f", {report.at_most(f'{shape}, {count:,}: CPU s', cpu_s, limit_s)}"
            row = [f"{shape}, {audited:,.0f}", f"{found:,.0f}", f"{wall_s:.1f}", f"{cpu_s:.1f}"]
            rows.append([*row, f"{peak_mb:.0f}", verdict])
    report.table(["renditions", "found", "s", "CPU s", "peak RSS MB", "target"], rows)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
