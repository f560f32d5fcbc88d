"""One original, one job → one rendition. The picture's whole story is the tuple `STEPS`.

Pure: bytes in, bytes out; no file, clock, network or environment. A step begins with its "nothing
to do" return. libvips is lazy: steps describe, `encode` runs them all in one pass, so damage deep in
the original comes to light only there.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from galerly_cdn.errors import Undecodable
from galerly_cdn.model import Format, Job, Rendered, Value
from galerly_cdn.render import codecs, color, header, loaders, losses
from galerly_cdn.render.header import Header
from galerly_cdn.render.loaders import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.render.loaders import Image

_KEEP_NOTHING = 0
_WHITE = [255, 255, 255]
_JPEG_SHRINKS = (8, 4, 2)


class Plan(Value, frozen=True):
    """What one render will do: decided before a pixel is decoded. Sides are those of the upright rendition."""

    header: Header
    job: Job
    format: Format
    width_px: int
    height_px: int


def render(original: bytes, job: Job) -> tuple[Rendered, bytes]:
    """The rendition and what is to be said of it.

    Raises `UnsupportedFormat`, `Undecodable`, `TooManyPixels`, `TooManyFrames`, `TooMuchMemory`.
    """
    plan = plan_of(header.read(original), job)
    image = loaders.load(original, plan.header.kind, **shrink_on_load(plan))
    try:
        for step in STEPS:
            image = step(image, plan)
        body = codecs.encode(image, plan.format, job.qualities.get(plan.format, 0), keep=_KEEP_NOTHING)
    except loaders.Error as error:
        raise Undecodable(loaders.text_of(error)) from error
    return _rendered(plan, body), body


def plan_of(read: Header, job: Job) -> Plan:
    """Raises `TooManyPixels`, `TooManyFrames` or `TooMuchMemory`."""
    header.check(read, job.limits)
    width_px, height_px = job.target.size.fit(*read.upright_px)
    return Plan(read, job, job.target.format or read.own, width_px, height_px)


def shrink_on_load(plan: Plan) -> dict[str, float]:
    """The loader's own shrinking, leaving at least `codecs.margin` times the rendition for Lanczos."""
    factor = max(plan.header.upright_px) / max(plan.width_px, plan.height_px)
    margin = codecs.margin(plan.job.target.size)
    if plan.header.kind is Kind.JPEG:
        return {"shrink": next((shrink for shrink in _JPEG_SHRINKS if factor / shrink >= margin), 1)}
    if plan.header.kind is Kind.WEBP and not plan.header.has_alpha and factor > margin:
        return {"scale": margin / factor}
    return {}


def scale(image: Image, plan: Plan) -> Image:
    """Lanczos3 to exactly the rendition's sides; colours are weighed by their opacity."""
    sides = (plan.height_px, plan.width_px) if plan.header.is_sideways else (plan.width_px, plan.height_px)
    if (image.width, image.height) == sides:
        return image
    across, down = sides[0] / image.width, sides[1] / image.height
    if not plan.header.has_alpha:
        return image.resize(across, vscale=down)
    held = image.format
    return image.premultiply().resize(across, vscale=down).unpremultiply().cast(held)


def orient(image: Image, plan: Plan) -> Image:
    """Upright. After scaling, because turning needs the whole picture in memory and a small one is small."""
    if plan.header.orientation == 1:
        return image
    return image.copy_memory().autorot()


def paint(image: Image, plan: Plan) -> Image:  # noqa: ARG001
    """8-bit sRGB or grey."""
    return color.to_srgb(image)


def flatten(image: Image, plan: Plan) -> Image:
    """On white where the format has no alpha: libvips' own default is black."""
    if plan.format is not Format.JPEG or not image.hasalpha():
        return image
    return image.flatten(background=_WHITE[: image.bands - 1])


STEPS: Final[tuple[Callable[[Image, Plan], Image], ...]] = (scale, orient, paint, flatten)


def _rendered(plan: Plan, body: bytes) -> Rendered:
    found = set(plan.header.loses)
    if plan.format is Format.JPEG and plan.header.has_alpha:
        found.add("alpha")
    return Rendered(
        format=plan.format,
        width_px=plan.width_px,
        height_px=plan.height_px,
        length_bytes=len(body),
        md5=hashlib.md5(body, usedforsecurity=False).hexdigest(),
        lost=losses.ordered(found),
    )
