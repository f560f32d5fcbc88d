"""Chooses a picture's format by the viewer's `Accept` header (RFC 9110 §12.5.1). Pure.

A format is accepted if it is named with q > 0. Relative weights are ignored: AVIF is preferred to WebP.
Wildcards accept neither, because browsers that cannot show AVIF send `image/*` and `*/*` too.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from galerly_cdn.model import PREFERENCE

if TYPE_CHECKING:
    from galerly_cdn.model import Format

MAX_ACCEPT_BYTES = 1024
MAX_ACCEPT_ELEMENTS = 32
"""List elements, empty ones too. A header above either limit counts as malformed, because CloudFront bounds
the time of the viewer function."""
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEDIA_RANGE = re.compile(_TOKEN + rb"/" + _TOKEN)
# A quoted string counts as malformed: no browser sends one, and parsers disagree on a quoted comma.
_PARAMETER = re.compile(_TOKEN + rb"=" + _TOKEN)
_WEIGHT = re.compile(rb"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


@functools.lru_cache(maxsize=256)
def accepts_html(accept: bytes) -> bool:
    """Whether `text/html` is named with q > 0, as browsers do for a window; not in a malformed header."""
    return _weights(accept).get(b"text/html", False)


@functools.lru_cache(maxsize=1024)
def negotiate(accept: bytes, offered: tuple[Format, ...]) -> Format | None:
    """The format of the response; None is the original's *own* (PNG if it has alpha, else JPEG)."""
    accepted = _accepted(accept)
    return next((one for one in PREFERENCE if one in accepted and one in offered), None)


def _accepted(accept: bytes) -> frozenset[Format]:
    """The formats that are named with q > 0. A malformed header counts as `*/*`, which names none."""
    accepted = _weights(accept)
    return frozenset(one for one in PREFERENCE if accepted.get(one.media_type.encode()))


def _weights(accept: bytes) -> dict[bytes, bool]:
    """Whether each media range that is named has q > 0; empty for a malformed header."""
    if len(accept) > MAX_ACCEPT_BYTES or accept.count(b",") >= MAX_ACCEPT_ELEMENTS:
        return {}
    accepted: dict[bytes, bool] = {}
    for element in accept.split(b","):
        if not element.strip(b" \t"):
            continue  # RFC 9110 §5.6.1.2: empty list elements are ignored
        media_range, *parameters = (part.strip(b" \t").lower() for part in element.split(b";"))
        weights = [parameter[2:] for parameter in parameters if parameter.startswith(b"q=")]
        is_well_formed = (
            _MEDIA_RANGE.fullmatch(media_range)
            and all(_PARAMETER.fullmatch(parameter) for parameter in parameters if parameter)
            and all(_WEIGHT.fullmatch(weight) for weight in weights)
        )
        if not is_well_formed:
            return {}
        is_accepted = all(float(weight) > 0 for weight in weights)
        accepted[media_range] = accepted.get(media_range, True) and is_accepted
    return accepted
