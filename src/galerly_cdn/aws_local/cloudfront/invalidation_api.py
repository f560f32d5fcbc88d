"""What does CloudFront's own API answer? Invalidations are made and asked after; nothing else is modelled.

REST with XML (CloudFront API Reference 2020-05-31, CreateInvalidation and GetInvalidation; "Common errors").
An invalidation is in progress when it was made, and completed when somebody asks: here is one location.
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

    May = Callable[[str, str], bool]
    """Whether who asks may take an action on a resource."""

_PATH = re.compile(r"/2020-05-31/distribution/(?P<distribution>[^/]+)/invalidation(?:/(?P<id>[^/]+))?")
_NAMESPACE = "http://cloudfront.amazonaws.com/doc/2020-05-31/"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class InvalidationBatch(Value, frozen=True):
    """What is to be forgotten, and by which reference of the caller's."""

    items: tuple[str, ...]
    reference: str


class CreatedInvalidation(Value, frozen=True):
    """An invalidation, and since when: seconds of the epoch."""

    id: str
    batch: InvalidationBatch
    since_s: float


@dataclass(frozen=True)
class ApiEndpoint:
    """The API as one caller meets it."""

    control: InvalidationApi
    may: May

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """CloudFront's response; it never raises."""
        try:
            return self.control.respond(request, self.may)
        except _Refused as refused:
            told = f"<Type>Sender</Type><Code>{refused.code}</Code><Message>{escape(str(refused))}</Message>"
            own = f"<Error>{told}</Error><RequestId>{secrets.token_hex(16)}</RequestId>"
            return _xml(refused.status, f'<ErrorResponse xmlns="{_NAMESPACE}">{own}</ErrorResponse>')


class InvalidationApi:
    """The API of one distribution; `identity` is who has to sign, `clock` tells seconds of the epoch."""

    def __init__(
        self, cache: Cache, distribution: Distribution, identity: Identity, clock: Callable[[], float]
    ) -> None:
        self._cache = cache
        self._id, self._arn = distribution.id, distribution.arn
        self._credentials = Credentials(identity.access_key, identity.secret_key)
        self._clock = clock
        self._made: dict[str, CreatedInvalidation] = {}

    def door(self, may: May = lambda _action, _resource: True) -> ApiEndpoint:
        """For one caller; unless told, for whom the account belongs to."""
        return ApiEndpoint(self, may)

    def respond(self, request: OriginRequest, may: May) -> OriginResponse:
        """Raises `_Refused`."""
        if not sigv4.is_signed(request, self._credentials, "cloudfront", REGION):
            raise _Refused(403, "SignatureDoesNotMatch", "The signature does not match.")
        asked = _PATH.fullmatch(request.raw_path)
        operation = asked and {("POST", False): "CreateInvalidation", ("GET", True): "GetInvalidation"}.get(
            (request.method, asked["id"] is not None)
        )
        if asked is None or operation is None:
            raise _Refused(400, "InvalidAction", f"{request.method} {request.raw_path} is not modelled.")
        arn = f"{self._arn.rpartition('/')[0]}/{asked['distribution']}"
        if not may(f"cloudfront:{operation}", arn):
            raise _Refused(403, "AccessDenied", f"not authorized to perform: cloudfront:{operation} on {arn}")
        if asked["distribution"] != self._id:
            raise _Refused(404, "NoSuchDistribution", "The specified distribution does not exist.")
        if operation == "CreateInvalidation":
            return self._create(_batch(request.body))
        return self._get(asked["id"])

    def _create(self, batch: InvalidationBatch) -> OriginResponse:
        """The same batch under the same reference is the same invalidation, and another is an error."""
        for known in self._made.values():
            if known.batch.reference == batch.reference:
                if known.batch != batch:
                    raise _Refused(400, "InvalidationBatchAlreadyExists", "The reference was used before.")
                return _told(201, known, "Completed")
        try:
            self._cache.invalidate(*batch.items)
        except ValueError as error:
            raise _Refused(400, "InvalidArgument", f"invalid invalidation paths: {error}") from error
        made = CreatedInvalidation(f"I{secrets.token_hex(8).upper()}", batch, self._clock())
        self._made[made.id] = made
        return _told(201, made, "InProgress")

    def _get(self, own_id: str) -> OriginResponse:
        if own_id not in self._made:
            raise _Refused(404, "NoSuchInvalidation", "The specified invalidation does not exist.")
        return _told(200, self._made[own_id], "Completed")


def _batch(body: bytes) -> InvalidationBatch:
    """The batch that XML tells. Raises `_Refused`."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - signed by whom the account belongs to
    except ET.ParseError as error:
        raise _Refused(400, "MalformedXML", str(error)) from error
    items = [one.text or "" for one in root.iterfind("{*}Paths/{*}Items/{*}Path")]
    reference = root.findtext("{*}CallerReference", "")
    if root.findtext("{*}Paths/{*}Quantity") != str(len(items)):
        raise _Refused(400, "InconsistentQuantities", "Quantity and the number of Items differ.")
    if not items or not reference:
        raise _Refused(400, "InvalidArgument", "Paths and a CallerReference are needed.")
    return InvalidationBatch(tuple(items), reference)


def _told(status: int, made: CreatedInvalidation, state: str) -> OriginResponse:
    items = "".join(f"<Path>{escape(one)}</Path>" for one in made.batch.items)
    paths = f"<Paths><Quantity>{len(made.batch.items)}</Quantity><Items>{items}</Items></Paths>"
    own = f"{paths}<CallerReference>{escape(made.batch.reference)}</CallerReference>"
    since = datetime.fromtimestamp(made.since_s, UTC).isoformat()
    told = f"<Id>{made.id}</Id><Status>{state}</Status><CreateTime>{since}</CreateTime>"
    batched = f"<InvalidationBatch>{own}</InvalidationBatch>"
    return _xml(status, f'<Invalidation xmlns="{_NAMESPACE}">{told}{batched}</Invalidation>')


def _xml(status: int, text: str) -> OriginResponse:
    return OriginResponse(status, {"content-type": "text/xml"}, (_XML + text).encode())
