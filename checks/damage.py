"""Damages photographs, renders each at every size and format, and asks decoders that are not ours.

`python -m checks damage --help` says what is done and required.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from checks import damage_tables, lenient
from checks.mutations import mutations, sampled
from galerly_cdn.errors import GalerlyError, UnsupportedFormat
from galerly_cdn.fill import job_of
from galerly_cdn.model import Target
from galerly_cdn.render.formats import OriginalFormat, detect_format
from galerly_cdn.render.pool import worker
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from checks.mutations import Mutation

SERVED = "served"
UPLOAD = "upload"
_KINDS = {OriginalFormat(name) for name in ("jpeg", "png", "gif", "tiff", "avif", "webp")}
_NICE = 10


@dataclass(frozen=True)
class Outcome:
    """What became of one file: `mutation` is None for the undamaged one.

    `verdicts` has an entry for every target and one for the upload: `served`, or the error's code.
    `different` is the share of visibly different pixels at 800x600.
    """

    file: str
    kind: OriginalFormat
    mutation: Mutation | None
    oracle_complains: bool
    different: float
    verdicts: dict[str, str]

    @property
    def is_visible(self) -> bool:
        """Whether the oracle complains and the picture is visibly damaged: it must be refused everywhere."""
        return self.oracle_complains and self.different > lenient.VISIBLE_SHARE

    @property
    def served(self) -> list[str]:
        """Where it was served."""
        return [where for where, verdict in self.verdicts.items() if verdict == SERVED]

    @property
    def is_consistent(self) -> bool:
        """Whether it was refused everywhere or served everywhere."""
        return len(self.served) in {0, len(self.verdicts)}


def run(folder: Path, *, sample: int | None, jobs: int, with_variants: bool, only: str | None) -> int:
    """Print the tables; returns 1 if a figure is not as required, 2 if a tool is missing."""
    if missing := lenient.missing_tools(with_variants=with_variants):
        print(*missing, sep="\n", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        photographs = sorted(path for path in folder.rglob("*") if path.is_file() and _kind(path, only))
        if with_variants:
            photographs += list(_variants(photographs, Path(scratch)))
        tasks = list(_tasks(photographs, sample))
        print(f"{len(photographs)} photographs, {len(tasks)} files to render", file=sys.stderr)
        outcomes = _examined(tasks, jobs)
    return damage_tables.report(outcomes)


def _variants(photographs: Sequence[Path], scratch: Path) -> Iterator[Path]:
    for number, photograph in enumerate(photographs):
        if _kind(photograph, None) is OriginalFormat.JPEG:
            own = scratch / str(number)
            own.mkdir()
            yield from lenient.variants(photograph, own)


def _kind(path: Path, only: str | None) -> OriginalFormat | None:
    """The format of a photograph that takes part."""
    with path.open("rb") as file:
        start = file.read(512)
    try:
        kind = detect_format(start)
    except UnsupportedFormat:
        return None
    return kind if kind in _KINDS and only in {None, kind} else None


def _tasks(photographs: Sequence[Path], sample: int | None) -> Iterator[tuple[Path, Mutation | None]]:
    for path in photographs:
        yield path, None
        every = mutations(path.stat().st_size, path.name)
        for mutation in sampled(every, sample, path.name):
            yield path, mutation


def _examined(tasks: Sequence[tuple[Path, Mutation | None]], jobs: int) -> list[Outcome]:
    """The outcomes, in the order of the tasks; prints the progress."""
    started_s = time.monotonic()
    context = multiprocessing.get_context("spawn")
    outcomes: dict[int, Outcome] = {}
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        running = {pool.submit(examine, *task): number for number, task in enumerate(tasks)}
        for future in as_completed(running):
            outcomes[running[future]] = future.result()
            _show_progress(len(outcomes), len(tasks), time.monotonic() - started_s)
    return [outcomes[number] for number in sorted(outcomes)]


def _show_progress(done: int, total: int, passed_s: float) -> None:
    """Rewrite one line of a terminal; in a log, write a line at every tenth."""
    text = f"{done} of {total} files, {passed_s / done * (total - done):.0f} s left"
    if sys.stderr.isatty():
        print(f"\r{text}   ", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done * 10 // total > (done - 1) * 10 // total:
        print(text, file=sys.stderr, flush=True)


def _start_worker() -> None:
    os.nice(_NICE)
    os.environ["VIPS_CONCURRENCY"] = "1"
    _renderer()


@functools.cache
def _renderer() -> worker.Renderer:
    renderer = worker.libvips()
    renderer.check()
    return renderer


@functools.lru_cache(maxsize=2)
def _undamaged(path: Path) -> tuple[bytes, OriginalFormat, lenient.Shown]:
    content = path.read_bytes()
    kind = detect_format(content)
    return content, kind, lenient.shown(content, kind)


def examine(path: Path, mutation: Mutation | None) -> Outcome:
    """Damage one file, decode it with the oracle, and render it at every size and format."""
    original, kind, undamaged = _undamaged(path)
    content = mutation.apply(original) if mutation else original
    damaged = lenient.shown(content, kind) if mutation else undamaged
    return Outcome(
        path.name,
        kind,
        mutation,
        damaged.complains,
        lenient.different_share(undamaged.picture, damaged.picture),
        verdicts(content),
    )


def verdicts(content: bytes) -> dict[str, str]:
    """The verdict at every size of the allow-list as JPEG, WebP and AVIF, and at the upload.

    PNG is left out: it is decoded as the others are, and encoding it takes the longest.
    An upload inspects the file and renders it at the smallest size (`library.StoreLibrary`).
    """
    settings = Settings()
    found = {
        str(target): _rendered(content, target, settings)
        for rule in settings.size_rules
        for target in (Target(rule.size, form) for form in rule.qualities if form.has_quality)
    }
    smallest = min(settings.size_rules, key=lambda rule: rule.size).size
    inspected = _verdict(lambda: _renderer().inspect(content))
    found[UPLOAD] = inspected if inspected != SERVED else _rendered(content, Target(smallest), settings)
    return found


def _rendered(content: bytes, target: Target, settings: Settings) -> str:
    rule = next(rule for rule in settings.size_rules if rule.size == target.size)
    job = job_of(rule, target, settings)
    return _verdict(lambda: next(_renderer().prepare(content, job)[1]))


def _verdict(action: Callable[[], object]) -> str:
    try:
        action()
    except GalerlyError as error:
        return error.code
    return SERVED
