"""Measures the CPU of a whole server per miss, against peers over the same folder; also bytes and quality.

Every picture is rendered again: our renditions are deleted between rounds, and the peers store none.

    --peer 'imgproxy=http://127.0.0.1:8081/unsafe/rs:fit:{width}:{height}/q:{quality}/plain/local:///{key}@{extension}'

A peer's template contains {key}, {width}, {height}, {format}, {extension} and {quality} (from the allow-
list). Each `--peer` needs a `--peer-pid`, in the same order.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from benchmarks import photographs, proc, quality, thumbor
from benchmarks.report import Report
from benchmarks.sampling import interleave, ratios, spread
from benchmarks.servers import ask_all, galerly
from galerly_cdn.model import Format, Size
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

IMGPROXY_TARGETS = {
    ("150x150", Format.JPEG): 0.85,
    ("400x400", Format.JPEG): 0.90,
    ("800x600", Format.JPEG): 0.85,
    ("2000x2000", Format.JPEG): 0.90,
    ("800x600", Format.WEBP): 0.80,
    ("800x600", Format.AVIF): 0.90,
    ("800x600", Format.PNG): 1.0,
    ("2000x2000", Format.AVIF): 0.75,
    ("400x400", Format.AVIF): 0.85,
}
"""The maximum ratio of our CPU to imgproxy's. The last two are a first visit: its lightbox, and its tiles."""
THUMBOR_TARGET = 0.6
FIRST = "galerly-cdn, first"
_FIRST_ALLOWANCE = 0.05
"""What the check for damage may add to a ratio."""
_OWN_TEMPLATE = "resize/{width}x{height}.{format}/{key}"
_CONCURRENCY = 2


def target(name: str, size: str, form: Format) -> float | None:
    """The maximum ratio of our CPU to a peer's, by its name up to a hyphen: `imgproxy-old` is an imgproxy."""
    match name.partition("-")[0]:
        case "imgproxy":
            return IMGPROXY_TARGETS[size, form]
        case "thumbor":
            return THUMBOR_TARGET
        case _:
            return None


class Candidate(NamedTuple):
    """A running server: its URLs, its process, and a function that deletes its renditions."""

    name: str
    template: str
    pid: int
    clear: Callable[[], None] = lambda: None

    def url(self, key: str, size: Size, form: Format, quality: int) -> str:
        """The address of one picture."""
        return self.template.format(
            key=quote(key),
            width=size.width_px,
            height=size.height_px,
            format=form.value,
            extension=form.extension,
            quality=quality,
        )


class Round(NamedTuple):
    """One round: CPU and wall time per picture, and the bodies of the responses."""

    cpu_ms: float
    wall_ms: float
    bodies: list[bytes]


def run(candidate: Candidate, urls: Sequence[str]) -> Round:
    """Request all pictures, two concurrently. Raises `RuntimeError` for a status other than 200."""
    candidate.clear()
    proc.settle(candidate.pid)
    before_s, started_s = proc.cpu_s(candidate.pid), time.perf_counter()
    paths = [url.partition(urlsplit(url).netloc)[2] for url in urls]
    answers = ask_all(candidate.template, paths, _CONCURRENCY)
    wall_s = time.perf_counter() - started_s
    proc.settle(candidate.pid)
    spent_s = proc.cpu_s(candidate.pid) - before_s
    ms_per_picture = 1000 / len(urls)
    return Round(spent_s * ms_per_picture, wall_s * ms_per_picture, [answer.body for answer in answers])


def compare(
    candidates: Sequence[Candidate], keys: Sequence[str], size: str, form: Format, rounds: int
) -> dict[str, list[Round]]:
    """The rounds of every candidate, for one size and format."""
    rule = next(rule for rule in Settings().size_rules if str(rule.size) == size)
    runners = {
        candidate.name: partial(
            run, candidate, [candidate.url(key, rule.size, form, rule.qualities[form]) for key in keys]
        )
        for candidate in candidates
    }
    interleave(runners, 1)  # the first round does not count
    return interleave(runners, rounds)


