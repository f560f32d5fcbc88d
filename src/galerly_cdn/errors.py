"""What can go wrong, and what the viewer is told of it.

Every error knows its own answer: status, stable code, public sentence, how long it may be cached.
What went wrong inside (`detail`) is for the log and never leaves the machine.

    GalerlyError
    ├── BadRequest           400   MalformedKey
    ├── Forbidden            403   SizeNotAllowed · FormatNotAllowed · SignatureRequired
    │                              · SignatureInvalid · SignatureExpired · SignatureTooEarly
    │                              · SignatureWrongClient
    ├── NotFound             404   UnknownPath · NoSuchOriginal
    ├── MethodNotAllowed     405
    ├── TooSlow              408   HeadersTooSlow · BodyTooSlow
    ├── UrlTooLong           414
    ├── Unrenderable         415   UnsupportedFormat · Undecodable · TooManyPixels · TooManyBytes
    │                              · TooManyFrames · TooMuchMemory · Quarantined
    ├── RangeNotSatisfiable  416
    ├── HeadersTooLarge      431
    ├── StoreRefused         502
    ├── Unavailable          503   QueueFull · Draining · Unsettled · StoreUnreachable
    │                              · TooManyConnections
    ├── RenderFailed         504   RenderTimeout · WorkerDied
    ├── Disconnected         (never served: whoever asked has left, and only the log is told)
    └── SettingsError        (never served: the command line prints it and exits with 2)
"""

from __future__ import annotations

from typing import ClassVar


class GalerlyError(Exception):
    """The root. `detail` is private: paths, library texts and numbers for the operator."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    public: ClassVar[str] = "Something went wrong on our side."
    max_age_s: ClassVar[int | None] = None
    """How long caches may keep the answer; None is `no-store`."""
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.public)
        self.detail = detail


class BadRequest(GalerlyError):
    status = 400
    code = "bad-request"
    public = "The request is malformed."


class MalformedKey(BadRequest):
    code = "malformed-key"
    public = "The picture's name in the address is malformed."


class Forbidden(GalerlyError):
    status = 403
    code = "forbidden"
    public = "This is not allowed."


class SizeNotAllowed(Forbidden):
    code = "size-not-allowed"
    public = "This size is not in the allow-list."


class FormatNotAllowed(Forbidden):
    code = "format-not-allowed"
    public = "This format is not offered at this size."


class SignatureRequired(Forbidden):
    code = "signature-required"
    public = "This address must be signed."


class SignatureInvalid(Forbidden):
    code = "signature-invalid"
    public = "The signature does not hold for this address."


class SignatureExpired(Forbidden):
    code = "signature-expired"
    public = "The signature has expired."


class SignatureTooEarly(Forbidden):
    code = "signature-too-early"
    public = "The signature does not hold yet."


class SignatureWrongClient(Forbidden):
    code = "signature-wrong-client"
    public = "The signature does not hold for your network."


class NotFound(GalerlyError):
    status = 404
    code = "not-found"
    public = "There is nothing at this address."


class UnknownPath(NotFound):
    code = "unknown-path"
    max_age_s = 60


class NoSuchOriginal(NotFound):
    """Short-lived, so that an upload appears at once."""

    code = "no-such-original"
    public = "There is no photograph of this name."
    max_age_s = 5


class MethodNotAllowed(GalerlyError):
    status = 405
    code = "method-not-allowed"
    public = "Only GET and HEAD are answered here."


class TooSlow(GalerlyError):
    status = 408
    code = "too-slow"
    public = "The request did not arrive in time."


class HeadersTooSlow(TooSlow):
    code = "headers-too-slow"


class BodyTooSlow(TooSlow):
    code = "body-too-slow"


class UrlTooLong(GalerlyError):
    status = 414
    code = "url-too-long"
    public = "The address is too long."


class HeadersTooLarge(GalerlyError):
    status = 431
    code = "headers-too-large"
    public = "The request's headers are too large."


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


class RangeNotSatisfiable(GalerlyError):
    status = 416
    code = "range-not-satisfiable"
    public = "The requested range lies outside the picture."

    def __init__(self, length_bytes: int) -> None:
        super().__init__()
        self.length_bytes = length_bytes


class StoreRefused(GalerlyError):
    status = 502
    code = "store-refused"
    public = "The store refused to hand out the photograph."


class Unavailable(GalerlyError):
    status = 503
    code = "unavailable"
    public = "Try again in a moment."
    retry_after_s = 1


class QueueFull(Unavailable):
    code = "queue-full"
    public = "Too many pictures are being made; try again in a moment."


class Draining(Unavailable):
    code = "draining"
    public = "The server is stopping; try again in a moment."


class Unsettled(Unavailable):
    """The original changed under every attempt to render it."""

    code = "unsettled"
    public = "The photograph is being replaced; try again in a moment."


class StoreUnreachable(Unavailable):
    code = "store-unreachable"
    public = "The store cannot be reached; try again in a moment."


class TooManyConnections(Unavailable):
    code = "too-many-connections"
    public = "Too many connections are open; try again in a moment."


class RenderFailed(GalerlyError):
    status = 504
    code = "render-failed"
    public = "The picture could not be made in time."


class RenderTimeout(RenderFailed):
    code = "render-timeout"


class WorkerDied(RenderFailed):
    code = "worker-died"
    public = "The picture could not be made."


class Disconnected(GalerlyError):
    """Whoever asked has left: nothing more of the answer can be sent, nothing more of a body will come."""

    code = "disconnected"


class SettingsError(GalerlyError):
    """Unknown or impossible settings; `problems` holds one clear line for each."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def by_code() -> dict[str, type[GalerlyError]]:
    """Every error class by its code: how an error crosses from a worker process to the server."""
    found: dict[str, type[GalerlyError]] = {}
    pending: list[type[GalerlyError]] = [GalerlyError]
    while pending:
        kind = pending.pop()
        found[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return found
