"""What should an upload's bytes be? The checksums that its headers tell, as the archive takes them; and back.

Content-MD5 (RFC 1864), Digest (RFC 3230), Content-Digest and Repr-Digest (RFC 9530, which are one for a body
that is neither coded nor partial), and S3's `x-amz-checksum-*`, so that whatever spoke to S3 speaks to us.
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
"""The checksums that are verified, by the names of `hashlib`, and how long each is."""
_REGISTERED = {"md5": "md5", "sha1": "sha", "sha256": "sha-256", "sha512": "sha-512"}
"""IANA's names of them (Hash Algorithms for HTTP Digest Fields), which RFC 3230 spells in any case."""
_BY_REGISTERED = {registered.encode(): name for name, registered in _REGISTERED.items()}
_AMAZON = b"x-amz-checksum-"
_NOT_A_SUM = frozenset({b"x-amz-checksum-algorithm", b"x-amz-checksum-mode", b"x-amz-checksum-type"})
_ITEM = re.compile(rb"\s*([A-Za-z0-9*_.-]+)=(\S+)\s*")


def read_checksums(headers: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """The checksums an upload has to match; names of headers are in lower case.

    An algorithm that is not known beside one that is is passed over (RFC 9530 §2); alone it is not.
    Raises `MalformedChecksum` for what cannot be read, cannot be verified, or contradicts itself.
    """
    found: dict[str, bytes] = {}
    for name, digest in _told(headers):
        if len(digest) != LENGTHS_BYTES[name] or found.setdefault(name, digest) != digest:
            raise MalformedChecksum(f"{name} of {len(digest)} bytes, or two of them")
    return found


def checksum_headers(digests: Mapping[str, bytes]) -> dict[str, str]:
    """The headers that tell these checksums: `read` is the inverse. Content-MD5, and Content-Digest."""
    told = {name: base64.b64encode(digest).decode("ascii") for name, digest in digests.items()}
    headers = {"Content-MD5": told.pop("md5")} if "md5" in told else {}
    if told:
        items = (f"{_REGISTERED[name]}=:{digest}:" for name, digest in told.items())
        headers["Content-Digest"] = ", ".join(items)
    return headers


def _told(headers: Mapping[bytes, bytes]) -> Iterator[tuple[str, bytes]]:
    for name, value in headers.items():
        if name == b"content-md5":
            yield "md5", _decoded(value)
        elif name == b"digest":
            yield from _listed(value, b"", b"")
        elif name in {b"content-digest", b"repr-digest"}:
            yield from _listed(value, b":", b":")
        elif name.startswith(_AMAZON) and name not in _NOT_A_SUM:
            algorithm = name[len(_AMAZON) :].decode("latin-1")
            if algorithm not in LENGTHS_BYTES:
                raise MalformedChecksum(algorithm)
            yield algorithm, _decoded(value)


def _listed(value: bytes, opening: bytes, closing: bytes) -> Iterator[tuple[str, bytes]]:
    """`name=value, name=value`; a value is a byte sequence of RFC 8941 §3.3.5 in RFC 9530, bare before."""
    is_any_known = False
    for item in value.split(b","):
        matched = _ITEM.fullmatch(item)
        if not matched:
            raise MalformedChecksum(repr(item))
        name = _BY_REGISTERED.get(matched[1].lower())
        if name is None:
            continue
        told = matched[2]
        if len(told) < 2 or not (told.startswith(opening) and told.endswith(closing)):
            raise MalformedChecksum(repr(item))
        is_any_known = True
        yield name, _decoded(told[len(opening) : len(told) - len(closing)])
    if not is_any_known:
        raise MalformedChecksum(f"none that is known in {value!r}")


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise MalformedChecksum(str(error)) from error
