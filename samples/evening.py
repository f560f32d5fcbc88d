"""The evening samples: folded satin, and lights in the rain."""

from random import Random

from pyvips import Image

from samples.canvas import Canvas, clip, fix, lit, mix, project, ramp, relief, step, wave

_LAMPS = (
    "#ffb347",
    "#ff9a3c",
    "#ffd9a0",
    "#ff4030",
    "#ff2a2a",
    "#9fd0ff",
    "#fff2dc",
    "#39c6b0",
    "#ffa04a",
    "#ff6ad0",
)
_DOME = "".join(
    f'<stop offset="{k / 10}" stop-color="rgb({v},{v},{v})"/>'
    for k, v in ((k, round(255 * (1 - (k / 10) ** 2.2) ** 0.6)) for k in range(11))
)


def red_satin(canvas: Canvas) -> Image:
    """Paint folded satin, in reds outside the sRGB gamut."""
    warp = canvas.noise(0.55, 3, 1)
    cross = canvas.noise(0.4, 3, 2)
    along = fix(canvas.x * 0.8 + canvas.y * 0.62 + warp * 0.2)
    folds = (
        wave(along * 15 + cross * 0.8) * 0.5
        + wave(along * 34 + warp * 5) * 0.12
        + cross * 0.25
        + canvas.noise(0.12, 3, 4) * 0.03
    )
    thread = canvas.noise(0.006, 2, 5, stretch=6) * 0.00012
    normals = relief(fix(folds * 0.1 + thread), canvas.height * 1.0)
    facing = lit(normals, (-0.45, -0.6, 0.66))
    sheen = facing.clamp() ** 7 * 0.7 + lit(normals, (0.5, 0.1, 0.86)).clamp() ** 12 * 0.2
    cloth = ramp(facing * 0.5 + 0.3, ((0, "#1d0006"), (0.35, "#50000c"), (0.7, "#b80018"), (1, "#fa1420")))
    return fix(cloth + ramp(sheen, ((0, "#000000"), (0.6, "#c83038"), (1, "#ffb0a0"))) * 0.75)


def lights_in_the_rain(canvas: Canvas) -> Image:
    """Paint a street at night through a wet window."""
    random = Random(canvas.seed)
    street = _street(canvas, random)
    drops = "".join(_drop(canvas, random) for _ in range(900))
    swell, mask = canvas.drawing(f'<defs><radialGradient id="d">{_DOME}</radialGradient></defs>{drops}')
    height = canvas.blur(swell[0] ** (1 / 2.2) * mask, 0.0007)
    nx, ny, nz = relief(height, canvas.height * 0.009)
    u, v = (canvas.x + nx * 0.20) * canvas.height, (canvas.y + ny * 0.34) * canvas.height
    bent = project(canvas.blur(street, 0.004), u, v)
    shade = fix(clip(ny * 0.55 + 0.9, 0.25) * (nz * 0.5 + 0.55))
    glint = lit((nx, ny, nz), (-0.35, -0.6, 0.7)).clamp() ** 60
    dew = 1 + canvas.noise(0.006, 3, 8) * 0.10
    drop = (bent * 1.3 + canvas.blur(street, 0.05) * 0.35) * shade + glint * 0.35
    return mix(canvas.blur(street, 0.003) * dew, drop, canvas.blur(mask, 0.0005))


def _street(canvas: Canvas, random: Random) -> Image:
    scene = ramp(
        canvas.y + canvas.noise(0.4, 4, 1) * 0.08,
        ((0, "#0b1230"), (0.45, "#28294f"), (0.62, "#4d3549"), (0.75, "#1e1c30"), (1, "#0b0c18")),
    )
    ripple = fix((0.7 + canvas.noise(0.05, 4, 3, stretch=5) * 0.6) * step(0.58, 0.7, canvas.y))
    lights, puddles = Image.black(canvas.width, canvas.height), Image.black(canvas.width, canvas.height)
    for _ in range(4):
        lamps = [_lamp(canvas, random) for _ in range(26)]
        light, mask = canvas.drawing("".join(_bokeh(*lamp) for lamp in lamps))
        wet, film = canvas.drawing("".join(_puddle(*lamp) for lamp in lamps))
        lights, puddles = fix(lights + light * mask), fix(puddles + wet * film)
    return fix(
        scene
        + canvas.blur(lights, 0.0025) * 1.7
        + canvas.blur(lights, 0.05) * 0.8
        + canvas.blur(puddles, 0.016) * ripple
    )


def _lamp(canvas: Canvas, random: Random) -> tuple[float, float, float, str]:
    """Position, radius and colour of one light along a street that narrows with distance."""
    near = 1 - random.random() ** 0.7
    side = random.choice((-1, 1))
    x = (
        canvas.aspect * 0.53
        + side * near * canvas.aspect * random.uniform(0.12, 0.75)
        + random.uniform(-0.03, 0.03)
    )
    y = 0.6 - near * random.uniform(-0.2, 0.66)
    return x, y, 0.013 + 0.042 * near**1.2, random.choice(_LAMPS)


def _bokeh(x: float, y: float, r: float, tint: str) -> str:
    rim = f'stroke="{tint}" stroke-width="{r * 0.1:.4f}" stroke-opacity=".5"'
    return f'<circle cx="{x:.4f}" cy="{y:.4f}" r="{r:.4f}" fill="{tint}" fill-opacity=".5" {rim}/>'


def _puddle(x: float, y: float, r: float, tint: str) -> str:
    place = f'cx="{x:.4f}" cy="{1.28 - y * 0.9:.4f}"'
    return f'<ellipse {place} rx="{r * 0.9:.4f}" ry="{r * 3.4:.4f}" fill="{tint}" fill-opacity=".3"/>'


def _drop(canvas: Canvas, random: Random) -> str:
    r = 0.0016 + 0.019 * random.random() ** 5
    place = f"translate({random.uniform(0, canvas.aspect):.4f} {random.random():.4f})"
    turn = f"rotate({random.uniform(-12, 12):.0f})"
    tall = r * random.uniform(0.95, 1.4)
    return f'<ellipse rx="{r:.4f}" ry="{tall:.4f}" fill="url(#d)" transform="{place} {turn}"/>'
