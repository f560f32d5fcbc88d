"""Implements CreateInvalidation and GetInvalidation of the CloudFront API. Nothing else of it is modelled.

REST with XML (CloudFront API Reference 2020-05-31, CreateInvalidation and GetInvalidation; "Common errors").
An invalidation takes effect at once, as there is one location: it is InProgress in the response that creates
it, and Completed in every later one.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from botocore.credentials import Credentials

from galerly_cdn.aws_local.cloudformation.stack import REGION
from galerly_cdn.aws_local.http import sigv4
from galerly_cdn.aws_local.http.origin_exchange import OriginResponse
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.aws_local.cloudfront.cache import Cache
    from galerly_cdn.aws_local.cloudfront.distribution import Distribution
    from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity
    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest

    IsAllowed = Callable[[str, str], bool]
    """Whether the caller may perform an action on a resource."""

_PATH = re.compile(r"/2020-05-31/distribution/(?P<distribution>[^/]+)/invalidation(?:/(?P<id>[^/]+))?")
_OPERATIONS = {
    ("POST", False): "CreateInvalidation",
    ("GET", False): "ListInvalidations",
    ("GET", True): "GetInvalidation",
}
"""By method, and whether the path names an invalidation."""
_NAMESPACE = "http://cloudfront.amazonaws.com/doc/2020-05-31/"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


class _ApiError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class InvalidationBatch(Value, frozen=True):
    """The paths and tags to invalidate, and the caller's reference, by which a retry is recognised."""

    items: tuple[str, ...]
    reference: str


class CreatedInvalidation(Value, frozen=True):
    """An invalidation, and when it was created, in seconds of the epoch."""

    id: str
    batch: InvalidationBatch
    created_s: float


@dataclass(frozen=True)
class ApiEndpoint:
    """The API for one caller, with the caller's permissions."""

    api: InvalidationApi
    is_allowed: IsAllowed

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """CloudFront's response; it never raises."""
        try:
            return self.api.respond(request, self.is_allowed)
        except _ApiError as error:
            description = (
                f"<Type>Sender</Type><Code>{error.code}</Code><Message>{escape(str(error))}</Message>"
            )
            content = f"<Error>{description}</Error><RequestId>{secrets.token_hex(16)}</RequestId>"
            return _xml(error.status, f'<ErrorResponse xmlns="{_NAMESPACE}">{content}</ErrorResponse>')


