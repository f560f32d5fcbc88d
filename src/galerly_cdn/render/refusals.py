"""Refuses originals by the limits, from the facts of their header, and names a worker's refusals. No libvips.

The worker checks the limits before it decodes; the server checks a record that it knows. A refusal by a limit
is therefore never stored: it ends when the setting changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from galerly_cdn.errors import (
    TooManyFrames,
    TooManyPixels,
    TooMuchMemory,
    Undecodable,
    Unrenderable,
    UnsupportedFormat,
    by_code,
)

if TYPE_CHECKING:
    from galerly_cdn.model import Limits


class Sides(Protocol):
    """What the limits apply to: a `Header`, or the `Facts` made from it."""

    @property
    def width_px(self) -> int: ...

    @property
    def height_px(self) -> int: ...

    @property
    def frames(self) -> int: ...

    @property
    def coefficient_bytes(self) -> int: ...


def check_limits(original: Sides, limits: Limits) -> None:
    """Raise `TooManyPixels`, `TooManyFrames` or `TooMuchMemory` if the original is over a limit."""
    if original.width_px * original.height_px * original.frames > limits.max_pixels:
        raise TooManyPixels(
            f"{original.width_px} × {original.height_px} px × {original.frames} frames "
            f"over {limits.max_pixels} px"
        )
    if original.frames > limits.max_frames:
        raise TooManyFrames(f"{original.frames} frames over {limits.max_frames}")
    if original.coefficient_bytes > limits.max_coefficient_bytes:
        raise TooMuchMemory(
            f"{original.coefficient_bytes} bytes of coefficients over {limits.max_coefficient_bytes}"
        )


def of_code(code: str, detail: str = "", public: str = "") -> Unrenderable:
    """Return the `Unrenderable` of this code, as a worker or a stored record names it.

    `public` is its own sentence, if it has one. Another code gives `Unrenderable` itself, which is not a
    verdict.
    """
    kind = by_code().get(code, Unrenderable)
    if issubclass(kind, UnsupportedFormat):
        return kind(detail, public)
    return kind(detail) if issubclass(kind, Unrenderable) else Unrenderable(detail)


def is_verdict(error: Unrenderable) -> bool:
    """Return whether the file alone is the reason: no setting, machine or second attempt changes that."""
    return isinstance(error, (UnsupportedFormat, Undecodable))
