"""Reads an upload's expected checksums from its headers, and writes checksums as headers. Pure.

Content-MD5 (RFC 1864), Digest (RFC 3230), Content-Digest and Repr-Digest (RFC 9530; they are equal for a body
that is neither encoded nor partial), and `x-amz-checksum-*`, so that S3 clients can upload unchanged.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from galerly_cdn.errors import MalformedChecksum

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LENGTHS_BYTES = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}
"""The algorithms that are verified, by their names in `hashlib`, and their digests' lengths."""
_REGISTERED = {"md5": "md5", "sha1": "sha", "sha256": "sha-256", "sha512": "sha-512"}
"""Their names in IANA's registry (Hash Algorithms for HTTP Digest Fields); case-insensitive in RFC 3230."""
_BY_REGISTERED = {registered.encode(): name for name, registered in _REGISTERED.items()}
_AMAZON_PREFIX = b"x-amz-checksum-"
_NOT_A_CHECKSUM = frozenset({b"x-amz-checksum-algorithm", b"x-amz-checksum-mode", b"x-amz-checksum-type"})
_ITEM = re.compile(rb"\s*([A-Za-z0-9*_.-]+)=(\S+)\s*")


def read_checksums(headers: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """The digests that an upload must have, by algorithm; names of headers are in lower case.

    An unknown algorithm beside a known one is ignored (RFC 9530 §2); alone it is an error. Raises
    `MalformedChecksum` for a digest that is malformed, cannot be verified, or contradicts another one.
    """
    digests: dict[str, bytes] = {}
    for name, digest in _all_checksums(headers):
        if len(digest) != LENGTHS_BYTES[name]:
            raise MalformedChecksum(f"{name}: {len(digest)} bytes in place of {LENGTHS_BYTES[name]}")
        if digests.setdefault(name, digest) != digest:
            raise MalformedChecksum(f"{name}: two different values")
    return digests


def checksum_headers(digests: Mapping[str, bytes]) -> dict[str, str]:
    """The headers of these digests: Content-MD5 and Content-Digest. The inverse of `read_checksums`."""
    encoded = {name: base64.b64encode(digest).decode("ascii") for name, digest in digests.items()}
    headers = {"Content-MD5": encoded.pop("md5")} if "md5" in encoded else {}
    if encoded:
        items = (f"{_REGISTERED[name]}=:{digest}:" for name, digest in encoded.items())
        headers["Content-Digest"] = ", ".join(items)
    return headers


def _all_checksums(headers: Mapping[bytes, bytes]) -> Iterator[tuple[str, bytes]]:
    """Algorithm and digest of every checksum in the headers."""
    for name, value in headers.items():
        if name == b"content-md5":
            yield "md5", _decode(value)
        elif name == b"digest":
            yield from _list_items(value, b"", b"")
        elif name in {b"content-digest", b"repr-digest"}:
            yield from _list_items(value, b":", b":")
        elif name.startswith(_AMAZON_PREFIX) and name not in _NOT_A_CHECKSUM:
            algorithm = name[len(_AMAZON_PREFIX) :].decode("latin-1")
            if algorithm not in LENGTHS_BYTES:
                raise MalformedChecksum(f"{algorithm} is not verified")
            yield algorithm, _decode(value)


def _list_items(value: bytes, opening: bytes, closing: bytes) -> Iterator[tuple[str, bytes]]:
    """The items of `name=value, name=value`.

    In RFC 9530, a value is a byte sequence between colons (RFC 8941 §3.3.5); in RFC 3230 it has none.
    """
    is_any_known = False
    for item in value.split(b","):
        matched = _ITEM.fullmatch(item)
        if not matched:
            raise MalformedChecksum(repr(item))
        name = _BY_REGISTERED.get(matched[1].lower())
        if name is None:
            continue
        text = matched[2]
        if len(text) < 2 or not (text.startswith(opening) and text.endswith(closing)):
            raise MalformedChecksum(repr(item))
        is_any_known = True
        yield name, _decode(text[len(opening) : len(text) - len(closing)])
    if not is_any_known:
        raise MalformedChecksum(f"no algorithm in {value!r} is verified")


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise MalformedChecksum(str(error)) from error
