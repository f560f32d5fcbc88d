"""Drawing operations for the sample pictures.

Colours are linear light in three float bands; 1.0 is paper white, and light sources can exceed it. Masks,
heights and noise have one float band. Lengths are in picture heights: `y` is 0 (top) to 1, `x` is 0 to
`aspect`. The same seed gives the same picture.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import pi

from pyvips import Image, Interpolate

Stops = Sequence[tuple[float, str]]

_LEVELS = 4096
_GAMMA = 2.2
_FINEST_PX = 2
_ENLARGE_PX = 6
_BLUR_PX = 2.5
_SHARP_PX = 0.3


@dataclass(frozen=True)
class Canvas:
    """A drawing area of `width` × `height` pixels, and the seed of its random numbers."""

    width: int
    height: int
    seed: int

    @property
    def aspect(self) -> float:
        """Width in picture heights."""
        return self.width / self.height

    @cached_property
    def x(self) -> Image:
        """Distance from the left edge, in picture heights."""
        return fix(Image.xyz(self.width, self.height)[0] / self.height)

    @cached_property
    def y(self) -> Image:
        """Distance from the top edge, 0 to 1."""
        return fix(Image.xyz(self.width, self.height)[1] / self.height)

    def distance(self, x: float, y: float, squash: float = 1.0) -> Image:
        """Distance from a point, in picture heights; `squash` > 1 flattens the circles."""
        return fix(((self.x - x) ** 2 + ((self.y - y) * squash) ** 2) ** 0.5)

    def noise(self, cell: float, octaves: int = 5, salt: int = 0, stretch: float = 1.0) -> Image:
        """Fractal noise, mostly between -1 and 1. `stretch` > 1 stretches it horizontally, < 1 vertically."""
        wide, tall = (max(stretch, 1.0), max(1 / stretch, 1.0))
        width, height = round(self.width / wide) + 2, round(self.height / tall) + 2
        field = fractal(width, height, cell * self.height / max(wide, tall), octaves, self.seed + salt)
        if stretch == 1.0:
            return fix(field.crop(0, 0, self.width, self.height))
        grown = field.resize((self.width + 2) / width, vscale=(self.height + 2) / height, kernel="cubic")
        return fix(grown.crop(0, 0, self.width, self.height))

    def skyline(self, cell: float, octaves: int = 6, salt: int = 0) -> Image:
        """Noise that varies only with x, for the outline of hills."""
        row = Image.black(self.width, 1)
        for octave in range(octaves):
            side = max(2, round(cell * self.height / 2**octave))
            line = Image.perlin(self.width, side, cell_size=side, seed=(self.seed + salt) * 31 + octave)
            row = row + line.crop(0, side // 2, self.width, 1) * (1.3 / 2**octave)
        return fix(fix(row).replicate(1, self.height))

    def below(self, edge: Image, soft: float = 0.0) -> Image:
        """The mask of the area below the outline `edge`. Its border is `soft` wide, and at least a pixel."""
        return ((self.y - edge) / max(soft, 1.5 / self.height) + 0.5).clamp()

    def drawing(self, body: str) -> tuple[Image, Image]:
        """Render SVG elements, in picture-height units; returns colours and mask."""
        box = f'viewBox="0 0 {self.aspect:.5f} 1" width="{self.width}" height="{self.height}"'
        stretch = 'preserveAspectRatio="none"'
        namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        svg = Image.svgload_buffer(
            f"<svg {namespaces} {box} {stretch}>{body}</svg>".encode(), unlimited=True
        ).copy_memory()
        return fix(decoded(svg.extract_band(0, n=3))), fix(svg[3] / 255)

    def blur(self, image: Image, radius: float) -> Image:
        """Blur by `radius` picture heights."""
        return fix(_blurred(fix(image), radius * self.height))


def _blurred(image: Image, sigma: float) -> Image:
    """Blur by `sigma` pixels. A wide blur works on a smaller image, and smooths the enlarged result."""
    if sigma < _BLUR_PX:
        return image.gaussblur(sigma, precision="float", min_ampl=0.05) if sigma > _SHARP_PX else image
    small = _blurred(image.shrink(2, 2, ceil=True).copy_memory(), (sigma**2 - 1) ** 0.5 / 2)
    grown = small.resize(image.width / small.width, vscale=image.height / small.height, kernel="linear")
    return grown.gaussblur(1, precision="float", min_ampl=0.1).copy_memory()


def fix(image: Image) -> Image:
    """Compute the image as float and keep it in memory, because libvips recomputes shared images."""
    return image.cast("float").copy_memory()


def fractal(width: int, height: int, cell_px: float, octaves: int, seed: int) -> Image:
    """Sum octaves of Perlin noise, each of half the size and strength. Coarse octaves are computed small."""
    last = octaves - 1
    while last > 0 and cell_px / 2**last < _FINEST_PX:
        last -= 1
    return fix(_octaves(width, height, cell_px / 2**last, last, seed * 31))


def _octaves(width: int, height: int, cell_px: float, octave: int, seed: int) -> Image:
    fine = Image.perlin(width, height, cell_size=max(2, round(cell_px)), seed=seed + octave)
    fine = fine * (1.3 * 0.5**octave)
    if octave == 0:
        return fine
    if cell_px < _ENLARGE_PX:
        return fine + _octaves(width, height, cell_px * 2, octave - 1, seed)
    coarse = _octaves(width // 2 + 2, height // 2 + 2, cell_px, octave - 1, seed).copy_memory()
    return fine + coarse.resize(2, kernel="linear").crop(0, 0, width, height)


def clip(image: Image, low: float = 0.0, high: float = 1e9) -> Image:
    """Keep values between `low` and `high` (pyvips' stubs misname the options of `clamp`)."""
    bounds = {"min": low, "max": high}
    return image.clamp(**bounds)


def points(text: str) -> list[tuple[float, float]]:
    """Parse an outline in the form `x,y x,y ...`."""
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def decoded(image: Image) -> Image:
    """Convert 8-bit colours to linear light."""
    return (image / 255) ** _GAMMA


def paint(colour: str) -> list[float]:
    """Convert a colour in the form `#rrggbb` to linear light."""
    return [(int(colour[i : i + 2], 16) / 255) ** _GAMMA for i in (1, 3, 5)]


def ramp(position: Image, stops: Stops) -> Image:
    """The colour gradient at `position` (0 to 1), interpolated between the stops."""
    table = array("f")
    places = [place for place, _ in stops]
    colours = [paint(colour) for _, colour in stops]
    for level in range(_LEVELS):
        at = min(max(level / (_LEVELS - 1), places[0]), places[-1])
        right = next(i for i in range(1, len(places)) if at <= places[i])
        share = (at - places[right - 1]) / (places[right] - places[right - 1])
        table.extend(a + (b - a) * share for a, b in zip(colours[right - 1], colours[right], strict=True))
    lut = Image.new_from_memory(table.tobytes(), _LEVELS, 1, 3, "float")
    return fix((position.clamp() * (_LEVELS - 1) + 0.5).cast("ushort").maplut(lut))


def step(low: float, high: float, value: Image) -> Image:
    """A smooth step: 0 at `low`, 1 at `high`."""
    t = fix(((value - low) / (high - low)).clamp())
    return t * t * (3 - t * 2)


def mix(base: Image, top: Image | Sequence[float], mask: Image) -> Image:
    """Composite `top` over `base` with `mask` as alpha."""
    if isinstance(top, Image):
        return fix(base + (top - base) * mask)
    return fix(base * (1 - mask) + mask * list(top))


def glow(distance: Image, reach: float) -> Image:
    """Light that decreases with `distance`, by a factor of e per `reach`."""
    return (distance * (-1 / reach)).exp()


def wave(phase: Image) -> Image:
    """The sine of `phase`, in radians (libvips counts in degrees)."""
    return (phase * (180 / pi)).sin()


def relief(height: Image, depth: float) -> tuple[Image, Image, Image]:
    """The normals of a height field: x to the right, y down, z to the viewer. `depth` scales the heights."""
    right = height.conv(Image.new_from_array([[-1, 0, 1]], scale=2), precision="float") * -depth
    down = height.conv(Image.new_from_array([[-1], [0], [1]], scale=2), precision="float") * -depth
    length = fix((right * right + down * down + 1) ** 0.5)
    return fix(right / length), fix(down / length), fix(1 / length)


def lit(normals: tuple[Image, Image, Image], light: tuple[float, float, float]) -> Image:
    """The signed cosine between surface normals and a light direction."""
    length = sum(part * part for part in light) ** 0.5
    x, y, z = (normal * (part / length) for normal, part in zip(normals, light, strict=True))
    return fix(x + y + z)


def project(plane: Image, u: Image, v: Image) -> Image:
    """Sample a plane at the pixel coordinates `u`, `v`."""
    return fix(plane.mapim(u.bandjoin(v), interpolate=Interpolate.new("bicubic"), extend="mirror"))
