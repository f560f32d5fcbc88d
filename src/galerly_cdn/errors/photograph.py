"""The photograph is at fault: 415, because CloudFront caches 415 and never 413 or 422."""

from __future__ import annotations

from galerly_cdn.errors.root import GalerlyError


class Unrenderable(GalerlyError):
    """The original itself is at fault. 415 because CloudFront caches 415 and never 413 or 422."""

    status = 415
    code = "unrenderable"
    public = "The photograph cannot be shown."
    max_age_s = 300


class UnsupportedFormat(Unrenderable):
    code = "unsupported-format"
    public = "The photograph's format is not supported."


class Undecodable(Unrenderable):
    code = "undecodable"
    public = "The photograph is damaged or incomplete."


class TooManyPixels(Unrenderable):
    code = "too-many-pixels"
    public = "The photograph has more pixels than allowed."


class TooManyBytes(Unrenderable):
    code = "too-many-bytes"
    public = "The photograph's file is larger than allowed."


class TooManyFrames(Unrenderable):
    code = "too-many-frames"
    public = "The animation has more frames than allowed."


class TooMuchMemory(Unrenderable):
    code = "too-much-memory"
    public = "Decoding the photograph would take more memory than allowed."


class Quarantined(Unrenderable):
    """Its renders ended two workers; not tried again for `quarantine_s`."""

    code = "quarantined"
    public = "The photograph could not be decoded safely."
