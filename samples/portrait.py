"""The portrait sample: a profile in window light."""

from collections.abc import Sequence

from pyvips import Image

from samples.canvas import Canvas, fix, glow, lit, mix, paint, points, ramp, relief, step, wave

_FACE = points(
    """
    0.4,0.165 0.485,0.195 0.535,0.25 0.556,0.31 0.562,0.342 0.553,0.372 0.572,0.408 0.597,0.447
    0.613,0.47 0.604,0.488 0.577,0.495 0.578,0.512 0.589,0.526 0.573,0.54 0.583,0.555 0.577,0.572
    0.562,0.583 0.571,0.606 0.567,0.632 0.543,0.65 0.5,0.655 0.452,0.668 0.436,0.72 0.442,0.79
    0.49,0.85 0.58,0.9 0.64,1.02 0.6,1.3 0.1,1.3 -0.02,1.02 0.06,0.91 0.19,0.85 0.262,0.78
    0.275,0.68 0.25,0.58 0.21,0.45 0.22,0.3 0.29,0.2
    """
)
_HAIR = points(
    """
    0.4,0.14 0.48,0.165 0.528,0.225 0.505,0.265 0.455,0.3 0.428,0.36 0.418,0.42 0.39,0.47 0.352,0.5
    0.335,0.555 0.3,0.6 0.262,0.625 0.225,0.59 0.195,0.53 0.165,0.45 0.165,0.34 0.2,0.24 0.29,0.165
    """
)
_DRESS = points(
    """
    0.64,0.935 0.55,0.915 0.45,0.93 0.32,0.925 0.2,0.885 0.12,0.875 0.04,0.9 -0.05,1.02 0,1.3
    0.7,1.3 0.69,1.02
    """
)


def window_light(canvas: Canvas) -> Image:
    """Paint a profile lit by one large, soft light."""
    room = ramp(
        canvas.x / canvas.aspect + canvas.noise(0.6, 3, 1) * 0.1 - canvas.y * 0.15,
        ((0, "#17130f"), (0.5, "#3a3028"), (1, "#8d7a66")),
    )
    pane = canvas.blur(step(0.70, 0.74, canvas.x) * step(0.86, 0.80, canvas.y), 0.05)
    scene = fix(room + ramp(pane, ((0, "#000000"), (1, "#e9e2d2"))) * 0.5)
    body = _mask(canvas, _FACE)
    skin = _skin(canvas, body)
    scene = mix(scene, skin, canvas.blur(body, 0.0008))
    scene = mix(scene, _cloth(canvas), canvas.blur(_mask(canvas, _DRESS) * body, 0.001))
    return _hair(canvas, scene)


def _spline(points: Sequence[tuple[float, float]]) -> str:
    """The SVG path of a closed, smooth curve through all points."""
    path, count = [f"M{points[0][0]:.4f} {points[0][1]:.4f}"], len(points)
    for index in range(count):
        a, b, c, d = (points[(index + k) % count] for k in (-1, 0, 1, 2))
        near = f"{b[0] + (c[0] - a[0]) / 6:.4f} {b[1] + (c[1] - a[1]) / 6:.4f}"
        far = f"{c[0] - (d[0] - b[0]) / 6:.4f} {c[1] - (d[1] - b[1]) / 6:.4f}"
        path.append(f"C{near} {far} {c[0]:.4f} {c[1]:.4f}")
    return "".join(path) + "Z"


def _drawn(canvas: Canvas, body: str) -> Image:
    """The mask of SVG elements, horizontally centred for any aspect."""
    return canvas.drawing(f'<g transform="translate({canvas.aspect / 2 - 0.39:.4f} 0)">{body}</g>')[1]


def _mask(canvas: Canvas, outline: Sequence[tuple[float, float]]) -> Image:
    return _drawn(canvas, f'<path d="{_spline(outline)}"/>')


def _strokes(canvas: Canvas, body: str, blur: float) -> Image:
    ink = 'fill="none" stroke="#fff" stroke-linecap="round"'
    return canvas.blur(_drawn(canvas, f"<g {ink}>{body}</g>"), blur)


