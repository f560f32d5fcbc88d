"""The errors: each knows its status, its code, its public sentence, and how long it may be cached."""

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

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response headers that belong to this error, beside those of every error response."""
        if self.retry_after_s is None:
            return []
        return [(b"retry-after", b"%d" % self.retry_after_s)]


def by_code() -> dict[str, type[GalerlyError]]:
    """Every error class by its code: how an error crosses from a worker process to the server."""
    found: dict[str, type[GalerlyError]] = {}
    pending: list[type[GalerlyError]] = [GalerlyError]
    while pending:
        kind = pending.pop()
        found[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return found


class BadRequest(GalerlyError):
    status = 400
    code = "bad-request"
    public = "The request is malformed."


class MalformedKey(BadRequest):
    code = "malformed-key"
    public = "The picture's name in the address is malformed."


class EmptyUpload(BadRequest):
    code = "empty-upload"
    public = "The upload holds no bytes."


class MalformedChecksum(BadRequest):
    """Unreadable, or of a kind that is not verified here: passing over it would be to agree with it."""

    code = "malformed-checksum"
    public = "The upload’s checksum cannot be read, or is of a kind that is not verified here."


class MalformedQuery(BadRequest):
    code = "malformed-query"
    public = "The address asks with a parameter that is unknown, impossible or told twice."


class MalformedBody(BadRequest):
    code = "malformed-body"
    public = "The request’s body is not the JSON that is taken here."


class ChecksumMismatch(BadRequest):
    code = "checksum-mismatch"
    public = "The upload’s bytes are not those its checksum was made from; send it again."


class Unauthorized(GalerlyError):
    status = 401
    code = "unauthorized"
    public = "The admin token is needed here, as Authorization’s bearer token."

    def headers(self) -> list[tuple[bytes, bytes]]:
        """With the scheme that is accepted (RFC 9110 §11.6.1, RFC 6750 §3)."""
        return [*super().headers(), (b"www-authenticate", b"Bearer")]


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
    """A page of another site asks, by the browser of somebody who may."""

    code = "cross-site"
    public = "Pages of other sites are not answered here."


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


class NoSuchUpload(NotFound):
    code = "no-such-upload"
    public = "There is no such upload; it never arrived, or it was completed."


class MethodNotAllowed(GalerlyError):
    """`allowed` are the methods that are answered at the address (RFC 9110 §10.2.1)."""

    status = 405
    code = "method-not-allowed"
    public = "This method is not answered at this address."

    def __init__(self, detail: str = "", allowed: tuple[str, ...] = ("GET", "HEAD")) -> None:
        super().__init__(detail)
        self.allowed = allowed

    def headers(self) -> list[tuple[bytes, bytes]]:
        """With the allowed methods, which RFC 9110 §15.5.6 requires."""
        return [*super().headers(), (b"allow", ", ".join(self.allowed).encode())]


class ReadOnlyStore(MethodNotAllowed):
    code = "read-only-store"
    public = "These photographs can only be read here."


class TooSlow(GalerlyError):
    status = 408
    code = "too-slow"
    public = "The request did not arrive in time."


class HeadersTooSlow(TooSlow):
    code = "headers-too-slow"


class BodyTooSlow(TooSlow):
    code = "body-too-slow"


class KeyNotHeld(GalerlyError):
    """A twin by case or normalisation, too long a segment, a file where a folder is: never mapped."""

    status = 409
    code = "key-not-held"
    public = "The store cannot hold a photograph of exactly this name."


class NoDirectUploads(GalerlyError):
    """A folder has no addresses of its own."""

    status = 409
    code = "no-direct-uploads"
    public = "The store takes no uploads by itself; send the photograph here."


class OriginalExists(GalerlyError):
    status = 412
    code = "original-exists"
    public = "There is another photograph of this name already; say replace if it is to go."


class UploadTooLarge(GalerlyError):
    status = 413
    code = "upload-too-large"
    public = "The photograph’s file is larger than uploads may be."


class UrlTooLong(GalerlyError):
    status = 414
    code = "url-too-long"
    public = "The address is too long."


class Misdirected(GalerlyError):
    """A name that is not this machine's leads here: DNS rebinding, most likely."""

    status = 421
    code = "misdirected"
    public = "Without a token only requests for this machine’s own name are answered."


class HeadersTooLarge(GalerlyError):
    status = 431
    code = "headers-too-large"
    public = "The request's headers are too large."


class RangeNotSatisfiable(GalerlyError):
    status = 416
    code = "range-not-satisfiable"
    public = "The requested range lies outside the picture."

    def __init__(self, length_bytes: int) -> None:
        super().__init__()
        self.length_bytes = length_bytes

    def headers(self) -> list[tuple[bytes, bytes]]:
        """With the current length (RFC 9110 §15.5.17)."""
        return [*super().headers(), (b"content-range", b"bytes */%d" % self.length_bytes)]


class Disconnected(GalerlyError):
    """Whoever asked has left: nothing more of the answer can be sent, nothing more of a body will come."""

    code = "disconnected"


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


class StoreRefused(GalerlyError):
    status = 502
    code = "store-refused"
    public = "The store refused access to the photograph."


class StoreCorrupt(StoreRefused):
    """What came is short, or not what was stored, at the second try too."""

    code = "store-corrupt"
    public = "The store handed out a damaged photograph."


class NotInvalidated(GalerlyError):
    """What was removed from the store may still be handed out by CloudFront."""

    status = 502
    code = "not-invalidated"
    public = "The store has changed, but CloudFront could not be told to forget what it holds; purge again."


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


class TooManyMisses(Unavailable):
    """One address, or all together, asked for more new pictures than `misses_per_minute…` allows."""

    code = "too-many-misses"
    public = "Too many new pictures are being asked for; try again in a moment."


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


class CommandError(GalerlyError):
    code = "command"
    public = "The command could not do this."


class SettingsError(CommandError):
    """Unknown or impossible settings; `problems` holds one clear line for each."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CdnUnreachable(CommandError):
    """Nothing answers at the address of a running CDN's admin side."""

    code = "cdn-unreachable"
    public = "The CDN’s admin side cannot be reached."


class CdnInterrupted(CommandError):
    """The connection ended, or nothing came, before the answer did: it may or may not have been done."""

    code = "cdn-interrupted"
    public = "The CDN’s admin side did not answer to the end; run it again."


class UnexpectedAnswer(CommandError):
    """What answers is no admin side, or speaks another version of its language."""

    code = "unexpected-answer"
    public = "What answered is no admin side that is understood here."


class AwsMissing(CommandError):
    """boto3 is an extra; `detail` says how to install it."""

    code = "aws-missing"
    public = "This needs boto3, which is not installed."


class AwsRefused(CommandError):
    """AWS did not do what it was asked; `detail` has its own words."""

    code = "aws-refused"
    public = "AWS refused."


class DeploymentFailed(CommandError):
    """The stack is not what was asked for; `detail` says what, why, and what to do."""

    code = "deployment-failed"
    public = "The deployment failed."


class BuildFailed(CommandError):
    """What AWS is to be given could not be made."""

    code = "build-failed"
    public = "The package could not be built."
