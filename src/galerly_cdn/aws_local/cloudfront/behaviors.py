"""Chooses the cache behaviour of a path, and refuses requests that the behaviour does not allow.

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
    """The first behaviour whose pattern matches the normalised path. The last one matches every path."""
    path = normalized_path(raw_path)
    return next(behavior for behavior in behaviors if matches(behavior.path_pattern, path))


def matches(pattern: str, path: str) -> bool:
    """Whether a path matches a path pattern.

    `*` matches any characters, slashes too; `?` matches one character. Matching is case-sensitive. The
    pattern's leading slash is optional.
    """
    rooted = pattern if pattern.startswith(("/", "*")) else f"/{pattern}"
    expression = re.escape(rooted).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, path, re.DOTALL) is not None


def normalized_path(raw_path: str) -> str:
    """The path, normalised to choose a behaviour (RFC 3986 §6.2.2).

    Unreserved characters are decoded, then dot segments and repeated slashes are removed. The function and
    the origin get the raw path.
    """
    segments: list[str] = []
    path = _ESCAPE.sub(_decoded, raw_path)
    for segment in path.split("/"):
        if segment == "..":
            segments[-1:] = []
        elif segment not in {"", "."}:
            segments.append(segment)
    is_folder = path.endswith(("/", "/.", "/..")) and segments
    return "/" + "/".join(segments) + ("/" if is_folder else "")


def refusal(behavior: Behavior, request: ViewerRequest, https_port: int) -> Outcome | None:
    """The response to a scheme, method or body that the behaviour does not allow; None if it allows them."""
    if request.scheme == "http" and behavior.viewer_protocol_policy == "redirect-to-https":
        return _redirect(request, https_port)
    if request.scheme == "http" and behavior.viewer_protocol_policy == "https-only":
        return error(403, "AccessDenied", "This distribution is not configured to allow HTTP.")
    if request.method not in behavior.allowed_methods:
        return error(403, "AccessDenied", "The request method is not allowed.")
    if request.has_body:
        return error(403, "AccessDenied", "A GET or HEAD request has no body.")
    return None


def _redirect(request: ViewerRequest, https_port: int) -> Outcome:
    """301 for GET and HEAD, 307 for other methods: after a 301 a client may change the method to GET."""
    name = re.sub(r":\d+$", "", request.host)
    host = name if https_port == 443 else f"{name}:{https_port}"
    status = 301 if request.method in {"GET", "HEAD"} else 307
    headers = {
        "location": f"https://{host}{request.target}",
        "content-type": "text/html",
        "server": "CloudFront",
    }
    return Outcome(ViewerResponse(status, headers), "Redirect")


def _decoded(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()
