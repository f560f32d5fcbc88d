"""Builds the viewer function's source: the edge's tables, followed by viewer.js.

Sizes, names, formats, preference, limits, errors and headers come from the package. The rules are written a
second time, in JavaScript; tests/unit/aws/test_viewer_function.py compares them with the Python edge.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Any

from galerly_cdn.access import authorizer
from galerly_cdn.errors import (
    FormatNotAllowed,
    MalformedKey,
    MethodNotAllowed,
    SettingsError,
    SignatureInvalid,
    SignatureRequired,
    SizeNotAllowed,
    UnknownPath,
)
from galerly_cdn.http import lifetimes, negotiation, responses, urls
from galerly_cdn.model import PREFERENCE

if TYPE_CHECKING:
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.settings.table import Settings

MAX_BYTES = 10_240
"""CloudFront Functions quota: maximum size of a function, with comments."""
_ERRORS: tuple[type[GalerlyError], ...] = (
    FormatNotAllowed,
    MalformedKey,
    MethodNotAllowed,
    SignatureInvalid,
    SignatureRequired,
    SizeNotAllowed,
    UnknownPath,
)
_OWN_HEADERS = {b"allow", b"cache-control", b"content-length"}
"""Headers that differ between errors, or that CloudFront writes itself."""


def function(settings: Settings, *, signed: bool) -> str:
    """A CloudFront Function: a synchronous global `handler(event)` for viewer requests and responses.

    `signed` is for behaviours on which CloudFront has verified a signature. Raises `SettingsError` if the
    settings make the function larger than `MAX_BYTES`.
    """
    source = _source(settings, "viewer.js", signed=signed)
    if len(source) > MAX_BYTES:
        problem = f"the viewer function would have {len(source)} bytes, CloudFront takes {MAX_BYTES}"
        raise SettingsError([f"sizes, private_prefixes: {problem}; list fewer"])
    return source


def lambda_edge(settings: Settings, *, signed: bool) -> str:
    """The same function as a Lambda@Edge handler for Node.js: `exports.handler`."""
    return _source(settings, "viewer.js", "viewer_edge.js", signed=signed)


def _source(settings: Settings, *files: str, signed: bool) -> str:
    tables = json.dumps(_tables(settings), separators=(",", ":"))  # ASCII: U+2028 would end a line
    lines = [f"var TABLES = {tables};", f"var SIGNED = {'true' if signed else 'false'};"]
    for file in files:
        text = resources.files("galerly_cdn.aws.viewer").joinpath(file).read_text("utf-8")
        stripped = (line.strip() for line in text.splitlines())
        lines += [line for line in stripped if line and not line.startswith("//")]
    return "\n".join(lines) + "\n"


def _tables(settings: Settings) -> dict[str, Any]:
    rules = settings.size_rules
    private = responses.failure(SignatureRequired(), "", settings, is_private=True)
    return {
        "names": {rule.name: str(rule.size) for rule in rules if rule.name},
        "sizes": {str(rule.size): list(rule.qualities) for rule in rules},
        "preference": PREFERENCE,
        "maxKeyBytes": urls.MAX_KEY_BYTES,
        "maxAcceptBytes": negotiation.MAX_ACCEPT_BYTES,
        "maxAcceptElements": negotiation.MAX_ACCEPT_ELEMENTS,
        "privateFolders": authorizer.private_folders(settings.private_prefixes),
        "signsOriginals": settings.sign_originals,
        "privateLifetime": lifetimes.PRIVATE.decode(),
        "publicLifetime": lifetimes.IMMUTABLE.decode(),
        "headers": _shared_headers(responses.failure(UnknownPath(), "", settings).headers),
        "secretHeaders": _shared_headers(private.headers),
        "errors": {error.code: _error_entry(error(), settings) for error in _ERRORS},
    }


def _error_entry(error: GalerlyError, settings: Settings) -> dict[str, Any]:
    """The parts of an error response that differ between errors."""
    own = dict(responses.failure(error, "", settings).headers)
    entry = {
        "status": error.status,
        "reason": HTTPStatus(error.status).phrase,
        "message": error.public,
        "lifetime": own[b"cache-control"].decode(),
    }
    return entry | ({"allow": own[b"allow"].decode()} if b"allow" in own else {})


def _shared_headers(headers: responses.Headers) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers if name not in _OWN_HEADERS}
