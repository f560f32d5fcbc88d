"""The coast samples: sky, water, hills, sand and stones."""

from math import cos, sin, tau
from random import Random

from pyvips import Image

from samples.canvas import (
    Canvas,
    clip,
    fix,
    fractal,
    glow,
    lit,
    mix,
    paint,
    project,
    ramp,
    relief,
    step,
    wave,
)

_WOODED = 0.55
_RIDGES = ("#c3ccd6", "#a5b7c9", "#87a0b9", "#6786a6", "#486b8d", "#2f5070", "#1d3750", "#0f2230")
_STONES = (
    *("#6d7276", "#8a8580", "#4a4f55", "#a39a8c", "#5b5149"),
    *("#7a6a5c", "#34393f", "#b5aea4", "#6b5a55", "#59646b"),
)


def evening_tide(canvas: Canvas) -> Image:
    """Paint a sunset over a calm sea, with clouds lit from below."""
    horizon, sun = 0.6, (0.62 * canvas.aspect, 0.53)
    reach = canvas.distance(*sun)
    sky = _evening_sky(canvas, horizon, reach)
    sea = _evening_sea(canvas, horizon, sun[0])
    scene = mix(sky, sea, step(horizon - 0.0012, horizon + 0.0012, canvas.y))
    for share, rise, colour in ((0.16, 0.085, "#8d6a74"), (0.02, 0.14, "#4b4258")):
        slope = (canvas.x / canvas.aspect - 0.36 - share) * (rise * 2.2)
        edge = horizon + slope - canvas.skyline(0.16, 7, salt=int(rise * 1000)) * 0.028
        land = canvas.below(edge) * step(horizon + 0.0015, horizon, canvas.y)
        scene = mix(scene, paint(colour), land)
    return fix(scene + glow(reach, 0.11) * [0.38, 0.17, 0.05])


def _evening_sky(canvas: Canvas, horizon: float, reach: Image) -> Image:
    stops = ((0, "#22335c"), (0.35, "#4f6390"), (0.6, "#a78fa6"), (0.8, "#eeb08c"), (1, "#ffd08a"))
    sky = ramp(canvas.y / horizon + glow(reach, 0.5) * 0.12, stops)
    depth = fix(0.5 / clip(horizon - canvas.y + 0.13, 0.13))
    unit = canvas.height * 0.4
    plane = _plane(canvas, unit, 8, 0)
    u, v = (canvas.x - canvas.aspect / 2) * depth * (unit * 1.23) + plane.width / 2, depth * unit
    here, nearer = project(plane, u, v), project(plane, u, v + unit * 0.041)
    cover = step(-0.02, 0.62, here + canvas.noise(0.09, 6, 7, stretch=3) * 0.13) * step(
        1.0, 0.75, canvas.y / horizon
    )
    warm = ramp(canvas.y / horizon, ((0, "#8f86a4"), (0.45, "#e39d92"), (0.8, "#ffb26b"), (1, "#ffd9a0")))
    shade = ramp(canvas.y / horizon, ((0, "#31395a"), (0.5, "#6a5f80"), (1, "#b98a86")))
    rim = fix((0.55 + (here - nearer) * 2.4 + glow(reach, 0.3) * 0.5).clamp())
    sky = mix(sky, mix(shade, warm * 1.15, rim), cover * 0.92)
    sky = sky + ramp(glow(reach, 0.16), ((0, "#000000"), (1, "#ffb45c"))) * 1.1
    return mix(sky, [2.6, 2.2, 1.5], step(0.032, 0.029, reach))


def _plane(canvas: Canvas, cell_px: float, octaves: int, salt: int) -> Image:
    """A horizontal field of noise, from which clouds or waves are projected."""
    width, height = round(canvas.height * 2.8), round(canvas.height * 1.72)
    return fractal(width, height, cell_px, octaves, canvas.seed + salt)


