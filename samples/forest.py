"""The forest samples: leaves against the light, pines in mist, and a cut-out leaf."""

from math import cos, sin, tau
from random import Random

from pyvips import Image

from samples.canvas import Canvas, clip, fix, glow, lit, mix, paint, points, ramp, relief, step, wave

_LEAF = "M0 0C.22-.3.72-.24 1 0C.72.24.22.3 0 0Z"
_GREENS = (
    ("#4f8a1f", "#86b834"),
    ("#6a9c26", "#a9cf48"),
    ("#3c7420", "#6fa136"),
    ("#8fae2a", "#d3dd5a"),
    ("#2f611f", "#558a33"),
)
_LEAF_HALF = "M0 0C.22-.3.72-.24 1 0Z"
_MAPLE = points(
    """
    0,-1 0.075,-0.76 0.21,-0.8 0.17,-0.42 0.33,-0.6 0.4,-0.5 0.62,-0.66 0.6,-0.46 0.8,-0.47 0.7,-0.3
    0.78,-0.2 0.55,-0.08 0.4,0.02 0.62,0.08 0.56,0.2 0.62,0.3 0.34,0.3 0.2,0.36 0.04,0.3
    """
)


def leaves_in_the_sun(canvas: Canvas) -> Image:
    """Paint beech leaves against the light, with increasing focus."""
    random = Random(canvas.seed)
    tone = canvas.y * 0.75 + canvas.noise(0.45, 3, 1) * 0.22
    scene = ramp(tone, ((0, "#e8efb0"), (0.25, "#a9c65c"), (0.6, "#4c7a2e"), (1, "#17331a")))
    discs = "".join(_disc(canvas, random) for _ in range(110))
    light, mask = canvas.drawing(discs)
    scene = fix(scene + canvas.blur(light * mask, 0.004) * 0.9)
    for blur, size, count, shade in ((0.03, 0.30, 16, 0.55), (0.011, 0.24, 14, 0.8), (0.0, 0.2, 11, 1.0)):
        colour, mask = canvas.drawing("".join(_branch(canvas, random, size, shade) for _ in range(count)))
        dapple = clip(canvas.noise(0.22, 4, int(size * 100)) * 0.75 + 0.95, 0.25, 2.2)
        tissue = 1 + canvas.noise(0.006, 3, 50 + int(size * 100)) * 0.16
        leaf = canvas.blur(colour * mask * dapple * tissue, blur)
        shadow = canvas.blur(mask, blur + 0.012)
        scene = fix(scene * (1 - shadow * 0.25) * (1 - canvas.blur(mask, blur)) + leaf)
    sun = canvas.distance(canvas.aspect * 0.25, -0.02)
    return fix(scene + ramp(glow(sun, 0.3), ((0, "#000000"), (1, "#fff2b8"))) * 0.9)


def _disc(canvas: Canvas, random: Random) -> str:
    tint = random.choice(("#f4ffc0", "#d9f08a", "#fffbe0", "#a6d35c"))
    x, y = random.uniform(0, canvas.aspect), random.random() ** 1.7
    r, opacity = random.uniform(0.012, 0.05), random.uniform(0.08, 0.55)
    return f'<circle cx="{x:.3f}" cy="{y:.3f}" r="{r:.3f}" fill="{tint}" opacity="{opacity:.2f}"/>'


def _branch(canvas: Canvas, random: Random, size: float, shade: float) -> str:
    """A twig with leaves on both sides that enters at an edge."""
    x = random.uniform(-0.1, canvas.aspect + 0.1)
    y = random.choice((-0.08, -0.02, 0.1, 0.72, 0.9, 1.02)) + random.uniform(-0.06, 0.06)
    turn = random.uniform(20, 160) if y < 0.5 else random.uniform(-150, -30)
    bark = _dim("#5b4a2c", shade)
    parts = [f'<path d="M0 0Q1.2-.15 2.6 0" fill="none" stroke="{bark}" stroke-width=".035"/>']
    for index in range(9):
        side = 1 if index % 2 else -1
        reach = random.uniform(0.6, 1.0) * (1.05 - index * 0.05)
        angle = side * random.uniform(28, 62) * (1 - index / 11)
        place = f"translate({index * 0.31:.2f} {-0.1 * sin(index * 0.38):.2f}) rotate({angle:.0f})"
        scale = f"scale({reach:.2f} {reach * random.uniform(0.55, 1):.2f})"
        parts.append(f'<g transform="{place} {scale}">{_leaf(random, shade)}</g>')
    place = f"translate({x:.3f} {y:.3f}) rotate({turn:.0f}) scale({size * random.uniform(0.55, 0.95):.3f})"
    return f'<g transform="{place}">{"".join(parts)}</g>'