def table_rows(
    rounds_by_name: Mapping[str, Sequence[Round]],
    case: tuple[str, Format],
    report: Report,
    score: Callable[[Sequence[bytes]], str],
) -> list[list[str]]:
    """The table's rows for one size and format; the first candidate is this project."""
    ours, *_ = rounds_by_name.values()
    firsts = rounds_by_name.get(FIRST, ())
    shown_case = " ".join(case)
    rows = []
    for name, theirs in rounds_by_name.items():
        theirs_ms = [one.cpu_ms for one in theirs]
        ratio = spread(ratios([one.cpu_ms for one in ours], theirs_ms))
        shown, limit = ratio.show(), target(name, *case)
        verdict = report.at_most(f"CPU over {name}'s, {shown_case}", ratio.median, limit) if limit else ""
        if limit and firsts:
            first = spread(ratios([one.cpu_ms for one in firsts], theirs_ms))
            shown += f", first {first.show()}"
            verdict += ", " + report.at_most(
                f"CPU of first renders over {name}'s, {shown_case}", first.median, limit + _FIRST_ALLOWANCE
            )
        bodies = theirs[-1].bodies
        rows.append(
            [
                *(shown_case, name, spread(theirs_ms).show(1), "" if theirs is ours else shown, verdict),
                f"{1000 / statistics.median(one.wall_ms for one in theirs):.1f}",
                f"{statistics.fmean(map(len, bodies)) / 1000:.1f}",
                score(bodies),
            ]
        )
    return rows


@contextmanager
def first_renders(root: Path, keys: Sequence[str], scratch: Path) -> Iterator[Candidate]:
    """Our server over copies whose time of change is new in each round: it knows nothing of the originals."""
    copies, renditions = scratch / "copies", scratch / "renditions"
    shutil.copytree(root, copies)

    def clear() -> None:
        shutil.rmtree(renditions, ignore_errors=True)
        for key in keys:
            os.utime(copies / key)

    with galerly(copies, renditions, memory_cache_bytes=0) as server:
        yield Candidate(FIRST, server.address + _OWN_TEMPLATE, server.pid, clear)


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(
        prog="python -m benchmarks.server", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every server [5]")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=TEMPLATE")
    parser.add_argument("--peer-pid", action="append", default=[], type=int, metavar="PID")
    parser.add_argument("--first", action="store_true", help="also our first renders, which look for damage")
    parser.add_argument("--thumbor", action="store_true", help="install thumbor in a temporary folder")
    parser.add_argument("--quality", action="store_true", help="SSIMULACRA2 (pip install ssimulacra2); slow")
    options = parser.parse_args()
    if len(options.peer) != len(options.peer_pid):
        parser.error("each --peer needs its --peer-pid")
    root = photographs.folder(options.photographs)
    keys = photographs.keys(root)
    report = Report(f"A whole server per miss, {len(keys)} photographs, {options.rounds} rounds")
    with TemporaryDirectory() as scratch, ExitStack() as servers:
        renditions = Path(scratch, "renditions")
        ours = servers.enter_context(galerly(root, renditions, memory_cache_bytes=0))
        template = ours.address + _OWN_TEMPLATE
        candidates = [Candidate("galerly-cdn", template, ours.pid, lambda: shutil.rmtree(renditions))]
        if options.first:
            candidates.append(servers.enter_context(first_renders(root, keys, Path(scratch, "first"))))
        for peer, pid in zip(options.peer, options.peer_pid, strict=True):
            name, _, address = peer.partition("=")
            candidates.append(Candidate(name, address, pid))
        if options.thumbor:
            started = servers.enter_context(thumbor.running(root, Path(scratch)))
            candidates.append(Candidate("thumbor", started.address + thumbor.TEMPLATE, started.pid))
        score = partial(quality.mean, root, keys) if options.quality else lambda _: ""
        rows = []
        for size, form in IMGPROXY_TARGETS:
            rounds_by_name = compare(candidates, keys, size, form, options.rounds)
            rows += table_rows(rounds_by_name, (size, form), report, score)
            print(f"{size} {form}: done", file=sys.stderr)
    header = ["", "", "CPU ms per picture", "ours over theirs", "target", "pictures/s", "kB", "SSIMULACRA2"]
    report.table(header, rows)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