def _evening_sea(canvas: Canvas, horizon: float, sun_x: float) -> Image:
    near = fix(clip(canvas.y - horizon))
    depth = fix(0.2 / (near + 0.012))
    unit = canvas.height * 0.26
    waves = _plane(canvas, unit * 0.21, 5, 5)
    swell = project(waves, (canvas.x - sun_x) * depth * (unit * 1.26) + waves.width / 2, depth * unit)
    chop = canvas.noise(0.012, 4, 9, stretch=5) * step(0.0, 0.25, near)
    tilt = fix(swell + chop * 0.5)
    stops = ((0, "#f2b58a"), (0.2, "#c08f92"), (0.5, "#5f6c8e"), (0.8, "#2c4263"), (1, "#1a2c48"))
    sea = ramp(near * 2.1 + tilt * (near * 0.9 + 0.06) * 0.9 + 0.02, stops) * 0.8
    path = ((canvas.x - sun_x) / (near * 0.32 + 0.035)) ** 2
    sparkle = step(0.05, 0.75, tilt + 0.12) * (path * -0.7).exp()
    return fix(sea + ramp(sparkle, ((0, "#000000"), (0.5, "#c87a3c"), (1, "#ffdf9a"))) * 1.5)


def blue_ridges(canvas: Canvas) -> Image:
    """Paint mountain ridges in morning haze."""
    sun = (0.3 * canvas.aspect, 0.27)
    reach = canvas.distance(*sun)
    dawn = ((0, "#7fa3c9"), (0.22, "#c4d2dd"), (0.42, "#fbe6cf"), (1, "#fff0dc"))
    scene = ramp(canvas.y + canvas.noise(0.3, 6, 40, stretch=6) * 0.035, dawn)
    scene = fix(scene + ramp(glow(reach, 0.14), ((0, "#000000"), (1, "#fff0c8"))) * 0.9)
    drift, rock, spruces = (
        canvas.noise(0.25, 5, 80, stretch=3),
        canvas.noise(0.02, 5, 120),
        (paint("#d8dde2"), paint("#9db4c6")),
    )
    sunny = ramp(glow(reach, 0.3), ((0, "#000000"), (1, "#ffd9a8"))) * 0.5
    for index, colour in enumerate(_RIDGES):
        share = index / (len(_RIDGES) - 1)
        middle = 0.36 + 0.5 * share**1.15
        edge = middle - canvas.skyline(0.42 - 0.16 * share, 8, salt=index * 7) * (0.085 + 0.05 * share)
        if share > _WOODED:
            edge = edge - canvas.skyline(0.011 + 0.006 * share, 2, salt=50 + index).abs() * 0.035 * share
        mist = step(-0.03, 0.15, canvas.y - middle + drift * 0.06) * (0.8 - 0.6 * share)
        body = (1 - mist) * (rock * (0.16 * share) + 1) * paint(colour) + mist * spruces[share > _WOODED]
        scene = mix(scene, body + sunny * (1 - share), canvas.below(edge))
    return scene


def dunes_at_dusk(canvas: Canvas) -> Image:
    """Paint dunes at dusk, in reds outside the sRGB gamut."""
    air = canvas.y * 2.3 + canvas.noise(0.25, 5, 70, stretch=5) * 0.05
    scene = ramp(air, ((0, "#27408a"), (0.35, "#7466ac"), (0.7, "#ee8a84"), (1, "#ffc68a")))
    sand = (canvas.noise(0.12, 3, 230) * 2.5, canvas.noise(0.004, 2, 240) * 0.10 + 1)
    for index in range(5):
        share = index / 4
        edge = fix(
            0.41
            + 0.33 * share**1.2
            - canvas.skyline(0.95 - 0.2 * share, 2, salt=index * 11 + 1) * (0.045 + 0.10 * share)
        )
        scene = mix(scene, _dune(canvas, edge, sand, index), canvas.below(edge))
        haze = step(0.16, 0.0, canvas.y - edge) * canvas.below(edge) * (0.3 * (1 - share))
        scene = mix(scene, paint("#ff9c80"), haze)
    return scene


