"""Renders the pictures of one job from one original, in two phases that are tables of steps.

1. `ORIGINAL_STEPS` turn the decoded original into a *base*: upright 8-bit sRGB or grey pixels at the
   sides of one size. They run once for each decode.
2. `PICTURE_STEPS` turn a base into one picture, which is then encoded. They run for every picture.

A job decodes once and chains its sizes: the base of the largest size is made from the original, the
base of a smaller size is `scale_base` of a larger base. Only bases are chained, never pictures, so a
picture step (a watermark of 40 px) has the same effect in a job as in a render of one size. The
original is decoded again only for a size that is nearly as large as the base before it.

`decode` scales although that depends on the size: every later step then works on the pixels of the
largest size in place of all pixels of the original (2.6 times the CPU at 2000 px).

The module is pure: bytes in, bytes out; no file, clock, network or environment. libvips is lazy: the
steps build a graph, and one pass over the rows, from top to bottom, evaluates all of them. Damage deep
in the original is therefore found during that pass, which ends before the first picture is encoded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from galerly_cdn.model import Format, Job, Picture, Rendered
from galerly_cdn.render import (
    color,
    copyright_notice,
    decoders,
    encoders,
    header,
    icc,
    losses,
    recipe,
    refusals,
)
from galerly_cdn.render.damage import completeness, strict_jpeg
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.header import Header
from galerly_cdn.render.originals import png
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from galerly_cdn.render.decoders import Image

_WHITE = 255.0
_JPEG_SHRINKS = (8, 4, 2)
_MAX_LOST_SHARE = 1 / 500
"""Share of a side that shrink-on-load may drop: it moves the mean of a gradient by half a step."""
_MAX_PADDING_PX = 32
"""How many further pixels of the scaled side `padded_side_px` tries."""
_MIN_BASE_FACTOR = 1.2
"""How many times as large as a picture a base must be that it is made from."""
_MAX_LANCZOS_FACTOR = 8.0
_MAX_LANCZOS_FACTOR_OF_FLOATS = 5.0
"""The factors that are left for Lanczos after whole blocks; measured, see decision 0004."""


class PicturePlan(Value, frozen=True):
    """All decisions about one picture; `width_px` and `height_px` are the sides of the upright rendition."""

    header: Header
    picture: Picture
    keep_copyright: bool
    format: Format
    width_px: int
    height_px: int
    is_known_good: bool = False
    """Whether the original was decoded before and no damage was found: it need not be looked for again."""

    @property
    def sides_px(self) -> tuple[int, int]:
        """Width and height of the upright rendition."""
        return self.width_px, self.height_px

    @property
    def stored_px(self) -> tuple[int, int]:
        """Width and height of the rendition in the original's stored orientation."""
        return (self.height_px, self.width_px) if self.header.is_sideways else self.sides_px

    @property
    def margin(self) -> float:
        """The factor that shrink-on-load leaves for Lanczos: see `recipe.margin`."""
        return recipe.margin(self.picture.target.size, self.format)


class Base(NamedTuple):
    """The result of the first phase at the sides of one size: upright, 8 bits, sRGB or grey, unflattened."""

    sides_px: tuple[int, int]
    image: Image


def render(original: bytes, job: Job, known_header: Header | None = None) -> tuple[Rendered, bytes]:
    """Return the first of `pictures`: the only picture of a job for one. Raises as `pictures` does."""
    return next(pictures(original, job, known_header))


