"""Defines the errors: status, stable code, public sentence, cache lifetime, response headers. Pure."""

from __future__ import annotations

import math
from typing import ClassVar


class GalerlyError(Exception):
    """The base of all errors. `detail` is for the operator's log only: paths, library messages, numbers."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    public: str = "An internal error occurred."
    """The sentence for people. Each class has one; only `UnsupportedFormat` has others, of its instances."""
    max_age_s: ClassVar[int | None] = None
    """How long caches may keep the response; None is `no-store`."""
    retry_after_s: int | None = None

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.public)
        self.detail = detail

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response headers that belong to this error, beside those of every error response."""
        return [] if self.retry_after_s is None else [(b"retry-after", b"%d" % self.retry_after_s)]


def by_code() -> dict[str, type[GalerlyError]]:
    """Every error class by its code: a worker process sends an error's code to the server."""
    classes: dict[str, type[GalerlyError]] = {}
    pending: list[type[GalerlyError]] = [GalerlyError]
    while pending:
        kind = pending.pop()
        classes[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return classes


class BadRequest(GalerlyError):
    status = 400
    code = "bad-request"
    public = "The request is malformed."


class MalformedKey(BadRequest):
    code = "malformed-key"
    public = "The picture's name in the address is malformed."


class EmptyUpload(BadRequest):
    code = "empty-upload"
    public = "The upload is empty."


class MalformedChecksum(BadRequest):
    """Malformed, or of an algorithm that is not verified; ignoring it would accept a damaged upload."""

    code = "malformed-checksum"
    public = "The upload’s checksum is malformed, or its algorithm is not supported."


class MalformedQuery(BadRequest):
    code = "malformed-query"
    public = "A query parameter is unknown, invalid or repeated."


class MalformedBody(BadRequest):
    code = "malformed-body"
    public = "The request’s body is not what this operation accepts."


class ChecksumMismatch(BadRequest):
    code = "checksum-mismatch"
    public = "The upload does not match its checksum; send it again."


class Unauthorized(GalerlyError):
    status = 401
    code = "unauthorized"
    public = "An admin bearer token is required."

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"www-authenticate", b"Bearer")]  # RFC 9110 §11.6.1, RFC 6750 §3


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


class CrossSite(Forbidden):
    """A request by another site's page, from the browser of a client that is allowed (CSRF)."""

    code = "cross-site"
    public = "Requests by pages of other sites are not allowed."


class CsrfTokenMismatch(Forbidden):
    code = "csrf-token-mismatch"
    public = "The page is older than the last login; load it again."


class SignatureRequired(Forbidden):
    code = "signature-required"
    public = "This address requires a signature."


class SignatureInvalid(Forbidden):
    code = "signature-invalid"
    public = "The signature is not valid for this address."


class SignatureExpired(Forbidden):
    code = "signature-expired"
    public = "The signature has expired."


class SignatureTooEarly(Forbidden):
    code = "signature-too-early"
    public = "The signature is not valid yet."


class SignatureWrongClient(Forbidden):
    code = "signature-wrong-client"
    public = "The signature is not valid for your network."


class NotFound(GalerlyError):
    status = 404
    code = "not-found"
    public = "There is nothing at this address."


class UnknownPath(NotFound):
    code = "unknown-path"
    max_age_s = 60


class NoSuchOriginal(NotFound):
    """Cached briefly, so that an upload appears soon."""

    code = "no-such-original"
    public = "There is no photograph of this name."
    max_age_s = 5


class NoSuchUpload(NotFound):
    code = "no-such-upload"
    public = "There is no such upload; it did not arrive, or it was completed."


class MethodNotAllowed(GalerlyError):
    """`allowed`: the methods that the address supports (RFC 9110 §10.2.1)."""

    status = 405
    code = "method-not-allowed"
    public = "This address does not support this method."

    def __init__(self, detail: str = "", allowed: tuple[str, ...] = ("GET", "HEAD")) -> None:
        super().__init__(detail)
        self.allowed = allowed

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"allow", ", ".join(self.allowed).encode())]  # RFC 9110 §15.5.6


class ReadOnlyStore(MethodNotAllowed):
    code = "read-only-store"
    public = "The store of photographs is read-only."


class TooSlow(GalerlyError):
    status = 408
    code = "too-slow"
    public = "The request did not arrive in time."


class HeadersTooSlow(TooSlow):
    code = "headers-too-slow"


class BodyTooSlow(TooSlow):
    code = "body-too-slow"


