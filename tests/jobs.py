"""Render jobs for tests, with everything a test does not care about filled in."""

from __future__ import annotations

from galerly_cdn.model import Format, Job, Limits, Size, Target

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
    """A job for the box `WxH`."""
    width, _, height = box.partition("x")
    target = Target(Size(int(width), int(height)), form)
    return Job(target=target, qualities=qualities, limits=limits, keep_copyright=keep_copyright)
