"""Reads the boxes of a HEIF, which AVIF and HEIC are (ISO/IEC 14496-12, ISO/IEC 23008-12).

`meta_of` reads the items and their properties. The functions after it answer questions about them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from galerly_cdn.render.originals import av1
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

Properties = tuple[tuple[bytes, bytes], ...]

_MAX_ITEMS: Final = 65_536
_MAX_BOXES: Final = 65_536
_FULL_BOX_BYTES: Final = 4
"""Version and flags at the start of a box's content (§4.2.2)."""
_STREAM_BYTES: Final = 256
"""Enough for the open bitstream units up to the sequence header."""
_ALPHA: Final = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_GAIN_MAPS: Final = (b"urn:com:apple:photo:2020:aux:hdrgainmap", b"urn:iso:std:iso:ts:21496:-1")
_TONE_MAPPED: Final = b"tmap"


class Reference(Value, frozen=True):
    """An item reference: from one item to others (ISO/IEC 14496-12 §8.11.12)."""

    kind: bytes
    source: int
    targets: tuple[int, ...]


class Extent(Value, frozen=True):
    """A part of an item's data: in the file, or in the `idat` box if `is_in_meta`."""

    start: int
    length: int
    is_in_meta: bool


class PrimaryPlace(Value, frozen=True):
    """Where the number of the primary item is stored in the file: 2 or 4 bytes (`pitm`, §8.11.4)."""

    start: int
    length: int


class Meta(Value, frozen=True):
    """The items of a HEIF by their numbers: types, properties in order, data and references."""

    primary: int
    types: dict[int, bytes]
    properties: dict[int, Properties]
    extents: dict[int, Extent]
    references: tuple[Reference, ...]
    data: bytes


def boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and content of each box in a sequence of boxes (ISO/IEC 14496-12 §4.2)."""
    for name, start, end in _box_places(body):
        yield name, body[start:end]


def _box_places(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each box, and where its content starts and ends."""
    position = 0
    for _ in range(_MAX_BOXES):
        if position + 8 > len(body):
            return
        length, header = int.from_bytes(body[position : position + 4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(body[position + 8 : position + 16], "big"), 16
        end = position + length if length else len(body)
        if end < position + header:
            return
        yield body[position + 4 : position + 8], position + header, end
        position = end


def is_only_a_sequence(original: bytes) -> bool:
    """Return whether the file holds tracks (`moov`) and no still image (ISO/IEC 23008-12 §7)."""
    types = {name for name, _, _ in _box_places(original)}
    return b"moov" in types and meta_of(original) is None


def primary_place(original: bytes) -> PrimaryPlace | None:
    """Return where the number of the primary item is stored; None if the file names none."""
    start, end = _meta_place(original) or (0, 0)
    for name, first, _ in _box_places(original[start:end]):
        if name == b"pitm":
            length = 4 if original[start + first : start + first + 1] > b"\0" else 2
            return PrimaryPlace(start + first + _FULL_BOX_BYTES, length)
    return None


def _meta_place(original: bytes) -> tuple[int, int] | None:
    """Return where the boxes in the `meta` box start and end (§8.11.1); None if there is none."""
    places = (place for place in _box_places(original) if place[0] == b"meta")
    return next(((start + _FULL_BOX_BYTES, end) for _, start, end in places), None)


def meta_of(original: bytes) -> Meta | None:
    """Return the items; None if the file has none, or no primary one. Damaged entries are left out."""
    place = _meta_place(original)
    if place is None:
        return None
    found: dict[bytes, bytes] = {}
    for name, content in boxes(original[place[0] : place[1]]):
        found.setdefault(name, content)
    properties = found.get(b"iprp", b"")
    inner: dict[bytes, bytes] = {}
    for name, content in boxes(properties):
        inner.setdefault(name, content)
    primary = _Fields(found.get(b"pitm", b""))
    try:
        number = primary.number(4 if primary.version else 2)
    except EOFError:
        return None
    return Meta(
        primary=number,
        types=dict(_types(found.get(b"iinf", b""))),
        properties=_properties(inner.get(b"ipma", b""), tuple(boxes(inner.get(b"ipco", b"")))),
        extents=dict(_extents(_Fields(found.get(b"iloc", b"")))),
        references=tuple(_references(found.get(b"iref", b""))),
        data=found.get(b"idat", b""),
    )


class _Fields:
    """Reads the numbers of a box with version and flags (§4.2.2). Raises `EOFError` at its end."""

    def __init__(self, content: bytes) -> None:
        self.version = content[0] if content else 0
        self.flags = int.from_bytes(content[1:4], "big")
        self._content = content
        self._position = 4

    def number(self, size: int) -> int:
        part = self._content[self._position : self._position + size]
        if len(part) < size:
            raise EOFError
        self._position += size
        return int.from_bytes(part, "big")


def _types(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and type of each item (`iinf`, §8.11.6)."""
    count_bytes = 4 if content[:1] != b"\0" else 2
    for name, entry in boxes(content[4 + count_bytes :]):
        if name == b"infe" and entry[:1] in {b"\2", b"\3"}:
            size = 2 if entry[0] == 2 else 4
            yield int.from_bytes(entry[4 : 4 + size], "big"), entry[6 + size : 10 + size]


def _properties(content: bytes, every: Properties) -> dict[int, Properties]:
    """Return the properties of each item (`ipma`, ISO/IEC 23008-12 §9.3)."""
    fields, found = _Fields(content), {}
    size = 2 if fields.flags & 1 else 1
    try:
        for _ in range(min(fields.number(4), _MAX_ITEMS)):
            item = fields.number(2 if fields.version < 1 else 4)
            indices = [
                fields.number(size) & (1 << 8 * size - 1) - 1 for _ in range(fields.number(1))
            ]  # the highest bit means "essential"
            found[item] = tuple(every[index - 1] for index in indices if 0 < index <= len(every))
    except EOFError:
        pass
    return found


def _extents(fields: _Fields) -> Iterator[tuple[int, Extent]]:
    """Yield the first extent of each item (`iloc`, §8.11.3)."""
    try:
        sizes = fields.number(2)
        offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
        index_bytes = sizes & 15 if fields.version else 0
        item_bytes = 2 if fields.version < 2 else 4
        for _ in range(min(fields.number(item_bytes), _MAX_ITEMS)):
            item = fields.number(item_bytes)
            method = fields.number(2) & 15 if fields.version else 0
            fields.number(2)
            base = fields.number(base_bytes)
            count = fields.number(2)
            if not count:
                continue
            fields.number(index_bytes)
            start, length = base + fields.number(offset_bytes), fields.number(length_bytes)
            fields.number((count - 1) * (index_bytes + offset_bytes + length_bytes))
            if method <= 1:
                yield item, Extent(start, length, is_in_meta=method == 1)
    except EOFError:
        return


def _references(content: bytes) -> Iterator[Reference]:
    """Yield the references between items (`iref`, §8.11.12)."""
    size = 4 if content[:1] != b"\0" else 2
    letter = "I" if size == 4 else "H"
    for name, entry in boxes(content[4:]):
        count = int.from_bytes(entry[size : size + 2], "big")
        targets = entry[size + 2 : size + 2 + count * size]
        if len(targets) == count * size:
            source = int.from_bytes(entry[:size], "big")
            yield Reference(name, source, struct.unpack(f">{count}{letter}", targets))


def property_of(meta: Meta, item: int, kind: bytes, start: bytes = b"") -> bytes:
    """Return the content of an item's first property of a type that begins with `start`; empty if none."""
    properties = meta.properties.get(item, ())
    return next((body for name, body in properties if name == kind and body.startswith(start)), b"")


def has_gain_map(meta: Meta) -> bool:
    """Return whether an HDR gain map is in the file: a `tmap` item (ISO 21496-1), or an auxiliary picture."""
    auxiliaries = (_auxiliary_type(meta, item) for item in meta.properties)
    return _TONE_MAPPED in meta.types.values() or any(kind in _GAIN_MAPS for kind in auxiliaries)


def alpha_item(meta: Meta) -> int | None:
    """Return the number of the primary item's alpha plane (ISO/IEC 23008-12 §6.4.4); None without one."""
    sources = (one.source for one in meta.references if one.kind == b"auxl" and meta.primary in one.targets)
    return next((item for item in sources if _auxiliary_type(meta, item) in _ALPHA), None)


def _auxiliary_type(meta: Meta, item: int) -> bytes:
    return property_of(meta, item, b"auxC")[4:].partition(b"\0")[0]


def coded_item(meta: Meta, item: int) -> int:
    """Return the item that holds coded pixels: the item, or the first tile of a derived one (`dimg`)."""
    for one in meta.references:
        if one.kind == b"dimg" and one.source == item and one.targets:
            return one.targets[0]
    return item


def tiles_of(meta: Meta) -> list[int]:
    """Return the items that the primary item and its auxiliary pictures are made of (§6.6.2.3), in order."""
    sources = (one.source for one in meta.references if one.kind == b"auxl" and meta.primary in one.targets)
    shown = {meta.primary, *sources}
    grids = (one for one in meta.references if one.kind == b"dimg" and one.source in shown)
    return sorted({tile for grid in grids for tile in grid.targets})


def is_monochrome(meta: Meta) -> bool:
    """Return whether the primary item is AV1 with one plane (`av1C`, AV1 in ISOBMFF §2.3)."""
    configuration = property_of(meta, coded_item(meta, meta.primary), b"av1C")
    return len(configuration) >= 4 and bool(configuration[2] & 0x10)


def sequence_header(original: bytes, meta: Meta, item: int) -> av1.SequenceHeader | None:
    """Return the sequence header of an AV1 item, from its configuration or its data."""
    coded = coded_item(meta, item)
    configured = av1.sequence_header(property_of(meta, coded, b"av1C")[4:_STREAM_BYTES])
    extent = meta.extents.get(coded)
    if configured or extent is None:
        return configured
    data = meta.data if extent.is_in_meta else original
    length = min(extent.length or _STREAM_BYTES, _STREAM_BYTES)
    return av1.sequence_header(data[extent.start : extent.start + length])


def is_full_range(original: bytes, meta: Meta, item: int) -> bool:
    """Return whether samples use their full range: as `nclx` says, otherwise as the sequence header says."""
    named = property_of(meta, item, b"colr", b"nclx")
    if len(named) >= 11:
        return bool(named[10] & 0x80)
    header = sequence_header(original, meta, item)
    return header is None or header.is_full_range


def code_points(original: bytes, meta: Meta) -> tuple[int, int] | None:
    """Return primaries and transfer function of the primary item (H.273), from `nclx` or the bitstream."""
    named = property_of(meta, meta.primary, b"colr", b"nclx")
    if len(named) >= 8:
        primaries, transfer = struct.unpack(">HH", named[4:8])
        return primaries, transfer
    header = sequence_header(original, meta, meta.primary)
    return (header.primaries, header.transfer) if header else None
