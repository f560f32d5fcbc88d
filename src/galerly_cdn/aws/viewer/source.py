"""The viewer function's source: the edge's tables in front of viewer.js, small enough for CloudFront.

Sizes, names, formats, preference, limits, errors and headers are those of the package; the rules are
written a second time, in JavaScript, and held to the Python ones by `tests/test_viewer.py`.
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
from galerly_cdn.http import negotiation, responses, urls
from galerly_cdn.model import PREFERENCE

if TYPE_CHECKING:
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.settings.table import Settings

MAX_BYTES = 10_240
"""CloudFront Functions: maximum function size, comments included."""
_ANSWERS: tuple[type[GalerlyError], ...] = (
    FormatNotAllowed,
    MalformedKey,
    MethodNotAllowed,
    SignatureInvalid,
    SignatureRequired,
    SizeNotAllowed,
    UnknownPath,
)
_OF_EACH = {b"allow", b"cache-control", b"content-length"}
"""Headers that differ from error to error, or that CloudFront writes itself."""


def function(settings: Settings, *, signed: bool) -> str:
    """A CloudFront Function: a synchronous global `handler(event)` for viewer requests and responses.

    `signed`: for behaviours on which CloudFront has verified a signature. Raises `SettingsError` for
    settings that make it larger than CloudFront takes.
    """
    source = _source(settings, "viewer.js", signed=signed)
    if len(source) > MAX_BYTES:
        told = f"the viewer function would have {len(source)} bytes, CloudFront takes {MAX_BYTES}"
        raise SettingsError([f"sizes, private_prefixes: {told}; list fewer"])
    return source


def lambda_edge(settings: Settings, *, signed: bool) -> str:
    """The same as a Lambda@Edge handler for Node.js: `exports.handler`."""
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
    secret = responses.failure(SignatureRequired(), "", settings, is_private=True)
    return {
        "names": {rule.name: str(rule.size) for rule in rules if rule.name},
        "sizes": {str(rule.size): list(rule.qualities) for rule in rules},
        "preference": PREFERENCE,
        "maxKeyBytes": urls.MAX_KEY_BYTES,
        "maxAcceptBytes": negotiation.MAX_ACCEPT_BYTES,
        "privateFolders": authorizer.private_folders(settings.private_prefixes),
        "signsOriginals": settings.sign_originals,
        "privateLifetime": responses.PRIVATE.decode(),
        "publicLifetime": responses.IMMUTABLE.decode(),
        "headers": _shared(responses.failure(UnknownPath(), "", settings).headers),
        "secretHeaders": _shared(secret.headers),
        "errors": {error.code: _told(error(), settings) for error in _ANSWERS},
    }


def _told(error: GalerlyError, settings: Settings) -> dict[str, Any]:
    """What distinguishes an error's answer from the others'."""
    own = dict(responses.failure(error, "", settings).headers)
    told = {
        "status": error.status,
        "reason": HTTPStatus(error.status).phrase,
        "message": error.public,
        "lifetime": own[b"cache-control"].decode(),
    }
    return told | ({"allow": own[b"allow"].decode()} if b"allow" in own else {})


def _shared(headers: responses.Headers) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers if name not in _OF_EACH}
