"""Which format a viewer's `Accept` header chooses (RFC 9110 §12.5.1).

Taken means named with q > 0; relative q is ignored, AVIF goes before WebP. Wildcards promise
neither: browsers that cannot show AVIF send `image/*` and `*/*` too.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from galerly_cdn.model import Format

if TYPE_CHECKING:
    from collections.abc import Collection

_PREFERENCE = (Format.AVIF, Format.WEBP)
_MAX_ACCEPT_BYTES = 4096
_WEIGHT = re.compile(rb"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def negotiate(accept: bytes, offered: Collection[Format]) -> Format | None:
    """The format to answer with; None is the original's *own* (PNG if it has alpha, else JPEG)."""
    taken = _taken(accept)
    return next((one for one in _PREFERENCE if one in taken and one in offered), None)


@functools.lru_cache(maxsize=1024)
def _taken(accept: bytes) -> frozenset[Format]:
    """The formats named with q > 0. A malformed header is `*/*`, which names none."""
    if len(accept) > _MAX_ACCEPT_BYTES:
        return frozenset()
    weights: dict[bytes, bool] = {}
    for element in accept.split(b","):
        if not element.strip(b" \t"):
            continue  # RFC 9110 §5.6.1.2: empty list elements are ignored
        media_range, *parameters = (part.strip(b" \t") for part in element.split(b";"))
        if b"/" not in media_range:
            return frozenset()
        weight = next((p[2:] for p in parameters if p[:2].lower() == b"q="), b"1")
        if not _WEIGHT.fullmatch(weight):
            return frozenset()
        name = media_range.lower()
        weights[name] = weights.get(name, True) and float(weight) > 0
    return frozenset(one for one in _PREFERENCE if weights.get(one.media_type.encode()))
