"""One original, one job → its renditions. What happens to the original is the tuple `STEPS`, in its order.

Pure: bytes in, bytes out; no file, clock, network or environment. A step begins with its "nothing
to do" return. libvips is lazy: the steps describe, one pass from the top row to the bottom runs them
all, so damage deep in the original comes to light only there: before the first picture is made.

Of several sizes the largest is made first, and what is large enough beside a smaller one is its
original: a job decodes once, unless two of its sizes are nearly the same.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from galerly_cdn.errors import Undecodable
from galerly_cdn.model import Format, Job, Picture, Rendered
from galerly_cdn.render import color, copyright_notice, decoders, encoders, header, icc, losses, recipe
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.header import Header
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from galerly_cdn.render.decoders import Image

_WHITE = 255.0
_JPEG_SHRINKS = (8, 4, 2)


class PicturePlan(Value, frozen=True):
    """What one picture will be; its sides are those of the upright rendition."""

    header: Header
    picture: Picture
    keep_copyright: bool
    format: Format
    width_px: int
    height_px: int

    @property
    def sides_px(self) -> tuple[int, int]:
        return self.width_px, self.height_px

    @property
    def stored_px(self) -> tuple[int, int]:
        """The rendition's sides before it is turned upright."""
        return (self.height_px, self.width_px) if self.header.is_sideways else self.sides_px

    @property
    def margin(self) -> float:
        return recipe.margin(self.picture.target.size)


class ScaledImage(NamedTuple):
    """The pixels of a size: upright, 8-bit sRGB or grey, for every format."""

    sides_px: tuple[int, int]
    image: Image


def render(original: bytes, job: Job, read: Header | None = None) -> tuple[Rendered, bytes]:
    """The first picture of `pictures`: of a job for one, all there is. Raises as that does."""
    return next(pictures(original, job, read))


def pictures(original: bytes, job: Job, read: Header | None = None) -> Iterator[tuple[Rendered, bytes]]:
    """What is to be said of each picture, and its bytes, as they are made: the largest size first.

    `read` is the header if it was read before. A job for one picture gives what the first of a job for
    many gives: the same bytes. Raises `UnsupportedFormat`, `Undecodable`, `TooManyPixels`,
    `TooManyFrames`, `TooMuchMemory`; what came before holds.
    """
    plans = plan_pictures(read or header.read(original), job)
    made: list[ScaledImage] = []
    for plan in plans:
        try:
            if not made or made[-1].sides_px != plan.sides_px:
                image = pixels(original, plan, made)
                # To be read more than once, it must be in memory: a decoder runs but once.
                made.append(ScaledImage(plan.sides_px, image.copy_memory() if len(plans) > 1 else image))
            body = encoded(flatten(made[-1].image, plan), plan)
        except decoders.Error as error:
            raise Undecodable(decoders.error_text(error)) from error
        yield _rendered(plan, body), body


def plan_pictures(read: Header, job: Job) -> tuple[PicturePlan, ...]:
    """Every decision, before a pixel is decoded, the largest size first, and of one size the widest margin.

    Sides are computed from the original's, whatever a picture is made from. Raises `TooManyPixels`,
    `TooManyFrames`, `TooMuchMemory`.
    """
    header.check(read, job.limits)
    plans = (
        PicturePlan(
            read,
            picture,
            job.keep_copyright,
            picture.target.format or read.own_format,
            *picture.target.size.fit(*read.upright_px),
        )
        for picture in job.pictures
    )
    return tuple(sorted(plans, key=lambda plan: (plan.sides_px, plan.margin), reverse=True))


def pixels(original: bytes, plan: PicturePlan, made: Sequence[ScaledImage]) -> Image:
    """A size's pixels: of the smallest picture made so far that will do, or of the original."""
    for larger in reversed(made):
        if is_large_enough(larger.sides_px, plan):
            smaller = _resized(larger.image, plan.sides_px)
            return smaller.rint().cast(larger.image.format)  # a bare cast cuts off, once for each size
    image = decoders.load(original, plan.header.kind, **shrink_on_load(plan))
    for step in STEPS:
        image = step(image, plan)
    return image


def is_large_enough(larger_px: tuple[int, int], plan: PicturePlan) -> bool:
    """Whether a picture is as good as the original to make a smaller one from.

    It is if it leaves the margin that shrink-on-load must leave, or has every pixel of the original.
    """
    return larger_px == plan.header.upright_px or max(larger_px) >= plan.margin * max(plan.sides_px)


def shrink_on_load(plan: PicturePlan) -> dict[str, float]:
    """The decoder's own, cheaper shrinking; it leaves `recipe.margin` times the rendition for Lanczos.

    Not for pictures with alpha: libwebp would mix the colours of transparent pixels in.
    """
    factor = max(plan.header.upright_px) / max(plan.sides_px)
    largest = min(factor / plan.margin, *plan.header.upright_px)
    if plan.header.kind is OriginalFormat.JPEG:
        return {"shrink": next((shrink for shrink in _JPEG_SHRINKS if shrink <= largest), 1)}
    if plan.header.kind is OriginalFormat.WEBP and not plan.header.has_alpha and largest > 1:
        return {"scale": 1 / largest}
    return {}


def scale(image: Image, plan: PicturePlan) -> Image:
    """Lanczos3 to exactly the rendition's sides."""
    if (image.width, image.height) == plan.stored_px:
        return image
    return _resized(image, plan.stored_px).cast(image.format)


def orient(image: Image, plan: PicturePlan) -> Image:
    """Upright. After scaling, because turning holds the whole picture in memory."""
    if plan.header.orientation == 1:
        return image
    return image.copy_memory().autorot()


def assign_profile(image: Image, plan: PicturePlan) -> Image:
    """Give a picture whose header names its colours the profile it did not bring."""
    if plan.header.colors is None:
        return image
    return color.with_profile(image, icc.profile_bytes(plan.header.colors))


def convert_colors(image: Image, plan: PicturePlan) -> Image:  # noqa: ARG001 - every step has the same shape
    """8-bit sRGB or grey. After scaling: there are fewer pixels."""
    return color.to_srgb(image)


STEPS: Final[tuple[Callable[[Image, PicturePlan], Image], ...]] = (
    scale,
    orient,
    assign_profile,
    convert_colors,
)


def flatten(image: Image, plan: PicturePlan) -> Image:
    """On white where the format has no alpha; the encoder's own default is black."""
    if plan.format is not Format.JPEG or not image.hasalpha():
        return image
    return image.flatten(background=[_WHITE] * (image.bands - 1))


def encoded(image: Image, plan: PicturePlan) -> bytes:
    """The bytes; creator and copyright go with them where the job allows it, nothing else ever does."""
    lines = copyright_notice.read_notice(image) if plan.keep_copyright else copyright_notice.NOBODY
    if lines == copyright_notice.NOBODY:
        return encoders.encode(image, plan.format, plan.picture.qualities)
    signed = copyright_notice.with_notice_only(image, lines)
    return encoders.encode(signed, plan.format, plan.picture.qualities, encoders.KEEP_EXIF)


def _resized(image: Image, sides_px: tuple[int, int]) -> Image:
    """Lanczos3; colours weigh as much as they are opaque. With alpha the values are no whole numbers."""
    across, down = sides_px[0] / image.width, sides_px[1] / image.height
    if not image.hasalpha():
        return image.resize(across, vscale=down)
    return image.premultiply().resize(across, vscale=down).unpremultiply()


def _rendered(plan: PicturePlan, body: bytes) -> Rendered:
    lost = set(plan.header.loses)
    if plan.header.has_alpha and plan.format is Format.JPEG:
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
