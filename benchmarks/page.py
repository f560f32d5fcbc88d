"""Measures the bytes of a gallery page in Chromium, divided by those of pictures that fit their tiles.

Three galleries of 26 photographs are cut from yours, so that their aspect ratios are those of a wedding, of
travels and of portraits. Each is opened on nine screens: 390, 820 and 1440 px wide, with 1, 2 and 3 device
pixels a pixel. A fitting picture is as wide as its tile in device pixels, and rendered by the same pipeline.
"""

from __future__ import annotations

import statistics
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import pyvips

from benchmarks import photographs
from benchmarks.report import Report
from benchmarks.servers import Client, galerly
from galerly_cdn.model import Format, Job, Picture, Size, Target
from galerly_cdn.render import pipeline
from galerly_cdn.settings.sizes import parse_sizes
from galerly_cdn.settings.table import Settings
from tests.support import chromium

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.servers import Running

MAX_MEDIAN, MAX_WORST = 1.25, 1.6
SCREENS = ((390, 844), (820, 1180), (1440, 900))
RATIOS = (1, 2, 3)
_TABLET_PX = 820
"""Screens up to this width are those of touch devices."""
GALLERIES: dict[str, tuple[tuple[float, int], ...]] = {
    "wedding": ((3 / 2, 15), (2 / 3, 9), (4 / 5, 2)),
    "travel": ((4 / 3, 10), (3 / 4, 6), (16 / 9, 4), (9 / 16, 2), (2.4, 2), (3.0, 2)),
    "portraits": ((2 / 3, 12), (4 / 5, 5), (1.0, 3), (3 / 4, 3), (3 / 2, 3)),
}
"""The aspect ratios of a gallery (width ÷ height), and how many photographs have each."""
_STEP = 7
"""Photographs of one aspect ratio are this many places apart; 26 and 7 have no common divisor."""
_TIMEOUT_S = 600
_PATIENT = {"queue_wait_s": _TIMEOUT_S, "render_deadline_s": _TIMEOUT_S, "misses_per_minute": 0}
"""Settings of the server: on a busy machine, a refused render would be missing on the page."""
_HEADERS = {"Accept": "image/avif,image/webp,*/*"}
_READ_TILE = """
const image = document.querySelectorAll("main img")[given[0]];
image.scrollIntoView();
while (!(image.complete && image.naturalWidth)) {
  if (!image.isConnected) throw new Error(`${image.currentSrc} failed`);
  await image.decode().catch(() => {}); // fails also where the browser changes its choice
}
const width = image.getBoundingClientRect().width;
return [image.closest("a").dataset.key, width, new URL(image.currentSrc).pathname];
"""


class Tile(NamedTuple):
    """A photograph on the page: its width in device pixels, and the path that Chromium has chosen."""

    key: str
    width_px: float
    path: str


class Page(NamedTuple):
    """A page on one screen: bytes of its pictures and of exact ones, and the share of unfilled tiles."""

    shown_bytes: int
    exact_bytes: int
    short: float

    @property
    def ratio(self) -> float:
        return self.shown_bytes / self.exact_bytes


def aspects(gallery: str) -> list[float]:
    """The aspect ratio of each photograph of a gallery, mixed."""
    listed = [aspect for aspect, count in GALLERIES[gallery] for _ in range(count)]
    return [listed[number * _STEP % len(listed)] for number in range(len(listed))]


def cut(source: Path, target: Path, aspect: float) -> None:
    """Write the middle of a photograph with another aspect ratio, as a baseline JPEG."""
    image = pyvips.Image.new_from_file(str(source)).autorot()
    width_px = min(image.width, round(image.height * aspect))
    height_px = min(image.height, round(image.width / aspect))
    left_px, top_px = (image.width - width_px) // 2, (image.height - height_px) // 2
    target.write_bytes(image.crop(left_px, top_px, width_px, height_px).jpegsave_buffer(Q=92))


def tiles(browser: chromium.Browser, address: str, screen: tuple[int, int], ratio: int) -> list[Tile]:
    """The photographs of the page on a screen."""
    browser.open("about:blank")  # Chromium keeps a larger candidate that the page before has loaded
    browser.command("Network.clearBrowserCache")
    touch = {"mobile": True} if screen[0] <= _TABLET_PX else {}
    browser.set_screen(*screen, ratio, **touch)
    browser.open(address)
    count = browser.run("return document.querySelectorAll('main img').length")
    read = (browser.run(_READ_TILE, number) for number in range(count))
    return [Tile(key, width * ratio, path) for key, width, path in read]


