"""The table of sample pictures, and the function that generates them."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from pyvips import Image

from samples import coast, evening, forest, portrait
from samples.canvas import Canvas
from samples.negative import Finish, develop, save

_WORKERS = 2
_CAMERA = {
    "exif-ifd0-Make": "Galerly",
    "exif-ifd0-Model": "Synthetic 12",
    "exif-ifd2-FNumber": "28/10",
    "exif-ifd2-FocalLength": "50/1",
}
_AUTHOR = {"exif-ifd0-Artist": "Galerly Samples", "exif-ifd0-Copyright": "(c) 2026 Galerly Samples, CC0 1.0"}
_BREST = {
    "exif-ifd3-GPSLatitudeRef": "N",
    "exif-ifd3-GPSLatitude": "48/1 23/1 2532/100",
    "exif-ifd3-GPSLongitudeRef": "W",
    "exif-ifd3-GPSLongitude": "4/1 29/1 2256/100",
}


@dataclass(frozen=True)
class Sample:
    """One picture. `name` is its key; `aspect` is width / height when upright.

    It is painted at `draft` times the final width and height, then enlarged before grain is added.
    """

    name: str
    painter: Callable[[Canvas], Image]
    aspect: float
    seed: int
    draft: float = 0.4
    finish: Finish = field(default_factory=Finish)

    def size(self, megapixels: float) -> tuple[int, int]:
        """Upright width and height in pixels, for at least `megapixels` million pixels."""
        height = (megapixels * 1e6 / self.aspect) ** 0.5
        return int(height * self.aspect) + 1, int(height) + 1

    def make(self, path: Path, megapixels: float) -> None:
        """Paint, develop and save the picture."""
        width, height = self.size(megapixels)
        canvas = Canvas(round(width * self.draft), round(height * self.draft), self.seed)
        save(develop(self.painter(canvas), width, height, self.finish), path, self.finish)


SAMPLES = (
    Sample(
        "coast/evening-tide.jpg",
        coast.evening_tide,
        3 / 2,
        7,
        0.34,
        finish=Finish(tags=_CAMERA | _AUTHOR | _BREST),
    ),
    Sample(
        "coast/blue-ridges.jpg", coast.blue_ridges, 3 / 2, 7, 0.34, finish=Finish(orientation=3, tags=_CAMERA)
    ),
    Sample(
        "coast/dunes-at-dusk.jpg",
        coast.dunes_at_dusk,
        3 / 2,
        7,
        0.34,
        finish=Finish(profile="p3", tags=_CAMERA),
    ),
    Sample("coast/wet-stones.jpg", coast.wet_stones, 4 / 3, 7, finish=Finish(tags=_CAMERA | _AUTHOR)),
    Sample(
        "forest/leaves-in-the-sun.jpg",
        forest.leaves_in_the_sun,
        3 / 4,
        7,
        finish=Finish(orientation=6, tags=_CAMERA),
    ),
    Sample(
        "forest/pines-in-mist.jpg",
        forest.pines_in_mist,
        3 / 4,
        7,
        0.34,
        finish=Finish(orientation=8, tags=_CAMERA),
    ),
    Sample("forest/maple-leaf.png", forest.maple_leaf, 1, 7, finish=Finish(grain=0.6)),
    Sample(
        "portraits/window-light.jpg",
        portrait.window_light,
        4 / 5,
        7,
        0.34,
        finish=Finish(orientation=6, tags=_CAMERA | _AUTHOR),
    ),
    Sample(
        "portraits/red-satin.jpg",
        evening.red_satin,
        3 / 4,
        7,
        0.34,
        finish=Finish(profile="p3", tags=_CAMERA),
    ),
    Sample(
        "portraits/lights-in-the-rain.jpg",
        evening.lights_in_the_rain,
        3 / 2,
        7,
        finish=Finish(progressive=True, tags=_CAMERA),
    ),
)


def make(out: Path, megapixels: float = 12.0, names: Sequence[str] | None = None) -> list[Path]:
    """Generate the samples in `names`, or all, in the folder `out`. Existing files are kept.

    Raises `KeyError` for an unknown name.
    """
    samples_by_name = {sample.name: sample for sample in SAMPLES}
    selected = [samples_by_name[name] for name in (samples_by_name if names is None else names)]
    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(lambda sample: _make_one(sample, out, megapixels), selected))


def _make_one(sample: Sample, out: Path, megapixels: float) -> Path:
    path = out / sample.name
    if path.exists():
        _print(f"{sample.name}: there already")
        return path
    started_s = perf_counter()
    sample.make(path, megapixels)
    width, height = sample.size(megapixels)
    duration_s, size_mb = perf_counter() - started_s, path.stat().st_size / 1e6
    _print(f"{sample.name}: {width}x{height}, {size_mb:.1f} MB, {duration_s:.1f} s")
    return path


def _print(line: str) -> None:
    sys.stderr.write(line + "\n")