class InvalidationApi:
    """The API of one distribution.

    Requests must be signed with the credentials of `identity`. `clock` returns seconds of the epoch.
    """

    def __init__(
        self, cache: Cache, distribution: Distribution, identity: Identity, clock: Callable[[], float]
    ) -> None:
        self._cache = cache
        self._id, self._arn = distribution.id, distribution.arn
        self._credentials = Credentials(identity.access_key, identity.secret_key)
        self._clock = clock
        self._invalidations: dict[str, CreatedInvalidation] = {}

    def endpoint(self, is_allowed: IsAllowed = lambda _action, _resource: True) -> ApiEndpoint:
        """The API for one caller. By default the caller is the account's owner, who may do everything."""
        return ApiEndpoint(self, is_allowed)

    def respond(self, request: OriginRequest, is_allowed: IsAllowed) -> OriginResponse:
        """Raises `_ApiError`."""
        if not sigv4.is_signed(request, self._credentials, "cloudfront", REGION):
            raise _ApiError(403, "SignatureDoesNotMatch", "The signature does not match.")
        path = _PATH.fullmatch(request.raw_path)
        operation = path and _OPERATIONS.get((request.method, path["id"] is not None))
        if path is None or operation is None:
            raise _ApiError(400, "InvalidAction", f"{request.method} {request.raw_path} is not modelled.")
        arn = f"{self._arn.rpartition('/')[0]}/{path['distribution']}"
        if not is_allowed(f"cloudfront:{operation}", arn):
            raise _ApiError(
                403, "AccessDenied", f"not authorized to perform: cloudfront:{operation} on {arn}"
            )
        if path["distribution"] != self._id:
            raise _ApiError(404, "NoSuchDistribution", "The specified distribution does not exist.")
        if operation == "CreateInvalidation":
            return self._create(_batch(request.body))
        if operation == "ListInvalidations":
            return self._list()
        return self._get(path["id"])

    def _create(self, batch: InvalidationBatch) -> OriginResponse:
        """Creates an invalidation. The same batch with the same reference is the same invalidation.

        Another batch with that reference is an error.
        """
        for known in self._invalidations.values():
            if known.batch.reference == batch.reference:
                if known.batch != batch:
                    raise _ApiError(
                        400, "InvalidationBatchAlreadyExists", "The reference was used for another batch."
                    )
                return _response(201, known, "Completed")
        try:
            self._cache.invalidate(*batch.items)
        except ValueError as error:
            raise _ApiError(400, "InvalidArgument", f"invalid invalidation paths: {error}") from error
        invalidation = CreatedInvalidation(f"I{secrets.token_hex(8).upper()}", batch, self._clock())
        self._invalidations[invalidation.id] = invalidation
        return _response(201, invalidation, "InProgress")

    def _list(self) -> OriginResponse:
        """All invalidations in one page, the newest first."""
        summaries = [
            f"<InvalidationSummary><Id>{one.id}</Id><CreateTime>{_created(one)}</CreateTime>"
            "<Status>Completed</Status></InvalidationSummary>"
            for one in reversed(self._invalidations.values())
        ]
        content = (
            f"<Marker/><MaxItems>100</MaxItems><IsTruncated>false</IsTruncated>"
            f"<Quantity>{len(summaries)}</Quantity><Items>{''.join(summaries)}</Items>"
        )
        return _xml(200, f'<InvalidationList xmlns="{_NAMESPACE}">{content}</InvalidationList>')

    def _get(self, invalidation_id: str) -> OriginResponse:
        if invalidation_id not in self._invalidations:
            raise _ApiError(404, "NoSuchInvalidation", "The specified invalidation does not exist.")
        return _response(200, self._invalidations[invalidation_id], "Completed")


def _batch(body: bytes) -> InvalidationBatch:
    """The batch in a request's XML. Raises `_ApiError`."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - signed with the credentials of the account
    except ET.ParseError as error:
        raise _ApiError(400, "MalformedXML", str(error)) from error
    items = [one.text or "" for one in root.iterfind("{*}Paths/{*}Items/{*}Path")]
    reference = root.findtext("{*}CallerReference", "")
    if root.findtext("{*}Paths/{*}Quantity") != str(len(items)):
        raise _ApiError(400, "InconsistentQuantities", "Quantity and the number of Items differ.")
    if not items or not reference:
        raise _ApiError(400, "InvalidArgument", "Paths and a CallerReference are needed.")
    return InvalidationBatch(tuple(items), reference)


def _response(status: int, invalidation: CreatedInvalidation, state: str) -> OriginResponse:
    items = "".join(f"<Path>{escape(one)}</Path>" for one in invalidation.batch.items)
    paths = f"<Paths><Quantity>{len(invalidation.batch.items)}</Quantity><Items>{items}</Items></Paths>"
    batch = f"{paths}<CallerReference>{escape(invalidation.batch.reference)}</CallerReference>"
    created = f"<CreateTime>{_created(invalidation)}</CreateTime>"
    properties = f"<Id>{invalidation.id}</Id><Status>{state}</Status>{created}"
    batch = f"<InvalidationBatch>{batch}</InvalidationBatch>"
    return _xml(status, f'<Invalidation xmlns="{_NAMESPACE}">{properties}{batch}</Invalidation>')


def _created(invalidation: CreatedInvalidation) -> str:
    return datetime.fromtimestamp(invalidation.created_s, UTC).isoformat()


def _xml(status: int, text: str) -> OriginResponse:
    return OriginResponse(status, {"content-type": "text/xml"}, (_XML + text).encode())
