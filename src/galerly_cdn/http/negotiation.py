"""Which format a viewer's `Accept` header chooses (RFC 9110 §12.5.1).

Taken means named with q > 0; relative q is ignored, AVIF goes before WebP. Wildcards promise
neither: browsers that cannot show AVIF send `image/*` and `*/*` too.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from galerly_cdn.model import PREFERENCE

if TYPE_CHECKING:
    from galerly_cdn.model import Format

MAX_ACCEPT_BYTES = 4096
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEDIA_RANGE = re.compile(_TOKEN + rb"/" + _TOKEN)
# A quoted string counts as malformed: no browser sends one, and around a quoted comma parsers disagree.
_PARAMETER = re.compile(_TOKEN + rb"=" + _TOKEN)
_WEIGHT = re.compile(rb"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


@functools.lru_cache(maxsize=1024)
def negotiate(accept: bytes, offered: tuple[Format, ...]) -> Format | None:
    """The format to answer with; None is the original's *own* (PNG if it has alpha, else JPEG)."""
    taken = _taken(accept)
    return next((one for one in PREFERENCE if one in taken and one in offered), None)


def _taken(accept: bytes) -> frozenset[Format]:
    """The formats named with q > 0. A malformed header is `*/*`, which names none."""
    if len(accept) > MAX_ACCEPT_BYTES:
        return frozenset()
    taken: dict[bytes, bool] = {}
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
            return frozenset()
        taken[media_range] = taken.get(media_range, True) and all(float(weight) > 0 for weight in weights)
    return frozenset(one for one in PREFERENCE if taken.get(one.media_type.encode()))
