"""Parses the paths of URLs into sizes, formats and keys, and formats them: exact inverses. Pure.

A key may have several percent-encodings. It is decoded once, here, and never interpreted. A key comes from
the path only, never from the query or a header.
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
from galerly_cdn.model import Format, SizeRule, Target
from galerly_cdn.serialization import Value
from galerly_cdn.settings.networks import UNIX, parse_ip
from galerly_cdn.stored_keys import stored_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_KEY_BYTES = 900
_PCHAR_PUNCTUATION = "!$&'()*+,;=:@-._~"
# One or more segments of RFC 3986 §3.3 pchar. Lengths are bounded before the match, and the alternatives
# start with different bytes, so that matching takes linear time.
_ENCODED_KEY = re.compile(rb"(?:[A-Za-z0-9!$&'()*+,;=:@\-._~/]|%[0-9A-Fa-f]{2})+")
_RESIZE = b"/resize/"
_ORIGINAL = b"/original/"
_RESIZED = b"/resized/"
AUTHORIZE = b"/authorize"
"""The beginning of a path that asks whether the request may have the picture at the rest of it."""


class PictureRequest(Value, frozen=True):
    """The request in a picture's URL. If `target.format` is None, one of `offered` is negotiated."""

    target: Target
    key: str
    offered: tuple[Format, ...]


class OriginalRequest(Value, frozen=True):
    """The request in an original's URL."""

    key: str


class AllowList:
    """The sizes that can be requested; no other is rendered."""

    def __init__(self, rules: Iterable[SizeRule]) -> None:
        self.rules = tuple(rules)
        self._targets: Mapping[bytes, tuple[SizeRule, Target]] = {
            segment.encode(): (rule, Target(rule.size, format_))
            for rule in self.rules
            for format_ in (None, *rule.qualities)
            for segment in _segments(rule, format_)
        }
        self._sizes = frozenset(name for rule in self.rules for name in _segments(rule, None))

    def find(self, segment: bytes) -> tuple[SizeRule, Target]:
        """The rule and target of a URL's size segment: `800x600`, `thumbnail`, `800x600.webp`.

        Raises `FormatNotAllowed` if the size is allowed but not in this format, else `SizeNotAllowed`.
        """
        rule_and_target = self._targets.get(segment)
        if rule_and_target is not None:
            return rule_and_target
        if segment.partition(b".")[0].decode("latin-1") in self._sizes:
            raise FormatNotAllowed
        raise SizeNotAllowed

    def segments(self) -> dict[str, tuple[str, str]]:
        """The size, `800x600`, and the format or an empty string, of every segment that `find` finds."""
        return {
            segment.decode(): (str(target.size), target.format or "")
            for segment, (_, target) in self._targets.items()
        }

    def rule(self, size: str) -> SizeRule:
        """The rule of `800x600` or `thumbnail`. Raises `SizeNotAllowed`."""
        rule, target = self.find(size.encode())
        if target.format is not None:
            raise SizeNotAllowed
        return rule


def _segments(rule: SizeRule, format_: Format | None) -> tuple[str, ...]:
    """The URL segments of a size: its dimensions, and its name if it has one."""
    suffix = f".{format_}" if format_ else ""
    names = (str(rule.size),) if rule.name is None else (str(rule.size), rule.name)
    return tuple(name + suffix for name in names)


@functools.lru_cache(
    maxsize=2048
)  # frequent paths: parsing one costs more than finding its picture in memory
def parse(raw_path: bytes, allowed: AllowList) -> PictureRequest | OriginalRequest:
    """The request in a URL path, which is still percent-encoded and has no query.

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


def parse_stored(raw_path: bytes, encoded_key: bytes, allowed: AllowList) -> tuple[Target, str]:
    """Target and key of a stored rendition's path, as CloudFront requests it: `/resized/800x600.webp/{name}`.

    A name need not tell its key, which is therefore passed beside it, percent-encoded. Raises the errors of
    `parse`; `MalformedKey` also if the rendition of this key has another name.
    """
    target, name = split_stored(raw_path, allowed)
    key = parse_key(encoded_key)
    if stored_key(key).encode() != name:
        raise MalformedKey
    return target, key


def split_stored(raw_path: bytes, allowed: AllowList) -> tuple[Target, bytes]:
    """Target and stored key of a stored rendition's path. Nothing is stored under a size's name.

    Raises `UnknownPath`, `SizeNotAllowed`, `FormatNotAllowed`.
    """
    if not raw_path.startswith(_RESIZED):
        raise UnknownPath
    segment, _, name = raw_path[len(_RESIZED) :].partition(b"/")
    _, target = allowed.find(segment)
    if str(target).encode() != segment:
        raise SizeNotAllowed
    return target, name


def format_stored(target: Target, key: str) -> str:
    """The path of a stored rendition: the inverse of `parse_stored`."""
    return f"/resized/{target.rendition_key(key)}"


def parse_key(encoded: bytes) -> str:
    """A percent-encoded key, decoded once and checked. Raises `MalformedKey`.

    A key has one or more segments and at most 900 bytes of UTF-8. It has no empty and no hidden segment (with
    a leading dot), no control character, no backslash, no encoded slash, and no byte that RFC 3986 §3.3
    requires to be encoded.
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
    """The key itself. Raises `MalformedKey` unless it matches the grammar of `parse_key`."""
    if key.isascii():
        is_text = len(key) <= MAX_KEY_BYTES and key.isprintable()
    else:
        is_text = _is_short_text(key)
    enclosed = f"/{key}/"
    if not is_text or "\\" in key or "//" in enclosed or "/." in enclosed:
        raise MalformedKey
    return key


def is_key(name: str) -> bool:
    """Whether a name matches the grammar of `parse_key`."""
    try:
        checked_key(name)
    except MalformedKey:
        return False
    return True


def _is_short_text(key: str) -> bool:
    """Whether it has at most 900 bytes of UTF-8 and no control characters (Unicode category Cc)."""
    try:
        encoded = key.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: a file name that is not UTF-8
        return False
    return len(encoded) <= MAX_KEY_BYTES and all(unicodedata.category(one) != "Cc" for one in key)


def gallery_name(key: str) -> str:
    """The key without its last segment; empty for a photograph directly in the root."""
    return key.rpartition("/")[0]


def format_key(key: str) -> str:
    """The canonical percent-encoding of a key: all but RFC 3986's pchar are escaped."""
    return quote(key, safe="/" + _PCHAR_PUNCTUATION)


def cache_tag(key: str) -> str:
    """The cache tag of an original, its renditions and their error responses: one purge drops them all.

    It is a digest, because a tag has no spaces and commas, and is case-insensitive (Amazon CloudFront
    Developer Guide, "Invalidate files").
    """
    return f"o-{_digest(key)}"


def gallery_tag(gallery: str) -> str:
    """The cache tag that all photographs directly in a gallery have in common; "" is the root."""
    return f"g-{_digest(gallery)}"


def cache_tags(key: str) -> str:
    """The tags of a photograph and of its gallery, as the value of the header that CloudFront reads."""
    return f"{cache_tag(key)},{gallery_tag(gallery_name(key))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine: `localhost`, 127.0.0.0/8 or `::1`."""
    if host.startswith(UNIX):
        return False
    has_port = host.startswith("[") or host.count(":") == 1
    try:
        name = urlsplit(f"//{host}").hostname or "" if has_port else host.lower()
        return name == "localhost" or parse_ip(name).is_loopback
    except ValueError:
        return False


def is_local_client(client: str) -> bool:
    """Whether a connection comes from this machine: from a loopback address, or over a unix socket."""
    return client == UNIX or is_loopback(client)