def pictures(
    original: bytes, job: Job, known_header: Header | None = None, *, is_known_good: bool = False
) -> Iterator[tuple[Rendered, bytes]]:
    """Yield the description and the bytes of each picture as it is made, the largest size first.

    `known_header` is the original's header if the caller has read it. `is_known_good` skips the check for
    damage, and does not change a picture. The first picture of a job has the same bytes as a job for that
    picture alone. Raises `UnsupportedFormat`, `Undecodable`, `TooManyPixels`, `TooManyFrames` or
    `TooMuchMemory`; pictures yielded before an error are valid.
    """
    known_header = known_header or header.read(original)
    plans = plan_pictures(known_header, job, is_known_good=is_known_good)
    original = header.picture_of(original, known_header)
    if not is_known_good:
        completeness.check_by_decoding(original, known_header.kind)
    bases: list[Base] = []
    for plan in plans:
        try:
            if not bases or bases[-1].sides_px != plan.sides_px:
                image = make_base(original, plan, bases)
                # A sequential decoder runs only once: a base that is read twice must be in memory.
                bases.append(Base(plan.sides_px, image.copy_memory() if len(plans) > 1 else image))
            body = encode(_run(PICTURE_STEPS, bases[-1].image, plan), plan)
        except decoders.Error as error:
            raise decoders.refusal(error) from error
        yield _rendered(plan, body), body


def plan_pictures(known_header: Header, job: Job, *, is_known_good: bool = False) -> tuple[PicturePlan, ...]:
    """Plan every picture of a job before a pixel is decoded.

    The largest size comes first, and within one size the widest margin. Sides are computed from the
    original's, whichever base a picture is made from. Raises `TooManyPixels`, `TooManyFrames` or
    `TooMuchMemory`.
    """
    refusals.check_limits(known_header, job.limits)
    plans = (
        PicturePlan(
            known_header,
            picture,
            job.keep_copyright,
            picture.target.format or known_header.own_format,
            *picture.target.size.fit(*known_header.upright_px),
            is_known_good=is_known_good,
        )
        for picture in job.pictures
    )
    return tuple(sorted(plans, key=lambda plan: (plan.sides_px, plan.margin), reverse=True))


def make_base(original: bytes, plan: PicturePlan, bases: Sequence[Base]) -> Image:
    """Make the base of a size: from the smallest base that is large enough, otherwise from the original."""
    for larger in reversed(bases):
        if is_large_enough(larger.sides_px, plan):
            return scale_base(larger.image, plan)
    return _run(ORIGINAL_STEPS, decode(original, plan, is_undamaged=bool(bases) or plan.is_known_good), plan)


def is_large_enough(larger_px: tuple[int, int], plan: PicturePlan) -> bool:
    """Return whether a base is as good as the original to make a smaller base from.

    It is if it leaves the margin that shrink-on-load must leave, and at least that of a base, which has been
    scaled once already; or if it has every pixel of the original.
    """
    factor = max(plan.margin, _MIN_BASE_FACTOR)
    return larger_px == plan.header.upright_px or max(larger_px) >= factor * max(plan.sides_px)


def decode(original: bytes | bytearray, plan: PicturePlan, *, is_undamaged: bool) -> Image:
    """Decode the original and scale it to the rendition's sides, in its stored orientation and own colours.

    A JPEG is checked for damage by this decode, unless it is known to be undamaged.
    """
    options = shrink_on_load(plan)
    if plan.header.layout is None:
        facts = plan.header.structure
        if facts.is_frame_separate and facts.frame:
            original = png.as_still(bytes(original), facts.frame)
        return _run(DECODED_STEPS, decoders.load(original, plan.header.kind, "warning", **options), plan)
    shrink = int(options["shrink"])
    if is_undamaged:
        return _run(DECODED_STEPS, strict_jpeg.load(original, plan.header.layout, shrink), plan)
    return strict_jpeg.decode(
        original, plan.header.layout, shrink, lambda image: _run(DECODED_STEPS, image, plan)
    )


def shrink_on_load(plan: PicturePlan) -> dict[str, float]:
    """Return the loader's option for its own, cheaper scaling, with `recipe.margin` left for Lanczos.

    Empty for pictures with alpha: libwebp would mix the colours of transparent pixels in.
    """
    factor = max(plan.header.upright_px) / max(plan.sides_px)
    largest = min(factor / plan.margin, *plan.header.upright_px)
    if plan.header.kind is OriginalFormat.JPEG:
        sides_px = plan.header.upright_px
        return {"shrink": next((k for k in _JPEG_SHRINKS if k <= largest and _keeps_lines(sides_px, k)), 1)}
    if plan.header.kind is OriginalFormat.WEBP and not plan.header.has_alpha and largest > 1:
        return {"scale": 1 / largest}
    return {}


