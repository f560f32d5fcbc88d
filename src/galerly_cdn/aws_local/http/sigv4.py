"""Verifies AWS Signature Version 4: botocore signs the same request again, and the signatures are compared.

Source: the IAM User Guide, "AWS Signature Version 4 for API requests". The age of a signature is not checked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest

if TYPE_CHECKING:
    from botocore.credentials import Credentials

    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<scope>[0-9]{8}/[^,]+), ?"
    r"SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_CONTENT_HASH = "x-amz-content-sha256"
"""The header with the hash of the body. botocore signs its value without comparing it with the body, so it is
compared here. S3 requires it to be signed; for other services a signed one is refused.
"""
_UNSIGNED = "UNSIGNED-PAYLOAD"
"""The header's value where the body is not signed, which S3 accepts over TLS."""


def is_signed(request: OriginRequest, credentials: Credentials, service: str, region: str) -> bool:
    """Whether the request is signed with these credentials, for this service and region."""
    authorization = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if authorization is None or authorization["id"] != credentials.access_key:
        return False
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, region)
    received = {"host": request.host, **request.headers}
    signed = authorization["headers"].split(";")
    if (
        "host" not in signed
        or not set(signed) <= received.keys()
        or not _has_valid_hash(request, service, signed)
    ):
        return False
    query = f"?{request.query}" if request.query else ""
    draft = AWSRequest(
        method=request.method,
        url=f"{request.scheme}://{request.host}{request.raw_path}{query}",
        headers={name: received[name] for name in signed},
        data=request.body,
    )
    draft.context["timestamp"] = request.headers.get("x-amz-date", "")
    if authorization["scope"] != signer.credential_scope(draft):
        return False
    string_to_sign = signer.string_to_sign(draft, signer.canonical_request(draft))
    return hmac.compare_digest(authorization["signature"], str(signer.signature(string_to_sign, draft)))


def _has_valid_hash(request: OriginRequest, service: str, signed: list[str]) -> bool:
    """Whether the hash that is signed is the hash of the body, or S3's mark of an unsigned body."""
    if service != "s3":
        return _CONTENT_HASH not in signed
    content_hash = request.headers.get(_CONTENT_HASH)
    return _CONTENT_HASH in signed and content_hash in {_UNSIGNED, hashlib.sha256(request.body).hexdigest()}
