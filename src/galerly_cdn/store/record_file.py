"""Encodes and decodes a stored fact record; a change of any bit is detected.

It is a line `galerly-facts {MD5 of the rest}` and the record as JSON.
"""

from __future__ import annotations

import hashlib

from galerly_cdn.model import FactRecord
from galerly_cdn.serialization import ValidationError, from_json, to_json

MAGIC = b"galerly-facts "
_LINE_BYTES = len(MAGIC) + 32 + 1


class DamagedRecord(Exception):
    """The bytes are not a record of this key, or one that another release wrote."""


def encode_record(record: FactRecord) -> bytes:
    """The bytes that are stored."""
    text = to_json(record)
    return _first_line(text) + text


def decode_record(content: bytes, key: str | None = None) -> FactRecord:
    """The inverse of `encode_record`; of this key, unless that is None. Raises `DamagedRecord`."""
    text = content[_LINE_BYTES:]
    if content[:_LINE_BYTES] != _first_line(text):
        raise DamagedRecord("checksum")
    try:
        record = from_json(FactRecord, text)
    except ValidationError as error:
        raise DamagedRecord(str(error)) from error
    if key is not None and record.key != key:
        raise DamagedRecord("another key")
    return record


def _first_line(text: bytes) -> bytes:
    return MAGIC + hashlib.md5(text, usedforsecurity=False).hexdigest().encode() + b"\n"