def _skin(canvas: Canvas, body: Image) -> Image:
    """The skin: the mask inflated to a height field and lit from the right, with reddish shadows."""
    swell = (
        canvas.blur(body, 0.10) * 1.5
        + canvas.blur(body, 0.04) * 0.6
        + canvas.blur(body, 0.014) * 0.25
        + canvas.blur(body, 0.005) * 0.06
    )
    cheek = glow(canvas.distance(canvas.aspect / 2 + 0.095, 0.475) ** 2, 0.0028) * 0.10
    socket = glow(canvas.distance(canvas.aspect / 2 + 0.135, 0.385, 1.5) ** 2, 0.0005) * 0.07
    wing = glow(canvas.distance(canvas.aspect / 2 + 0.188, 0.482) ** 2, 0.00016) * 0.035
    jaw = _strokes(canvas, '<path d="M.53 .665Q.44 .66 .37 .56" stroke-width=".03"/>', 0.016) * 0.10
    pores = canvas.noise(0.004, 3, 21) * 0.0016 + canvas.noise(0.03, 4, 22) * 0.004
    normals = relief(fix(swell + cheek - socket + wing - jaw + pores), canvas.height * 0.11)
    key = lit(normals, (0.85, -0.3, 0.42))
    tone = fix(key * 0.62 + 0.27 + lit(normals, (-0.9, 0.1, 0.4)).clamp() * 0.08)
    skin = ramp(
        tone,
        (
            (0, "#1c0b07"),
            (0.18, "#4a2015"),
            (0.36, "#96563c"),
            (0.56, "#cf8f6c"),
            (0.8, "#f0c3a0"),
            (1, "#ffe6d0"),
        ),
    )
    blush = glow(canvas.distance(canvas.aspect / 2 + 0.10, 0.49) ** 2, 0.004) * 0.28
    skin = mix(skin, skin * [1.12, 0.72, 0.66], blush)
    lips = _strokes(
        canvas, '<path d="M.592 .526Q.575 .528 .553 .540Q.572 .560 .584 .556" stroke-width=".016"/>', 0.003
    )
    skin = mix(skin, skin * [0.95, 0.48, 0.46], lips * 0.8)
    parting = '<path d="M.580 .5405L.546 .543" stroke-width=".003"/>'
    nostril = '<path d="M.588 .489Q.578 .487 .574 .491" stroke-width=".004"/>'
    seam = _strokes(canvas, parting + nostril, 0.0015)
    skin = mix(skin, skin * 0.25, seam * 0.8)
    return fix(_eye(canvas, skin) + (lit(normals, (0.6, -0.35, 0.75)).clamp() ** 26 * 0.10))


def _eye(canvas: Canvas, skin: Image) -> Image:
    """Add a lowered eyelid, lashes and an eyebrow."""
    lash = '<path d="M.505 .402Q.525 .415 .545 .404" stroke-width=".0035"/>'
    for k in range(12):
        root = f"{0.516 + k * 0.0026:.4f} {0.408 - abs(k - 5) * 0.0006:.4f}"
        lash += f'<path d="M{root}q.005 .004 .011 {0.006 + k * 0.0002:.4f}" stroke-width=".0011"/>'
    brow = ""
    for k in range(14):
        root = f"{0.490 + k * 0.0042:.4f} {0.352 - 0.00012 * (k - 4) * (14 - k):.4f}"
        brow += f'<path d="M{root}l.012-.007" stroke-width=".0026"/>'
    lid = _strokes(canvas, '<path d="M.503 .388Q.525 .372 .548 .384" stroke-width=".004"/>', 0.003)
    skin = mix(skin, skin * [0.55, 0.42, 0.38], lid * 0.5)
    skin = mix(skin, paint("#2a1710"), _strokes(canvas, brow, 0.0012) * 0.75)
    return mix(skin, paint("#140a07"), _strokes(canvas, lash, 0.0009) * 0.85)


def _hair(canvas: Canvas, scene: Image) -> Image:
    """Add hair in a knot: strands from stretched noise, lit along the curve."""
    knot = '<ellipse cx=".175" cy=".52" rx=".085" ry=".078"/>'
    head = _drawn(canvas, f'<path d="{_spline(_HAIR)}"/>{knot}')
    centre = canvas.distance(canvas.aspect / 2 + 0.02, 0.47)
    strands = fix(wave(centre * 900 + canvas.noise(0.05, 3, 31) * 16) * 0.5 + canvas.noise(0.02, 2, 32) * 0.4)
    swell = (
        canvas.blur(head, 0.07) * 1.6
        + canvas.blur(head, 0.02) * 0.5
        + strands * 0.0012
        + wave(centre * 120 + canvas.noise(0.1, 3, 33) * 4) * 0.004
    )
    normals = relief(fix(swell), canvas.height * 0.10)
    tone = (
        lit(normals, (0.7, -0.55, 0.5)) * 0.45
        + lit(normals, (0.5, -0.8, 0.6)).clamp() ** 8 * 0.5
        + 0.14
        + strands * 0.06
    )
    hair = ramp(tone, ((0, "#090504"), (0.3, "#2b1710"), (0.6, "#6b3f26"), (1, "#c99263")))
    ragged = step(0.25, 0.75, canvas.blur(head, 0.006) + strands * 0.10)
    return mix(scene, hair, ragged)


def _cloth(canvas: Canvas) -> Image:
    folds = canvas.noise(0.22, 4, 41, stretch=0.6)
    weave = wave(canvas.x * 1500) * wave(canvas.y * 1500) * 0.0016
    normals = relief(fix(folds * 0.02 + weave * 0.25), canvas.height * 0.5)
    return ramp(
        lit(normals, (0.8, -0.4, 0.5)) * 0.8 + 0.1, ((0, "#0b1013"), (0.5, "#24343b"), (1, "#6f8790"))
    )
