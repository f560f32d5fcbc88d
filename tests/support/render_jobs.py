"""Builds render jobs with defaults for everything that a test does not set."""

from __future__ import annotations

from galerly_cdn.model import Format, Job, Limits, Picture, Size, Target

LIMITS = Limits(max_pixels=100_000_000, max_frames=256, max_coefficient_bytes=512 << 20)
QUALITIES = {Format.JPEG: 85, Format.WEBP: 86, Format.AVIF: 72}
ALL_FORMATS = list(Format)


def job(
    box: str = "150x150",
    form: Format | None = None,
    *,
    limits: Limits = LIMITS,
    qualities: dict[Format, int] = QUALITIES,
    keep_copyright: bool = False,
) -> Job:
    """Build a job for one picture in the box `WxH`."""
    pictures = (Picture(target(box, form), qualities),)
    return Job(pictures=pictures, limits=limits, keep_copyright=keep_copyright)


def job_for(*targets: Target, limits: Limits = LIMITS, keep_copyright: bool = False) -> Job:
    """Build one job for several targets."""
    return Job(tuple(Picture(one, QUALITIES) for one in targets), limits, keep_copyright)


def target(box: str, form: Format | None = None) -> Target:
    """Build the target of the box `WxH` in a format."""
    width, _, height = box.partition("x")
    return Target(Size(int(width), int(height)), form)
