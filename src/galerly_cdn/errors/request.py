"""The request is at fault: 4xx."""

from __future__ import annotations

from galerly_cdn.errors.root import GalerlyError


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


class Disconnected(GalerlyError):
    """Whoever asked has left: nothing more of the answer can be sent, nothing more of a body will come."""

    code = "disconnected"
