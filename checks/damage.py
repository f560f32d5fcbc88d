"""Damages photographs, renders each at every size and format, and asks decoders that are not ours.

`python -m checks damage --help` says what is done and required.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from checks import damage_tables, harmless, lenient
from checks.damage_workers import run_all
from checks.mutations import mutations, sampled
from galerly_cdn.errors import GalerlyError, UnsupportedFormat, WorkerDied
from galerly_cdn.model import Format, Size, Target
from galerly_cdn.recipes import job_of
from galerly_cdn.render.formats import OriginalFormat, detect_format
from galerly_cdn.render.pool import worker
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from checks.mutations import Mutation
    from galerly_cdn.model import SizeRule

SERVED = "served"
UPLOAD = "upload"
_KINDS = {OriginalFormat(name) for name in ("jpeg", "png", "gif", "tiff", "avif", "webp")}


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


def run(
    folder: Path, *, sample: int | None, jobs: int, with_variants: bool, only: str | None, quick: bool
) -> int:
    """Print the tables; returns 1 if a figure is not as required, 2 if a tool is missing."""
    if missing := lenient.missing_tools(with_variants=with_variants):
        print(*missing, sep="\n", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        photographs = sorted(path for path in folder.rglob("*") if path.is_file() and _kind(path, only))
        if with_variants:
            photographs += list(_variants(photographs, Path(scratch)))
        tasks = [(*task, quick) for task in _tasks(photographs, sample)]
        print(f"{len(photographs)} photographs, {len(tasks)} files to render", file=sys.stderr)
        outcomes = run_all(examine, tasks, jobs, lost)
        print("harmless irregularities", file=sys.stderr)
        irregular = run_all(examine_harmless, [(path,) for path in photographs], jobs, lost_harmless)
    failures = damage_tables.report(outcomes) + damage_tables.report_harmless(
        [one for results in irregular for one in results]
    )
    print(f"{failures} failures")
    return bool(failures)


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


def examine(path: Path, mutation: Mutation | None, quick: bool) -> Outcome:  # noqa: FBT001 - a task's value
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
        verdicts(content, quick=quick),
    )


@dataclass(frozen=True)
class Irregular:
    """What became of a harmless irregularity: `problem` is empty if it is served with the same pixels."""

    file: str
    kind: OriginalFormat
    name: str
    problem: str


def examine_harmless(path: Path) -> list[Irregular]:
    """Render a photograph with each irregularity that leaves the oracle's picture as it is."""
    original, kind, undamaged = _undamaged(path)
    found = []
    regular = None if undamaged.complains else _picture(original)
    for name in harmless.kinds(kind) if regular else ():
        content = harmless.apply(original, name, kind)
        if content is None:
            continue
        if lenient.different_share(undamaged.picture, lenient.shown(content, kind).picture) > 0:
            continue
        try:
            problem = "" if _picture(content) == regular else "other pixels"
        except GalerlyError as error:
            problem = f"{error.code}: {error.detail}"
        found.append(Irregular(path.name, kind, name, problem))
    return found


def lost_harmless(path: Path, reason: str) -> list[Irregular]:
    """The result for a file with which a worker process died or did not end."""
    kind = _kind(path, None)
    assert kind
    return [Irregular(path.name, kind, "any", reason)]


def _picture(content: bytes) -> bytes:
    """The encoded rendition at 800x600, which is the same for the same pixels."""
    settings = Settings()
    rule = next(rule for rule in settings.size_rules if rule.size == Size(*lenient.BOX_PX))
    return next(
        _renderer().prepare(content, job_of(rule, Target(rule.size, Format.JPEG), settings), False)[1]
    )[1]


def lost(path: Path, mutation: Mutation | None, _quick: bool, reason: str) -> Outcome:  # noqa: FBT001 - a task's value
    """The outcome of a file with which a worker process died or did not end."""
    kind = _kind(path, None)
    assert kind
    return Outcome(path.name, kind, mutation, True, 1.0, {reason: WorkerDied.code})


def verdicts(content: bytes, *, quick: bool = False) -> dict[str, str]:
    """The verdict at every size of the allow-list as JPEG, WebP and AVIF, and at the upload.

    PNG is left out: it is decoded as the others are, and encoding it takes the longest. An upload inspects
    the file and renders it at the smallest size (`library.StoreLibrary`). `quick`: each size in one format.
    """
    settings = Settings()
    targets = [
        Target(rule.size, form)
        for number, rule in enumerate(settings.size_rules)
        for form in _formats(rule, number if quick else None)
    ]
    found = {str(target): _rendered(content, target, settings) for target in targets}
    smallest = min(settings.size_rules, key=lambda rule: rule.size).size
    inspected = _verdict(lambda: _renderer().inspect(content))
    found[UPLOAD] = inspected if inspected != SERVED else _rendered(content, Target(smallest), settings)
    return found


def _formats(rule: SizeRule, number: int | None) -> list[Format]:
    lossy = [form for form in rule.qualities if form.has_quality]
    return lossy if number is None else [lossy[number % len(lossy)]]


def _rendered(content: bytes, target: Target, settings: Settings) -> str:
    rule = next(rule for rule in settings.size_rules if rule.size == target.size)
    job = job_of(rule, target, settings)
    return _verdict(lambda: next(_renderer().prepare(content, job, False)[1]))


def _verdict(action: Callable[[], object]) -> str:
    try:
        action()
    except GalerlyError as error:
        return error.code
    return SERVED
