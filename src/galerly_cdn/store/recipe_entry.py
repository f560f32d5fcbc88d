"""Encodes and decodes the stored entries of the list of recipes."""

from __future__ import annotations

from galerly_cdn.model import RecipeEntry
from galerly_cdn.serialization import ValidationError, from_json, to_json

FOLDER = "recipes"
"""No URL leads to it: the first segment of every rendition's key is a size."""


def entry_name(number: int) -> str:
    """The name of an entry in its folder."""
    return f"{number:08d}.json"


def encode_entry(entry: RecipeEntry) -> bytes:
    """The bytes that are stored."""
    return to_json(entry)


def decode_entry(content: bytes, number: int) -> RecipeEntry:
    """The inverse of `encode_entry`; an entry without recipes if the bytes are not one of this number."""
    try:
        entry = from_json(RecipeEntry, content)
    except ValidationError:
        return RecipeEntry(number, {})
    return entry if entry.number == number else RecipeEntry(number, {})
