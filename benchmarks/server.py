"""CPU of a whole server per miss, against peers that serve the same folder; bytes and quality beside it.

Nothing anyone answers was rendered before: our renditions are deleted between rounds, the peers keep none.

    --peer 'imgproxy=http://127.0.0.1:8081/unsafe/rs:fit:{width}:{height}/q:{quality}/plain/local:///{key}@{extension}'

In a peer's template stand {key}, {width}, {height}, {format}, {extension} and {quality} (that of our
allow-list); each `--peer` has its `--peer-pid`, in the same order.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import ExitStack
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
    from collections.abc import Callable, Mapping, Sequence

AT_MOST = {"imgproxy": 1.0, "thumbor": 0.6}
"""Our CPU over theirs, by the peer's name up to a hyphen: `imgproxy-fast` is an imgproxy."""
CASES = (
    ("150x150", Format.JPEG),
    ("400x400", Format.JPEG),
    ("800x600", Format.JPEG),
    ("2000x2000", Format.JPEG),
    ("800x600", Format.WEBP),
    ("800x600", Format.AVIF),
)
_AT_ONCE = 2


class Contestant(NamedTuple):
    """A running server: its URLs, its process, and how to make it forget."""

    name: str
    template: str
    pid: int
    forget: Callable[[], None] = lambda: None

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


class Pass(NamedTuple):
    """What one round cost a server, per picture, and what it answered."""

    cpu_ms: float
    wall_ms: float
    bodies: list[bytes]


def run(contestant: Contestant, urls: Sequence[str]) -> Pass:
    """Ask for all, two at a time. Raises for any answer but 200."""
    contestant.forget()
    proc.settle(contestant.pid)
    before_s, began_s = proc.cpu_s(contestant.pid), time.perf_counter()
    paths = [url.partition(urlsplit(url).netloc)[2] for url in urls]
    answers = ask_all(contestant.template, paths, _AT_ONCE)
    wall_s = time.perf_counter() - began_s
    proc.settle(contestant.pid)
    spent_s = proc.cpu_s(contestant.pid) - before_s
    each = 1000 / len(urls)
    return Pass(spent_s * each, wall_s * each, [answer.body for answer in answers])


def compare(
    contestants: Sequence[Contestant], keys: Sequence[str], size: str, form: Format, rounds: int
) -> dict[str, list[Pass]]:
    """One size and format: every contestant's rounds."""
    rule = next(one for one in Settings().size_rules if str(one.size) == size)
    runners = {
        one.name: partial(run, one, [one.url(key, rule.size, form, rule.qualities[form]) for key in keys])
        for one in contestants
    }
    interleave(runners, 1)  # nobody's first time counts
    return interleave(runners, rounds)


def tell(
    passes: Mapping[str, Sequence[Pass]],
    case: str,
    report: Report,
    score: Callable[[Sequence[bytes]], str],
) -> list[list[str]]:
    """The table's rows of one case; the first contestant is ours."""
    ours, *_ = passes.values()
    rows = []
    for name, theirs in passes.items():
        ratio = spread(ratios([one.cpu_ms for one in ours], [one.cpu_ms for one in theirs]))
        limit = AT_MOST.get(name.partition("-")[0])
        verdict = report.at_most(f"CPU over {name}'s, {case}", ratio.median, limit) if limit else ""
        told = spread([one.cpu_ms for one in theirs]).show(1)
        per_s = 1000 / statistics.median(one.wall_ms for one in theirs)
        bodies = theirs[-1].bodies
        kilobytes = statistics.fmean(map(len, bodies)) / 1000
        shown = "" if theirs is ours else ratio.show()
        rows.append([case, name, told, shown, verdict, f"{per_s:.1f}", f"{kilobytes:.1f}", score(bodies)])
    return rows


def main() -> int:
    """The command line."""
    parser = ArgumentParser(
        prog="python -m benchmarks.server", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of everyone in turn [5]")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=TEMPLATE")
    parser.add_argument("--peer-pid", action="append", default=[], type=int, metavar="PID")
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
        template = ours.address + "resize/{width}x{height}.{format}/{key}"
        contestants = [Contestant("galerly-cdn", template, ours.pid, lambda: shutil.rmtree(renditions))]
        for peer, pid in zip(options.peer, options.peer_pid, strict=True):
            name, _, address = peer.partition("=")
            contestants.append(Contestant(name, address, pid))
        if options.thumbor:
            started = servers.enter_context(thumbor.running(root, Path(scratch)))
            contestants.append(Contestant("thumbor", started.address + thumbor.TEMPLATE, started.pid))
        score = partial(quality.mean, root, keys) if options.quality else lambda _: ""
        rows = []
        for size, form in CASES:
            passes = compare(contestants, keys, size, form, options.rounds)
            rows += tell(passes, f"{size} {form}", report, score)
            print(f"{size} {form}: done", file=sys.stderr)
    heads = ["", "", "CPU ms a picture", "ours over theirs", "target", "pictures/s", "kB", "SSIMULACRA2"]
    report.table(heads, rows)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
