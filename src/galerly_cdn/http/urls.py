"""What a URL asks for, and the URL that asks for it: exact inverses.

A key has one meaning and may have several percent-encodings; it is decoded once, here, and never
interpreted. Nothing but the path reaches a key: no query, no header.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes, urlsplit

from galerly_cdn.errors import (
    FormatNotAllowed,
    MalformedKey,
    SizeNotAllowed,
    UnknownPath,
)
from galerly_cdn.http import client_address
from galerly_cdn.model import Format, SizeRule, Target
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_KEY_BYTES = 900
_PCHAR_PUNCTUATION = "!$&'()*+,;=:@-._~"
# One or more segments of RFC 3986 §3.3 pchar. The lengths are bounded before the match, and every
# alternative starts with another byte, so that matching is linear.
_ENCODED_KEY = re.compile(rb"(?:[A-Za-z0-9!$&'()*+,;=:@\-._~/]|%[0-9A-Fa-f]{2})+")
_RESIZE = b"/resize/"
_ORIGINAL = b"/original/"
_RESIZED = b"/resized/"
_ORIGINALS = b"/originals/"


class PictureRequest(Value, frozen=True):
    """What a picture's URL asks for. `target.format` None: negotiate one of `offered`."""

    target: Target
    key: str
    offered: tuple[Format, ...]


class OriginalRequest(Value, frozen=True):
    """What an original's URL asks for."""

    key: str


class AllowList:
    """The sizes that may be asked for; nothing else is ever rendered."""

    def __init__(self, rules: Iterable[SizeRule]) -> None:
        self.rules = tuple(rules)
        self._asked: Mapping[bytes, tuple[SizeRule, Target]] = {
            spelling.encode(): (rule, Target(rule.size, chosen))
            for rule in self.rules
            for chosen in (None, *rule.qualities)
            for spelling in _spellings(rule, chosen)
        }
        self._sizes = frozenset(name for rule in self.rules for name in _spellings(rule, None))

    def find(self, segment: bytes) -> tuple[SizeRule, Target]:
        """The rule and target of a URL's size segment: `800x600`, `thumbnail`, `800x600.webp`.

        Raises `SizeNotAllowed`, or `FormatNotAllowed` where only the format is at fault.
        """
        found = self._asked.get(segment)
        if found is not None:
            return found
        if segment.partition(b".")[0].decode("latin-1") in self._sizes:
            raise FormatNotAllowed
        raise SizeNotAllowed

    def rule(self, size: str) -> SizeRule:
        """The rule of `800x600` or `thumbnail`. Raises `SizeNotAllowed`."""
        found, target = self.find(size.encode())
        if target.format is not None:
            raise SizeNotAllowed
        return found


def _spellings(rule: SizeRule, chosen: Format | None) -> tuple[str, ...]:
    suffix = f".{chosen}" if chosen else ""
    names = (str(rule.size),) if rule.name is None else (str(rule.size), rule.name)
    return tuple(name + suffix for name in names)


@functools.lru_cache(maxsize=2048)  # the hot ones; reading a path costs more than finding its picture
def parse(raw_path: bytes, allowed: AllowList) -> PictureRequest | OriginalRequest:
    """A URL path, still percent-encoded and without its query, as the request for what it names.

    Raises `UnknownPath`, `SizeNotAllowed`, `FormatNotAllowed`, `MalformedKey`.
    """
    if raw_path.startswith(_RESIZE):
        segment, slash, encoded = raw_path[len(_RESIZE) :].partition(b"/")
        rule, target = allowed.find(segment)
        if not slash:
            raise MalformedKey
        return PictureRequest(target, parse_key(encoded), rule.negotiable)
    if raw_path.startswith(_ORIGINAL):
        return OriginalRequest(parse_key(raw_path[len(_ORIGINAL) :]))
    raise UnknownPath


def format_path(target: Target, key: str) -> str:
    """The canonical path of a picture: the inverse of `parse`."""
    return f"/resize/{target}/{format_key(key)}"


def format_original(key: str) -> str:
    """The canonical path of an original: the inverse of `parse`."""
    return f"/original/{format_key(key)}"


def parse_stored(raw_path: bytes, allowed: AllowList) -> tuple[Target | None, str]:
    """The path by which a CDN asks a store for a rendition, percent-encoded: `/resized/800x600.webp/{key}`.

    Target and key; no target: an original, `/originals/{key}`. Nothing is stored under a size's name.
    Raises as `parse`.
    """
    if raw_path.startswith(_ORIGINALS):
        return None, parse_key(raw_path[len(_ORIGINALS) :])
    if not raw_path.startswith(_RESIZED):
        raise UnknownPath
    segment, _, encoded = raw_path[len(_RESIZED) :].partition(b"/")
    _, target = allowed.find(segment)
    if str(target).encode() != segment:
        raise SizeNotAllowed
    return target, parse_key(encoded)


def format_stored(target: Target, key: str) -> str:
    """The path of a rendition as a CDN asks a store for it: the inverse of `parse_stored`.

    Spelt as S3 signs it: RFC 3986's unreserved characters bare, all else escaped (decision 15).
    """
    return "/resized/" + quote(target.rendition_key(key), safe="/")


def parse_key(encoded: bytes) -> str:
    """A percent-encoded key, decoded once and checked. Raises `MalformedKey`.

    One or more segments; at most 900 bytes of UTF-8; no empty, `.` or `..` segment, no control
    character, no backslash, no encoded slash, and no byte that RFC 3986 §3.3 wants encoded.
    """
    if len(encoded) > 3 * MAX_KEY_BYTES or not _ENCODED_KEY.fullmatch(encoded):
        raise MalformedKey
    if b"%" not in encoded:
        return checked_key(encoded.decode("ascii"))
    if b"%2f" in encoded.lower():
        raise MalformedKey
    try:
        return checked_key(unquote_to_bytes(encoded).decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedKey from None


def checked_key(key: str) -> str:
    """`key` itself, if the grammar of `parse_key` allows it. Raises `MalformedKey`."""
    if key.isascii():
        fits = len(key) <= MAX_KEY_BYTES and key.isprintable()
    else:
        fits = _is_short_text(key)
    if not fits or "\\" in key or any(segment in {"", ".", ".."} for segment in key.split("/")):
        raise MalformedKey
    return key


def _is_short_text(key: str) -> bool:
    """At most 900 bytes of UTF-8 without control characters (Unicode category Cc)."""
    try:
        encoded = key.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: a file name that is not UTF-8
        return False
    return len(encoded) <= MAX_KEY_BYTES and all(unicodedata.category(one) != "Cc" for one in key)


def format_key(key: str) -> str:
    """The canonical percent-encoding of a key: RFC 3986 pchar stay bare."""
    return quote(key, safe="/" + _PCHAR_PUNCTUATION)


def cache_tag(key: str) -> str:
    """The cache tag of an original, its renditions and their errors: one purge drops them all.

    A digest: a tag has no spaces, no commas, and its capitals do not count (CloudFront, "Invalidate files").
    """
    return f"o-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost`, 127.0.0.0/8, `::1`; with or without a port."""
    has_port = host.startswith("[") or host.count(":") == 1
    try:
        name = urlsplit(f"//{host}").hostname or "" if has_port else host.lower()
        return name == "localhost" or client_address.parse_ip(name).is_loopback
    except ValueError:
        return False