def exact_bytes(original: bytes, widths_px: Iterable[int], settings: Settings) -> dict[int, int]:
    """The bytes of a photograph as AVIF by width, with the quality of the next larger size."""
    image = pyvips.Image.new_from_buffer(original, "")
    rules = sorted(settings.size_rules, key=lambda rule: rule.size.width_px)
    plans = {}
    for width_px in widths_px:
        shown_px = min(width_px, image.width)
        box = Size(shown_px, max(1, round(image.height * shown_px / image.width)))
        rule = next(
            (one for one in rules if one.size.width_px >= max(box.width_px, box.height_px)), rules[-1]
        )
        plans[width_px] = Picture(Target(box, Format.AVIF), rule.qualities)
    unique = {str(one.target): one for one in plans.values()}
    made = {
        str(rendered.target): rendered.length_bytes
        for rendered, _ in pipeline.pictures(original, Job(tuple(unique.values()), settings.limits))
    }
    return {width_px: made[str(one.target)] for width_px, one in plans.items()}


def measure(
    root: Path, server: Running, browser: chromium.Browser, settings: Settings
) -> dict[tuple[int, int], Page]:
    """The page of one gallery by screen width and ratio."""
    shown = {
        (screen[0], ratio): tiles(browser, server.address, screen, ratio)
        for screen in SCREENS
        for ratio in RATIOS
    }
    every = [tile for page in shown.values() for tile in page]
    exact = {
        key: exact_bytes(
            (root / key).read_bytes(), {round(one.width_px) for one in every if one.key == key}, settings
        )
        for key in {tile.key for tile in every}
    }
    client = Client(server.address)
    lengths = {path: len(client.get(path, _HEADERS).body) for path in {tile.path for tile in every}}
    client.close()
    return {name: _page(root, page, lengths, exact) for name, page in shown.items()}


def _page(
    root: Path, shown: Sequence[Tile], lengths: Mapping[str, int], exact: Mapping[str, Mapping[int, int]]
) -> Page:
    short = 0
    for tile in shown:
        original = pyvips.Image.new_from_file(str(root / tile.key))
        (rule,) = parse_sizes([unquote(tile.path.split("/")[2])])
        short += rule.size.fit(original.width, original.height)[0] < min(tile.width_px, original.width) - 1
    return Page(
        sum(lengths[tile.path] for tile in shown),
        sum(exact[tile.key][round(tile.width_px)] for tile in shown),
        short / len(shown),
    )


def report_pages(found: Mapping[str, Mapping[tuple[int, int], Page]], report: Report) -> int:
    """Print a row for each screen; returns the exit code."""
    rows = []
    for screen in next(iter(found.values())):
        pages = [by_screen[screen] for by_screen in found.values()]
        cells = [cell for one in pages for cell in (f"{one.shown_bytes / 1e6:.2f}", f"{one.ratio:.2f}")]
        short = max(one.short for one in pages)
        rows.append([f"{screen[0]} px, {screen[1]}×", *cells, f"{short:.0%}"])
    header = ["screen", *(cell for name in found for cell in (f"{name}, MB", "over exact"))]
    report.table([*header, "tiles with fewer pixels, at most"], rows)
    ratios = [one.ratio for by_screen in found.values() for one in by_screen.values()]
    median, worst = statistics.median(ratios), max(ratios)
    report.table(
        ["over exact", "", "target"],
        [
            ["median", f"{median:.2f}", report.at_most("median over exact", median, MAX_MEDIAN)],
            ["worst", f"{worst:.2f}", report.at_most("worst over exact", worst, MAX_WORST)],
        ],
    )
    return report.end()


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(
        prog="python -m benchmarks.page", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    photographs.add_option(parser)
    parser.add_argument("--sizes", metavar="LINES", help="another allow-list, its lines separated by `;`")
    options = parser.parse_args()
    source = photographs.folder(options.photographs)
    keys = photographs.keys(source)
    lines = options.sizes.split(";") if options.sizes else Settings().sizes
    settings = Settings(sizes=tuple(line.strip() for line in lines))
    report = Report(f"Bytes of a gallery page, {len(keys)} photographs")
    found = {}
    with TemporaryDirectory() as scratch, chromium.started(Path(scratch, "profile")) as driver:
        driver.set_script_timeout(_TIMEOUT_S)
        for gallery in GALLERIES:
            root = Path(scratch, gallery)
            root.mkdir()
            for number, aspect in enumerate(aspects(gallery)):
                cut(source / keys[number % len(keys)], root / f"{number:02}.jpg", aspect)
            renditions = Path(scratch, f"{gallery}-renditions")
            with galerly(root, renditions, sizes=";".join(settings.sizes), **_PATIENT) as server:
                found[gallery] = measure(root, server, chromium.Browser(driver), settings)
            print(f"{gallery}: done", file=sys.stderr)
    return report_pages(found, report)


if __name__ == "__main__":
    sys.exit(main())
