"""Is a request signed by whom it names? The signature is made again, by botocore, and compared. Pure.

Source: the IAM User Guide, "AWS Signature Version 4 for API requests". How old a signature is nobody asks.
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
_TOLD_HASH = "x-amz-content-sha256"
"""botocore would believe it: S3's, which has to be signed, is compared with the body, all others refused."""
_UNSIGNED = "UNSIGNED-PAYLOAD"
"""S3 takes a body that is not signed, over TLS."""


def is_signed(request: OriginRequest, credentials: Credentials, service: str, region: str) -> bool:
    """Whether the signature is the one that these credentials make of the same request."""
    told = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if told is None or told["id"] != credentials.access_key:
        return False
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, region)
    received = {"host": request.host, **request.headers}
    signed = told["headers"].split(";")
    if "host" not in signed or not set(signed) <= received.keys() or not _is_hashed(request, service, signed):
        return False
    query = f"?{request.query}" if request.query else ""
    again = AWSRequest(
        method=request.method,
        url=f"{request.scheme}://{request.host}{request.raw_path}{query}",
        headers={name: received[name] for name in signed},
        data=request.body,
    )
    again.context["timestamp"] = request.headers.get("x-amz-date", "")
    if told["scope"] != signer.credential_scope(again):
        return False
    text = signer.string_to_sign(again, signer.canonical_request(again))
    return hmac.compare_digest(told["signature"], str(signer.signature(text, again)))


def _is_hashed(request: OriginRequest, service: str, signed: list[str]) -> bool:
    """Whether what is signed of the body's hash is true."""
    if service != "s3":
        return _TOLD_HASH not in signed
    told = request.headers.get(_TOLD_HASH)
    return _TOLD_HASH in signed and told in {_UNSIGNED, hashlib.sha256(request.body).hexdigest()}
