"""How a rendition lies in a file, so that one wrong bit anywhere is seen: exact inverses.

One line, `galerly-rendition 1 {header length, 8 digits} {MD5 of the header}`; the header, which is
the record as JSON; the body, whose length and MD5 are in the record.
"""

from __future__ import annotations

import hashlib

from galerly_cdn.model import Record, Rendition
from galerly_cdn.serialization import ValidationError, from_json, to_json

_MAGIC = b"galerly-rendition 1 "
_LENGTH = slice(len(_MAGIC), len(_MAGIC) + 8)
_SEAL_BYTES = len(_MAGIC) + 8 + 1 + 32 + 1


class DamagedFile(Exception):
    """These bytes are not what `seal` made."""


def encode_rendition(rendition: Rendition) -> bytes:
    """The file's bytes."""
    header = to_json(rendition.record)
    return _seal(header) + header + rendition.body


def decode_rendition(content: bytes) -> Rendition:
    """The rendition. Raises `Damaged` unless every byte is as `seal` wrote it."""
    digits = content[_LENGTH]
    length_bytes = int(digits) if digits.isdigit() else 0
    header = content[_SEAL_BYTES : _SEAL_BYTES + length_bytes]
    if not header or content[:_SEAL_BYTES] != _seal(header):
        raise DamagedFile("header")
    try:
        record = from_json(Record, header)
    except ValidationError as error:  # written by another version of this package
        raise DamagedFile(str(error)) from error
    body = content[_SEAL_BYTES + length_bytes :]
    if len(body) != record.length_bytes or _md5(body) != record.md5:
        raise DamagedFile("body")
    return Rendition(record, body)


def _seal(header: bytes) -> bytes:
    return _MAGIC + b"%08d %s\n" % (len(header), _md5(header).encode())


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
