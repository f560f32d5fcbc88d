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


class ChecksumMismatch(BadRequest):
    code = "checksum-mismatch"
    public = "The upload’s bytes are not those its checksum was made from; send it again."


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
