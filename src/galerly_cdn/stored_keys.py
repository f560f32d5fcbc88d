"""Spells keys as names of stored objects that no URL and no signature has to escape (decision 0022). Pure.

viewer.js spells them a second time, for CloudFront.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MAX_BYTES = 900
"""Of a stored key. S3's names have 1,024 bytes, with the store's prefix and the target."""
MAX_SPELLED_SEGMENT_BYTES = 255
"""Of a segment that is not the key's own: S3 servers that keep objects as files allow no longer name."""
DIGEST_PREFIX = ".--"
"""It begins no spelled segment: two hexadecimal digits follow each `-` of those."""
_MAX_KEPT_BYTES = MAX_BYTES - len(DIGEST_PREFIX) - 64
_PLAIN = re.compile(r"[A-Za-z0-9._-]*")
_ESCAPED = re.compile(rb"[^A-Za-z0-9._]")
_LONG_SEGMENT = re.compile(rf"(?:^|/)\.[^/]{{{MAX_SPELLED_SEGMENT_BYTES}}}")


_SHARD = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")
_MAX_SHARDS = 10_000


class Shard(NamedTuple):
    """One of `shards` parts of the photographs, about equal ones; `number` begins at 1."""

    number: int
    shards: int

    def has(self, stored: str) -> bool:
        """Whether a photograph, by its stored key, or a file of none, by its name, is in the shard."""
        if self.shards == 1:
            return True
        digest = hashlib.sha256(stored.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.shards == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.shards}"


ALL = Shard(1, 1)
"""The shard that has every photograph."""


def parse_shard(text: str) -> Shard:
    """The shard `2/8`: its number and how many there are. Raises `ValueError`."""
    found = _SHARD.fullmatch(text)
    shard = Shard(int(found[1]), int(found[2])) if found else Shard(0, 0)
    if not 1 <= shard.number <= shard.shards <= _MAX_SHARDS:
        raise ValueError(f"expected a shard such as 2/8, of at most {_MAX_SHARDS}, got {text!r}")
    return shard


def stored_key(key: str) -> str:
    """The name of a valid key among stored objects: at most 900 of `A-Z a-z 0-9 . _ - /`.

    A segment of these characters stays as it is. Another becomes a dot and its bytes, of which those that are
    no letter, digit, `.` or `_` are written as `-XX`. If that is too long, a digest replaces its end.
    """
    spelled = "/".join(_spell(segment) for segment in key.split("/"))
    long_segment = _LONG_SEGMENT.search(spelled)
    if long_segment is None and len(spelled) <= MAX_BYTES:
        return spelled
    end = min(_MAX_KEPT_BYTES, long_segment.start() + 1) if long_segment else _MAX_KEPT_BYTES
    kept = spelled[: spelled.rfind("/", 0, end) + 1]
    return kept + DIGEST_PREFIX + hashlib.sha256(spelled.encode()).hexdigest()


def key_of(stored: str) -> str | None:
    """The key of a stored key: the inverse of `stored_key`.

    None for a digest, whose key only the object's metadata tells, and for what `stored_key` does not return.
    The key is not checked.
    """
    try:
        key = "/".join(_read(segment) for segment in stored.split("/"))
        return key if stored_key(key) == stored else None
    except UnicodeError:
        return None


def _spell(segment: str) -> str:
    if _PLAIN.fullmatch(segment):
        return segment
    escaped = _ESCAPED.sub(lambda byte: b"-%02X" % byte[0][0], segment.encode())
    return "." + escaped.decode("ascii")


def _read(segment: str) -> str:
    """The inverse of `_spell`. Raises `UnicodeError` for some segments that it does not return."""
    if not segment.startswith("."):
        return segment
    return unquote_to_bytes(segment[1:].replace("-", "%")).decode("utf-8")