def _keeps_lines(sides_px: tuple[int, int], shrink: int) -> bool:
    """Return whether shrink-on-load keeps all lines; libvips drops those that do not fill a last one."""
    return all(side_px % shrink <= side_px * _MAX_LOST_SHARE for side_px in sides_px)


def expand_range(image: Image, plan: PicturePlan) -> Image:
    """Make one band of a grey AVIF, and expand samples of limited range to 0…255 (H.273 §8.3)."""
    facts = plan.header.structure
    if not (facts.is_grey or facts.has_limited_alpha):
        return image
    colors = color.as_grey(image) if facts.is_grey else image.extract_band(0, n=3)
    if facts.has_limited_range:
        colors = color.with_full_range(colors)
    if not image.hasalpha():
        return colors
    return colors.bandjoin(color.with_full_range(image[3]) if facts.has_limited_alpha else image[3])


def place_frame(image: Image, plan: PicturePlan) -> Image:
    """Put the first frame on its canvas, transparent around it. libvips decodes a GIF's on a black canvas."""
    canvas_px = plan.header.width_px, plan.header.height_px
    frame = plan.header.structure.frame_on(*canvas_px)
    if frame is None:
        return image
    if (image.width, image.height) == canvas_px:
        if image.hasalpha():
            return image
        image = image.crop(frame.left_px, frame.top_px, frame.width_px, frame.height_px)
    opaque = image if image.hasalpha() else image.addalpha()
    return opaque.embed(frame.left_px, frame.top_px, *canvas_px)


def scale(image: Image, plan: PicturePlan) -> Image:
    """Scale with Lanczos3 to exactly the rendition's sides, in the stored orientation.

    A side of a JPEG that is no multiple of libjpeg's shrink has lost its last pixels. What is left is scaled
    in its place: stretched over the lost pixels, fine lines would move and blur.
    """
    shrink = round(max(plan.header.upright_px) / max(image.width, image.height))
    whole_px = plan.header.width_px / shrink, plan.header.height_px / shrink
    if plan.header.kind is not OriginalFormat.JPEG or whole_px == (image.width, image.height):
        is_scaled = (image.width, image.height) == plan.stored_px
        return image if is_scaled else _resized(image, plan.stored_px)
    padded = image.embed(
        0,
        0,
        padded_side_px(image.width, whole_px[0], plan.stored_px[0]),
        padded_side_px(image.height, whole_px[1], plan.stored_px[1]),
        extend="copy",
    )
    scales = plan.stored_px[0] / whole_px[0], plan.stored_px[1] / whole_px[1]
    return _reduced(padded, scales, _MAX_LANCZOS_FACTOR).crop(0, 0, *plan.stored_px)


def padded_side_px(side_px: int, whole_px: float, scaled_px: int) -> int:
    """Return how long a side must be, so that scaling it by `scaled_px / whole_px` moves no line.

    `whole_px` is `side_px` with the fraction of a pixel that shrink-on-load has dropped. `vips_reduce` rounds
    the scaled side to whole pixels, and moves the picture by half of what that adds or takes.
    """
    factor = whole_px / scaled_px
    spans_px = [one * factor for one in range(scaled_px, scaled_px + _MAX_PADDING_PX)]
    least_moved = min(spans_px, key=lambda span_px: round(abs(round(span_px) - span_px), 2))
    return max(round(least_moved), side_px)


def orient(image: Image, plan: PicturePlan) -> Image:
    """Turn the image upright. It comes after `scale` because turning holds the whole image in memory."""
    if plan.header.orientation == 1:
        return image
    return image.copy_memory().autorot()


def assign_profile(image: Image, plan: PicturePlan) -> Image:
    """Attach the ICC profile of the colours that the header names, or one that libvips does not report."""
    named = plan.header.colors
    profile = icc.profile_bytes(named) if named else plan.header.structure.unreported_profile
    return color.with_profile(image, profile) if profile else image


