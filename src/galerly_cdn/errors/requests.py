"""Defines the errors of requests: malformed, not allowed, too large, too many. Pure."""

from __future__ import annotations

import math

from galerly_cdn.errors.galerly_error import GalerlyError


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


class TooSlow(GalerlyError):
    status = 408
    code = "too-slow"
    public = "The request did not arrive in time."


class HeadersTooSlow(TooSlow):
    code = "headers-too-slow"


class BodyTooSlow(TooSlow):
    code = "body-too-slow"


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


class TooManyMisses(Unavailable):
    """One client, or all together, caused more misses than `misses_per_minute…` allows."""

    code = "too-many-misses"
    public = "Too many new pictures were requested; try again in a moment."


class TooManyConnections(Unavailable):
    code = "too-many-connections"
    public = "Too many connections are open; try again in a moment."
