"""Which behaviour is an address's, and does it let the request in at all? Pure.

Source: the CloudFront Developer Guide, "Cache behavior settings": Path pattern, Viewer protocol policy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.http.viewer_exchange import Outcome, ViewerRequest, ViewerResponse, error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.aws_local.cloudfront.distribution import Behavior

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")


def choose(behaviors: Iterable[Behavior], raw_path: str) -> Behavior:
    """The first behaviour whose pattern takes the normalised path; the last takes all."""
    path = normalized_path(raw_path)
    return next(one for one in behaviors if matches(one.pattern, path))


def matches(pattern: str, path: str) -> bool:
    """`*` for any characters, slashes too, `?` for one; case counts, a leading slash may be left out."""
    rooted = pattern if pattern.startswith(("/", "*")) else f"/{pattern}"
    told = re.escape(rooted).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(told, path, re.DOTALL) is not None


def normalized_path(raw_path: str) -> str:
    """RFC 3986 §6.2.2: unreserved characters unescaped, then dot segments and doubled slashes gone.

    What travels on to the function and the origin is the raw path.
    """
    segments: list[str] = []
    path = _ESCAPE.sub(_unescaped, raw_path)
    for segment in path.split("/"):
        if segment == "..":
            segments[-1:] = []
        elif segment not in {"", "."}:
            segments.append(segment)
    is_folder = path.endswith(("/", "/.", "/..")) and segments
    return "/" + "/".join(segments) + ("/" if is_folder else "")


def refusal(behavior: Behavior, request: ViewerRequest, https_port: int) -> Outcome | None:
    """The response to a scheme, a method or a body that the behaviour does not take."""
    if request.scheme == "http" and behavior.protocol == "redirect-to-https":
        return _redirect(request, https_port)
    if request.scheme == "http" and behavior.protocol == "https-only":
        return error(403, "AccessDenied", "This distribution is not configured to allow HTTP.")
    if request.method not in behavior.methods:
        return error(403, "AccessDenied", "The request method is not allowed.")
    if request.has_body:
        return error(403, "AccessDenied", "A GET or HEAD request has no body.")
    return None


def _redirect(request: ViewerRequest, https_port: int) -> Outcome:
    """301; 307 keeps a method that is not to become GET."""
    name = re.sub(r":\d+$", "", request.host)
    host = name if https_port == 443 else f"{name}:{https_port}"
    status = 301 if request.method in {"GET", "HEAD"} else 307
    headers = {
        "location": f"https://{host}{request.target}",
        "content-type": "text/html",
        "server": "CloudFront",
    }
    return Outcome(ViewerResponse(status, headers), "Redirect")


def _unescaped(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if _UNRESERVED.fullmatch(character) else found[0].upper()