class KeyNotHeld(GalerlyError):
    """A key that differs only in case or normalisation, too long a segment, a file in a folder's place."""

    status = 409
    code = "key-not-held"
    public = "The store cannot hold a photograph with exactly this name."


class LooksPrivate(GalerlyError):
    status = 409
    code = "ambiguous-folder"
    public = "Another folder has nearly this name; write its name exactly."


class NoDirectUploads(GalerlyError):  # a folder has no presigned URLs
    status = 409
    code = "no-direct-uploads"
    public = "The store accepts no direct uploads; send the photograph to the CDN."


class OriginalExists(GalerlyError):
    status = 412
    code = "original-exists"
    public = "There is another photograph of this name already; set replace to overwrite it."


class UploadTooLarge(GalerlyError):
    status = 413
    code = "upload-too-large"
    public = "The photograph’s file is larger than the limit for uploads."


class UrlTooLong(GalerlyError):
    status = 414
    code = "url-too-long"
    public = "The address is too long."


class Misdirected(GalerlyError):
    """The Host header is not a name of this machine, most likely because of DNS rebinding."""

    status = 421
    code = "misdirected"
    public = "Without a token, only requests to this machine’s own name are answered."


class TooManyLogins(GalerlyError):
    status = 429
    code = "too-many-logins"
    public = "Too many logins failed; try again in a minute."
    retry_after_s = 60


class HeadersTooLarge(GalerlyError):
    status = 431
    code = "headers-too-large"
    public = "The request's headers are too large."


class RangeNotSatisfiable(GalerlyError):
    status = 416
    code = "range-not-satisfiable"
    public = "The requested range is outside the picture."

    def __init__(self, length_bytes: int) -> None:
        super().__init__()
        self.length_bytes = length_bytes

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"content-range", b"bytes */%d" % self.length_bytes)]  # §15.5.17


class Disconnected(GalerlyError):
    """The client closed the connection: no more can be sent or received. 499 is nginx's, for the logs."""

    status = 499
    code = "disconnected"


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


class StoreRefused(GalerlyError):
    status = 502
    code = "store-refused"
    public = "The store refused access to the photograph."
    retry_after_s = 10


class ClockSkewed(StoreRefused):
    code = "clock-skew"  # this machine's, so that the store refuses what it signs


class StoreCorrupt(StoreRefused):
    """An object was read twice, and both times it was short or differed from what was stored."""

    code = "store-corrupt"
    public = "The store returned a damaged photograph."


class NotInvalidated(GalerlyError):
    """CloudFront may still serve what was removed from the store."""

    status = 502
    code = "not-invalidated"
    public = "The store was changed, but CloudFront’s cache could not be invalidated; purge again."


class Unavailable(GalerlyError):
    status = 503
    code = "unavailable"
    public = "Try again in a moment."
    retry_after_s = 1


class QueueFull(Unavailable):
    """`expected_s`: how long a render would wait now, for `Retry-After` (RFC 9110 §10.2.3)."""

    code = "queue-full"
    public = "Too many pictures are being rendered; try again in a moment."

    def __init__(self, detail: str = "", expected_s: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after_s = max(1, math.ceil(expected_s))


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


class TooManyMisses(Unavailable):
    """One client, or all together, caused more misses than `misses_per_minute…` allows."""

    code = "too-many-misses"
    public = "Too many new pictures were requested; try again in a moment."


class TooManyConnections(Unavailable):
    code = "too-many-connections"
    public = "Too many connections are open; try again in a moment."


class RenderFailed(GalerlyError):
    status = 504
    code = "render-failed"
    public = "The picture could not be rendered in time."


class RenderTimeout(RenderFailed):
    code = "render-timeout"


class WorkerDied(RenderFailed):
    code = "worker-died"
    public = "The picture could not be rendered."


class CommandError(GalerlyError):
    code = "command"
    public = "The command failed."


class SettingsError(CommandError):
    """Unknown or invalid settings; `problems` has one line for each."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CdnUnreachable(CommandError):
    code = "cdn-unreachable"
    public = "The admin API cannot be reached."


class CdnInterrupted(CommandError):
    """The connection ended or timed out before the response was complete: the change may have been made."""

    code = "cdn-interrupted"
    public = "The admin API’s response is incomplete; run the command again."


class UnexpectedAnswer(CommandError):
    """The response is not from an admin API, or from another version of it."""

    code = "unexpected-answer"
    public = "The server at this address is not a compatible admin API."
