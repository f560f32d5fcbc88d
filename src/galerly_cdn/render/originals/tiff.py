"""Placeholder: recognises raw files in TIFF clothing. To be replaced by the module of this name and path."""

from __future__ import annotations

import struct

_MAKES = {
    "NIKON": "Nikon NEF",
    "CANON": "Canon CR2",
    "SONY": "Sony ARW",
    "PENTAX": "Pentax PEF",
    "SAMSUNG": "Samsung SRW",
}
_PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 262, 271, 330, 50706
_CFA, _LINEAR_RAW = 32803, 34892


def raw_kind(original: bytes) -> str | None:
    """Return the kind of a raw file ("Nikon NEF"), or None for other files."""
    if original[:4] not in {b"II*\0", b"MM\0*"}:
        return None
    order = "<" if original[:1] == b"I" else ">"
    first = _tags(original, order, struct.unpack(f"{order}I", original[4:8])[0])
    if _DNG_VERSION in first:
        return "Adobe DNG"
    make = original[first[_MAKE][0] :][:32].partition(b"\0")[0].decode("latin-1") if _MAKE in first else ""
    subs = [_tags(original, order, offset) for offset in first.get(_SUB_IFDS, ())]
    photometrics = {tags.get(_PHOTOMETRIC, (0,))[0] for tags in (first, *subs)}
    if not photometrics & {_CFA, _LINEAR_RAW} and original[8:10] != b"CR":
        return None
    return next((kind for start, kind in _MAKES.items() if make.upper().startswith(start)), "camera raw")


def _tags(original: bytes, order: str, start: int) -> dict[int, tuple[int, ...]]:
    """Return the numbers of each tag; for text its offset."""
    tags: dict[int, tuple[int, ...]] = {}
    count = int.from_bytes(original[start : start + 2], "little" if order == "<" else "big")
    for entry in range(start + 2, min(start + 2 + 12 * count, len(original) - 11), 12):
        tag, kind, length = struct.unpack(f"{order}HHI", original[entry : entry + 8])
        size = {3: 2, 4: 4}.get(kind, 4)
        code = {3: "H", 4: "I"}.get(kind, "I")
        is_number = kind in {3, 4}
        where = entry + 8
        if is_number and size * length > 4:
            where = struct.unpack(f"{order}I", original[entry + 8 : entry + 12])[0]
        number = min(length, 16) if is_number else 1
        content = original[where : where + size * number]
        if number and len(content) == size * number:
            tags[tag] = struct.unpack(f"{order}{number}{code}", content)
    return tags