def convert_colors(image: Image, plan: PicturePlan) -> Image:  # noqa: ARG001 - every step has the same shape
    """Convert to 8-bit sRGB, or to 8-bit grey if the original is grey."""
    return color.to_srgb(image)


def scale_base(image: Image, plan: PicturePlan) -> Image:
    """Scale a larger base to the rendition's sides with Lanczos3."""
    return _resized(image, plan.sides_px)


def flatten(image: Image, plan: PicturePlan) -> Image:
    """Flatten on white if the format has no alpha; the encoder's own default is black."""
    if encoders.has_alpha(plan.format) or not image.hasalpha():
        return image
    return image.flatten(background=[_WHITE] * (image.bands - 1))


Step = Callable[["Image", PicturePlan], "Image"]
"""A step returns the image unchanged if it has nothing to do."""

DECODED_STEPS: Final[tuple[Step, ...]] = (expand_range, place_frame, scale)
"""Before the first phase, within `decode`: the samples of the decoder, in the sides of the rendition."""

ORIGINAL_STEPS: Final[tuple[Step, ...]] = (orient, assign_profile, convert_colors)
"""First phase, after `decode`: once for each decode. The plan is that of the largest picture."""

PICTURE_STEPS: Final[tuple[Step, ...]] = (flatten,)
"""Second phase, before `encode`: for every picture, on a base of exactly its sides."""


def encode(image: Image, plan: PicturePlan) -> bytes:
    """Encode a picture with creator and copyright if the job keeps them, and with no other metadata."""
    notice = copyright_notice.read_notice(image) if plan.keep_copyright else copyright_notice.EMPTY
    if notice == copyright_notice.EMPTY:
        return encoders.encode(image, plan.format, plan.picture.qualities)
    with_notice = copyright_notice.with_notice_only(image, notice)
    return encoders.encode(with_notice, plan.format, plan.picture.qualities, encoders.KEEP_EXIF)


def _run(steps: Sequence[Step], image: Image, plan: PicturePlan) -> Image:
    for step in steps:
        image = step(image, plan)
    return image


def _resized(image: Image, sides_px: tuple[int, int]) -> Image:
    """Scale with Lanczos3 so that the image fills the sides, colours weighted by their opacity.

    Colours weighted by opacity are floats. They are rounded, because a cast cuts off, and a chain of sizes
    would get darker by half a step at each.
    """
    scales = sides_px[0] / image.width, sides_px[1] / image.height
    if not image.hasalpha():
        return _reduced(image, scales, _MAX_LANCZOS_FACTOR)
    weighted = _reduced(image.premultiply(), scales, _MAX_LANCZOS_FACTOR_OF_FLOATS)
    return weighted.unpremultiply().rint().cast(image.format)


def _reduced(image: Image, scales: tuple[float, float], max_lanczos_factor: float) -> Image:
    gap = _gap(1 / min(scales), max_lanczos_factor)
    return image.resize(scales[0], vscale=scales[1], gap=gap)


def _gap(factor: float, max_lanczos_factor: float) -> float:
    """Return the option `gap` of `vips_resize`: how far it averages whole blocks before Lanczos.

    By default it does so from a factor of 4 on, which leaves ghosts of fine patterns. Without any blocks, a
    large factor darkens 8-bit samples by its fixed-point weights, is slow, and over 333 is an error.
    """
    blocks = math.ceil(factor / max_lanczos_factor)
    return factor / (blocks + 0.5) if blocks > 1 else 0.0


def _rendered(plan: PicturePlan, body: bytes) -> Rendered:
    lost = set(plan.header.loses)
    if plan.header.has_alpha and not encoders.has_alpha(plan.format):
        lost.add("alpha")
    return Rendered(
        target=plan.picture.target,
        format=plan.format,
        width_px=plan.width_px,
        height_px=plan.height_px,
        length_bytes=len(body),
        md5=hashlib.md5(body, usedforsecurity=False).hexdigest(),
        lost=losses.in_order(lost),
    )