def _leaf(random: Random, shade: float) -> str:
    base, light = random.choice(_GREENS)
    veins = ""
    for i in range(1, 8):
        for side in (-1, 1):
            bend, end = f"{i * 0.105 + 0.09:.2f} {side * 0.07:.2f}", side * 0.17 * (1 - abs(i - 3.5) / 7)
            veins += f'<path d="M{i * 0.105:.2f} 0Q{bend} {i * 0.105 + 0.16:.2f} {end:.2f}"/>'
    ink = f'fill="none" stroke="{_dim("#d5e58a", shade)}" stroke-width=".007" opacity=".6"'
    lines = f'<g {ink}>{veins}<path d="M-.06 0H.98" stroke-width=".016"/></g>'
    blade = (
        f'<path d="{_LEAF}" fill="{_dim(base, shade)}"/><path d="{_LEAF_HALF}" fill="{_dim(light, shade)}"/>'
    )
    return blade + lines


def _dim(colour: str, shade: float) -> str:
    return "#" + "".join(f"{round(int(colour[i : i + 2], 16) * shade):02x}" for i in (1, 3, 5))


def pines_in_mist(canvas: Canvas) -> Image:
    """Paint spruces in fog, with light shining through."""
    random = Random(canvas.seed)
    sun = (canvas.aspect * 0.62, 0.2)
    reach = canvas.distance(*sun)
    fog = ramp(canvas.y, ((0, "#c9cfc6"), (0.4, "#e3dcc4"), (0.75, "#b9c0b4"), (1, "#8d9c95")))
    scene = fix(fog + ramp(glow(reach, 0.22), ((0, "#000000"), (1, "#ffe9b0"))) * 0.8)
    layers = ("#aab5a8", "#8b9a8e", "#687d72", "#465d53", "#273d36", "#10211d")
    drift, bark = canvas.noise(0.2, 5, 60, stretch=3) * 0.12, canvas.noise(0.012, 4, 90, stretch=0.4) * 0.5
    sunny = ramp(glow(reach, 0.25), ((0, "#000000"), (1, "#ffdd9a"))) * 0.4
    for index, colour in enumerate(layers):
        share = index / (len(layers) - 1)
        floor = 0.72 + 0.33 * share
        places = _places(canvas, random, round(24 - 17 * share), clear=0.30 * share)
        _, mask = canvas.drawing("".join(_spruce(random, x, floor, 0.36 + share**1.4 * 0.62) for x in places))
        ground = canvas.below(
            floor
            - 0.015
            - canvas.skyline(0.3, 7, index * 5) * 0.02
            - canvas.skyline(0.02, 3, index * 5 + 1).abs() * 0.012
        )
        mask = canvas.blur(fix(mask.maxpair(ground)), 0.002 * (1 - share) + 0.0006)
        depth = step(floor - 0.42 + 0.15 * share, floor + 0.04, canvas.y + drift) * (0.95 - share * 0.7)
        body = (1 - depth) * (bark * share + 1) * paint(colour) + fog * (depth * 0.92)
        scene = mix(scene, body + sunny * (1 - share) ** 2, mask)
    return fix(scene + _shafts(canvas, sun, reach))


def _places(canvas: Canvas, random: Random, count: int, clear: float) -> list[float]:
    """The positions of trees, with a gap of width `clear` around the light."""
    spots = [
        (k + random.uniform(-0.35, 0.35)) / count * (canvas.aspect + 0.2) - 0.08 for k in range(count + 1)
    ]
    return [x for x in spots if abs(x - canvas.aspect * 0.62) > clear * 0.62]


def _spruce(random: Random, x: float, floor: float, tall: float) -> str:
    """One conifer: a tapering trunk and drooping branches."""
    tall *= random.uniform(0.75, 1.1)
    wide, top = tall * random.uniform(0.11, 0.15), floor - tall
    foot, girth = floor + 0.05, tall * 0.011
    parts = [f"M{x - girth:.4f} {foot:.4f}L{x:.4f} {top:.4f}L{x + girth:.4f} {foot:.4f}Z"]
    boughs = 62
    for bough in range(boughs):
        down = bough / boughs
        y = top + tall * (0.02 + down * 0.84)
        side = 1 if bough % 2 else -1
        reach = side * (wide * down**0.8 * random.uniform(0.55, 1.15) + tall * 0.006)
        droop = abs(reach) * random.uniform(0.1, 0.5)
        tip = f"{x + reach * 0.6:.4f} {y + droop * 0.3:.4f} {x + reach:.4f} {y + droop:.4f}"
        parts.append(f"M{x:.4f} {y - tall * 0.006:.4f}Q{tip}L{x:.4f} {y + tall * 0.012:.4f}Z")
        for twig in range(9):
            at = (twig + random.random()) / 9
            start, base = x + reach * at, y + droop * at * (0.4 + 0.6 * at)
            hang = tall * 0.030 * (1.15 - at) * random.uniform(0.5, 1.3)
            needles = f"l{reach * 0.10:.4f} {hang:.4f}l{reach * 0.04:.4f} {-hang * 0.4:.4f}"
            parts.append(f"M{start:.4f} {base:.4f}{needles}L{start + reach * 0.09:.4f} {base:.4f}Z")
    return f'<path d="{"".join(parts)}" fill="#000"/>'


