"""Defines the errors of photographs that cannot be shown, and of renders that fail. Pure."""

from __future__ import annotations

from typing import ClassVar

from galerly_cdn.errors.galerly_error import GalerlyError


class Unrenderable(GalerlyError):
    """The original cannot be rendered. 415, because CloudFront caches 415 but neither 413 nor 422."""

    status = 415
    code = "unrenderable"
    public = "The photograph cannot be shown."
    max_age_s: ClassVar[int | None] = 300


class UnsupportedFormat(Unrenderable):
    """`public` names the format, says why it is not shown and what to do, if the format is recognised."""

    code = "unsupported-format"
    public = "The photograph's format is not supported."

    def __init__(self, detail: str = "", public: str = "") -> None:
        super().__init__(detail)
        self.public = public or type(self).public


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
    """Rendering it crashed two workers; it is not rendered again for `quarantine_s`. Never cached."""

    code = "quarantined"
    public = "The photograph could not be decoded safely."
    max_age_s = None


class RenderFailed(GalerlyError):
    status = 504
    code = "render-failed"
    public = "The picture could not be rendered in time."


class RenderTimeout(RenderFailed):
    code = "render-timeout"


class WorkerDied(RenderFailed):
    code = "worker-died"
    public = "The picture could not be rendered."
