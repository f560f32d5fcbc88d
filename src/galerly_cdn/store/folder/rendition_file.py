"""Encodes and decodes the file of a rendition; a change of any bit is detected.

The file is a line `galerly-rendition 1 {length of the header, 8 digits} {MD5 of the header}`, the header
(the record as JSON) and the body, whose length and MD5 are in the record.
"""

from __future__ import annotations

import hashlib

from galerly_cdn.model import Record, Rendition
from galerly_cdn.serialization import ValidationError, from_json, to_json

_MAGIC = b"galerly-rendition 1 "
_LENGTH = slice(len(_MAGIC), len(_MAGIC) + 8)
LINE_BYTES = len(_MAGIC) + 8 + 1 + 32 + 1


class DamagedFile(Exception):
    """A file's bytes are not those that `encode_rendition` returned."""


def encode_rendition(rendition: Rendition) -> bytes:
    """The bytes of a rendition's file."""
    header = to_json(rendition.record)
    return _first_line(header) + header + rendition.body


def decode_rendition(content: bytes) -> Rendition:
    """The inverse of `encode_rendition`. Raises `DamagedFile` if any byte differs."""
    record = decode_header(content, len(content))
    body = content[len(content) - record.length_bytes :]
    if _md5(body) != record.md5:
        raise DamagedFile("body")
    return Rendition(record, body)


def header_bytes(start: bytes) -> int:
    """How many bytes the line and the header of a file have, by its first `LINE_BYTES` bytes or more."""
    digits = start[_LENGTH]
    return LINE_BYTES + (int(digits) if digits.isdigit() else 0)


def decode_header(start: bytes, file_bytes: int) -> Record:
    """The record of a file of `file_bytes` that begins with these bytes, the whole header among them.

    Raises `DamagedFile` for a damaged header, and for a body of another length; its bytes are not looked at.
    """
    header = start[LINE_BYTES : header_bytes(start)]
    if not header or start[:LINE_BYTES] != _first_line(header):
        raise DamagedFile("header")
    try:
        record = from_json(Record, header)
    except ValidationError as error:  # written by another version of this package
        raise DamagedFile(str(error)) from error
    if file_bytes != LINE_BYTES + len(header) + record.length_bytes:
        raise DamagedFile("body")
    return record


def _first_line(header: bytes) -> bytes:
    return _MAGIC + b"%08d %s\n" % (len(header), _md5(header).encode())


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