def _shafts(canvas: Canvas, sun: tuple[float, float], reach: Image) -> Image:
    """Rays of the sun."""
    slope = fix((canvas.x - sun[0]) / clip(canvas.y - sun[1] + 0.35, 0.02))
    rays = fix(wave(slope * 37) * 0.5 + wave(slope * 83 + 1) * 0.3 + wave(slope * 17 + 2) * 0.6)
    beam = (
        step(0.1, 1.2, rays + canvas.noise(0.3, 3, 130) * 0.5)
        * glow(reach, 0.4)
        * step(-0.05, 0.25, canvas.y - sun[1])
    )
    return ramp(beam, ((0, "#000000"), (1, "#ffe6ae"))) * 0.55


def maple_leaf(canvas: Canvas) -> Image:
    """Paint a cut-out autumn leaf with a soft shadow: four bands, the last one coverage."""
    size = min(canvas.aspect, 1.0) * 0.5
    rim = [*_MAPLE, *((-x, y) for x, y in reversed(_MAPLE))]
    outline = "M" + "L".join(f"{x:.3f} {y + 0.02 * sin(x * 40):.3f}" for x, y in rim) + "Z"
    place = f'transform="translate({canvas.aspect / 2:.4f} .56) rotate(14) scale({size:.4f})"'
    round_red = 'fill="none" stroke="#8a3a22" stroke-linecap="round"'
    stem = f'<path d="M0 .28Q.03 .55-.09 .82" stroke-width=".032" {round_red}/>'
    body = f'<path d="{outline}" fill="#c9481c" stroke="#c9481c" stroke-width=".05" stroke-linejoin="round"/>'
    colour, mask = canvas.drawing(f"<g {place}>{stem}{body}</g>")
    _, veins = canvas.drawing(f'<g {place} fill="none" stroke="#fff" stroke-linecap="round">{_veins()}</g>')
    blade = ramp(
        canvas.distance(canvas.aspect / 2, 0.56) * 1.55 + canvas.noise(0.2, 6, 4) * 0.3,
        ((0, "#e9b23a"), (0.3, "#e0762a"), (0.6, "#c23a22"), (1, "#7c1b22")),
    )
    soft = canvas.blur(veins, 0.006)
    colour = mix(blade, paint("#f4cf6a"), soft * 0.55 + veins * 0.35)
    height = (
        canvas.blur(mask, 0.02) * 0.9
        - soft * 0.5
        + canvas.noise(0.03, 3, 8) * 0.035
        + canvas.noise(0.3, 2, 9) * 0.9
    )
    light = lit(relief(fix(height), canvas.height * 0.03), (-0.5, -0.7, 0.8))
    colour = fix(colour * (light.clamp() * 1.1 + 0.18) * (1 + canvas.noise(0.008, 3, 12) * 0.2))
    shadow = (
        canvas.blur(
            mask.embed(
                round(0.012 * canvas.height), round(0.022 * canvas.height), canvas.width, canvas.height
            ),
            0.014,
        )
        * 0.45
    )
    alpha = fix(mask + shadow * (1 - mask))
    return fix((colour * mask / clip(alpha, 0.001)).bandjoin(alpha))


def _veins() -> str:
    tips = (
        (0.0, -0.94),
        (0.56, -0.58),
        (-0.56, -0.58),
        (0.7, -0.22),
        (-0.7, -0.22),
        (0.54, 0.24),
        (-0.54, 0.24),
    )
    parts = []
    for x, y in tips:
        parts.append(f'<path d="M0 .28Q{x * 0.35:.3f} {y * 0.5:.3f} {x:.3f} {y:.3f}" stroke-width=".014"/>')
        for k in range(2, 7):
            t = k / 7.5
            px, py = (
                2 * (1 - t) * t * x * 0.35 + t * t * x,
                (1 - t) ** 2 * 0.28 + 2 * (1 - t) * t * y * 0.5 + t * t * y,
            )
            for side in (-1, 1):
                turn = side * tau / 9
                dx, dy = x * cos(turn) - (y - 0.28) * sin(turn), x * sin(turn) + (y - 0.28) * cos(turn)
                long = 0.17 * (1.1 - t)
                vein = f"M{px:.3f} {py:.3f}l{dx * long:.3f} {dy * long:.3f}"
                parts.append(f'<path d="{vein}" stroke-width=".006"/>')
    return "".join(parts)
