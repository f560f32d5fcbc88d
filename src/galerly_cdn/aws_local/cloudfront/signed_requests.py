"""Verifies a viewer's signed URL or signed cookies, and removes the signature from the request.

`galerly_cdn.access.signing` implements CloudFront's rules. They apply to the URL as the viewer sent it,
before a viewer function runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.access.signing import PARAMETER_NAMES, Verifier
from galerly_cdn.aws_local.http.viewer_exchange import Outcome, ViewerRequest, error
from galerly_cdn.errors import GalerlyError, SignatureRequired
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.access.signing import PublicKey

_COOKIE = "CloudFront-"


def refusal(keys: Mapping[str, PublicKey], request: ViewerRequest, now_s: float) -> Outcome | None:
    """CloudFront's 403, unless one of the keys has signed the URL for this viewer and time."""
    verifier = Verifier(keys, [f"{request.scheme}://{request.host}"])
    try:
        verifier.verify(
            request.raw_path.encode("latin-1"),
            request.query.encode("latin-1"),
            request.headers.get("cookie", "").encode("latin-1"),
            client=request.client,
            now_s=now_s,
        )
    except SignatureRequired:
        return error(403, "MissingKey", "Missing Key-Pair-Id query parameter or cookie value")
    except GalerlyError:
        return error(403, "AccessDenied", "Access denied")
    return None


def without_signature(request: ViewerRequest) -> ViewerRequest:
    """The request as functions and origins get it: without the signature's parameters and cookies."""
    query = "&".join(
        part for part in request.query.split("&") if part.partition("=")[0] not in PARAMETER_NAMES
    )
    cookies = [part.strip(" ") for part in request.headers.get("cookie", "").split(";")]
    left = "; ".join(part for part in cookies if part and not _is_mark(part))
    headers = {name: value for name, value in request.headers.items() if name != "cookie"}
    return replaced(request, query=query, headers=headers | ({"cookie": left} if left else {}))


def _is_mark(cookie: str) -> bool:
    name = cookie.partition("=")[0]
    return name.startswith(_COOKIE) and name.removeprefix(_COOKIE) in PARAMETER_NAMES
