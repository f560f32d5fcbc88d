"""One original, one job → one rendition. What happens to a picture is the tuple `STEPS`, in its order.

Pure: bytes in, bytes out; no file, clock, network or environment. A step begins with its "nothing
to do" return. libvips is lazy: the steps describe, `codecs.encode` runs them all in one pass from the
top row to the bottom, so damage deep in the original comes to light only there.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from galerly_cdn.errors import Undecodable
from galerly_cdn.model import Format, Job, Rendered, Value
from galerly_cdn.render import codecs, color, credit, header, loaders, losses, profiles, recipe
from galerly_cdn.render.header import Header
from galerly_cdn.render.kind import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.render.loaders import Image

_WHITE = 255.0
_JPEG_SHRINKS = (8, 4, 2)


class Plan(Value, frozen=True):
    """What one render will do; its sides are those of the upright rendition."""

    header: Header
    job: Job
    format: Format
    width_px: int
    height_px: int

    @property
    def stored_px(self) -> tuple[int, int]:
        """The rendition's sides before it is turned upright."""
        sideways = self.header.is_sideways
        return (self.height_px, self.width_px) if sideways else (self.width_px, self.height_px)


def render(original: bytes, job: Job, read: Header | None = None) -> tuple[Rendered, bytes]:
    """The rendition's bytes, and what is to be said of them; `read` is the header if it was read before.

    Raises `UnsupportedFormat`, `Undecodable`, `TooManyPixels`, `TooManyFrames`, `TooMuchMemory`.
    """
    plan = planned(read or header.read(original), job)
    image = loaders.load(original, plan.header.kind, **shrink_on_load(plan))
    try:
        for step in STEPS:
            image = step(image, plan)
        body = encoded(image, plan)
    except loaders.Error as error:
        raise Undecodable(loaders.text_of(error)) from error
    return _rendered(plan, body), body


def planned(read: Header, job: Job) -> Plan:
    """Every decision, before a pixel is decoded. Raises `TooManyPixels`, `TooManyFrames`, `TooMuchMemory`."""
    header.check(read, job.limits)
    width_px, height_px = job.target.size.fit(*read.upright_px)
    return Plan(read, job, job.target.format or read.own_format, width_px, height_px)


def shrink_on_load(plan: Plan) -> dict[str, float]:
    """The decoder's own, cheaper shrinking; it leaves `recipe.margin` times the rendition for Lanczos.

    Not for pictures with alpha: libwebp would mix the colours of transparent pixels in.
    """
    factor = max(plan.header.upright_px) / max(plan.width_px, plan.height_px)
    largest = min(factor / recipe.margin(plan.job.target.size), *plan.header.upright_px)
    if plan.header.kind is Kind.JPEG:
        return {"shrink": next((shrink for shrink in _JPEG_SHRINKS if shrink <= largest), 1)}
    if plan.header.kind is Kind.WEBP and not plan.header.has_alpha and largest > 1:
        return {"scale": 1 / largest}
    return {}


def scale(image: Image, plan: Plan) -> Image:
    """Lanczos3 to exactly the rendition's sides; colours weigh as much as they are opaque."""
    width_px, height_px = plan.stored_px
    if (image.width, image.height) == (width_px, height_px):
        return image
    across, down = width_px / image.width, height_px / image.height
    if not plan.header.has_alpha:
        return image.resize(across, vscale=down)
    return image.premultiply().resize(across, vscale=down).unpremultiply().cast(image.format)


def orient(image: Image, plan: Plan) -> Image:
    """Upright. After scaling, because turning holds the whole picture in memory."""
    if plan.header.orientation == 1:
        return image
    return image.copy_memory().autorot()


def name_colors(image: Image, plan: Plan) -> Image:
    """Give a picture whose header names its colours the profile it did not bring."""
    if plan.header.colors is None:
        return image
    return color.with_profile(image, profiles.made(plan.header.colors))


def convert(image: Image, plan: Plan) -> Image:  # noqa: ARG001 - every step has the same shape
    """8-bit sRGB or grey. After scaling: there are fewer pixels."""
    return color.to_srgb(image)


def flatten(image: Image, plan: Plan) -> Image:
    """On white where the format has no alpha; the encoder's own default is black."""
    if plan.format is not Format.JPEG or not image.hasalpha():
        return image
    return image.flatten(background=[_WHITE] * (image.bands - 1))


STEPS: Final[tuple[Callable[[Image, Plan], Image], ...]] = (
    scale,
    orient,
    name_colors,
    convert,
    flatten,
)


def encoded(image: Image, plan: Plan) -> bytes:
    """The bytes; creator and copyright go with them where the job allows it, nothing else ever does."""
    lines = credit.read(image) if plan.job.keep_copyright else credit.NOBODY
    if lines == credit.NOBODY:
        return codecs.encode(image, plan.format, plan.job.qualities)
    signed = credit.only(image, lines)
    return codecs.encode(signed, plan.format, plan.job.qualities, codecs.KEEP_EXIF)


def _rendered(plan: Plan, body: bytes) -> Rendered:
    lost = set(plan.header.loses)
    if plan.header.has_alpha and plan.format is Format.JPEG:
        lost.add("alpha")
    return Rendered(
        format=plan.format,
        width_px=plan.width_px,
        height_px=plan.height_px,
        length_bytes=len(body),
        md5=hashlib.md5(body, usedforsecurity=False).hexdigest(),
        lost=losses.ordered(lost),
    )