def _dune(canvas: Canvas, edge: Image, sand: tuple[Image, Image], index: int) -> Image:
    """One dune: its lee side is in shadow behind a winding crest."""
    share = index / 4
    under = fix((canvas.y - edge).clamp())
    slope = edge.conv(Image.new_from_array([[-1, 0, 1]], scale=2), precision="float") * canvas.height
    wind = canvas.noise(0.6, 3, 220 + index)
    sway = under * (1.5 - 0.3 * share) + wave(under * (14 - 5 * share)) * 0.045 + wind * under * 0.5
    facing = project(
        canvas.blur(slope, 0.012), (canvas.x - sway) * canvas.height, canvas.y * 0 + canvas.height / 2
    )
    bright = step(-0.05, 0.07 + 0.12 * share, facing + wind * 0.02)
    bright = fix(bright * (0.82 - under * 0.5) + step(0.1, 0.55, under) * 0.22 + wind * 0.05)
    lines = wave(under / (under + 0.3) * (330 + 120 * share) + wind * 11 + sand[0] + canvas.x * 9)
    ripple = fix(lines * 0.075 * step(0.01, 0.2, under) * (0.2 + share))
    colour = ramp(
        bright + ripple * (0.35 + bright),
        ((0, "#431427"), (0.3, "#8a2c26"), (0.62, "#f4640a"), (1, "#ffa938")),
    )
    return fix(colour * sand[1] * (0.85 + 0.2 * share))


def wet_stones(canvas: Canvas) -> Image:
    """Paint wet pebbles."""
    random = Random(canvas.seed)
    stones, swells = [], []
    for _ in range(1500):
        big = random.random() ** 2.6
        across = 0.02 + 0.075 * big
        x, y, turn = (
            random.uniform(-0.05, canvas.aspect + 0.05),
            random.uniform(-0.05, 1.05),
            random.uniform(0, 180),
        )
        size = f"{across:.4f} {across * random.uniform(0.62, 0.95):.4f}"
        place = (
            f'd="{_pebble(random)}" transform="translate({x:.4f} {y:.4f}) rotate({turn:.0f}) scale({size})"'
        )
        stones.append(f'<path {place} fill="{random.choice(_STONES)}"/>')
        swells.append(f'<path {place} fill="url(#dome)" stroke="#000" stroke-width="0.1"/>')
    heights = ((k / 12, round(255 * (1 - (k / 12) ** 2.6) ** 0.55)) for k in range(13))
    stops = "".join(f'<stop offset="{at:.3f}" stop-color="rgb({v},{v},{v})"/>' for at, v in heights)
    dome = f'<radialGradient id="dome" cx="0.5" cy="0.5" r="0.55">{stops}</radialGradient>'
    colour, _mask = canvas.drawing("".join(stones))
    swell, _mask = canvas.drawing(f"<defs>{dome}</defs>" + "".join(swells))
    return _shine(canvas, colour, fix(swell[0] ** (1 / 2.2)))


def _pebble(random: Random) -> str:
    """A closed, smooth outline around the origin, with a radius of about 1."""
    turns = 8
    radii = [random.uniform(0.84, 1.08) for _ in range(turns)]
    points = [(cos(i * tau / turns) * r, sin(i * tau / turns) * r) for i, r in enumerate(radii)]
    middle = [
        ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in zip(points, points[1:] + points[:1], strict=True)
    ]
    ends = zip(points[1:] + points[:1], middle[1:] + middle[:1], strict=True)
    curves = "".join(f"Q{p[0]:.3f} {p[1]:.3f} {m[0]:.3f} {m[1]:.3f}" for p, m in ends)
    return f"M{middle[0][0]:.3f} {middle[0][1]:.3f}{curves}Z"


def _shine(canvas: Canvas, colour: Image, swell: Image) -> Image:
    smooth = canvas.blur(swell, 0.003)
    height = smooth + canvas.noise(0.02, 5, 3) * 0.04
    normals = relief(height, canvas.height * 0.03)
    light = (-0.5, -0.75, 0.75)
    veins = 1 + canvas.noise(0.05, 7, 11) * 0.4
    hollow = step(0.05, 0.6, canvas.blur(swell, 0.004))
    body = colour * veins * (lit(normals, light).clamp() * 0.95 + 0.16) * (hollow * 0.9 + 0.1)
    gloss = lit(normals, (-0.3, -0.5, 1.0)).clamp() ** 40
    cool = lit(normals, (0.6, 0.4, 0.5)).clamp() ** 6
    return fix(body * [1.0, 1.0, 1.02] + gloss * hollow * 0.55 + cool * 0.05)
