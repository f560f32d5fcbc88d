"""Reads the items of a HEIC file: which pictures it holds, and where their coded data lies.

It parses the `meta` box (ISO/IEC 14496-12 §8.11) as far as HEIF (ISO/IEC 23008-12) needs it: items,
references between them, properties and locations. It decodes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import Undecodable
from galerly_cdn.render.originals.heif import boxes

if TYPE_CHECKING:
    from collections.abc import Iterator

ALPHA_TYPES = frozenset({b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"})
GAIN_MAP_TYPES = frozenset({b"urn:com:apple:photo:2020:aux:hdrgainmap"})
_MAX_ITEMS = 4096
_MAX_EXTENTS = 1 << 16
"""Extents without a size take no bytes in the file, so their number must be limited."""


class Extent(NamedTuple):
    """A part of an item's data; `is_inside` if it lies in the `idat` box and not in the file."""

    is_inside: bool
    offset: int
    length: int


class _Entry(NamedTuple):
    item: int
    kind: bytes
    media_type: bytes
    is_hidden: bool


class Items(NamedTuple):
    """The items of a file by their ID; `references` are (type, from, to) in the order of the file."""

    original: bytes
    primary: int
    types: dict[int, bytes]
    media_types: dict[int, bytes]
    hidden: frozenset[int]
    references: list[tuple[bytes, int, tuple[int, ...]]]
    extents: dict[int, list[Extent]]
    properties: dict[int, list[tuple[bytes, bytes]]]
    inside: bytes

    def property_of(self, item: int, kind: bytes) -> bytes | None:
        """The content of an item's first property of a type; None if it has none."""
        return next((content for name, content in self.properties.get(item, ()) if name == kind), None)

    def auxiliary_types(self) -> set[bytes]:
        """The types of the pictures that are auxiliary to the primary picture."""
        return {self._auxiliary_type(item) for item in self._auxiliaries()}

    def has_gain_map(self) -> bool:
        """Whether the file has a gain map: Apple's auxiliary picture, or a `tmap` item (ISO 21496-1)."""
        return bool(self.auxiliary_types() & GAIN_MAP_TYPES) or b"tmap" in self.types.values()

    def coded_items(self) -> list[int]:
        """The items that are decoded for the primary picture: itself or its tiles, and its alpha.

        Raises `Undecodable` if an item is referenced that the file does not hold.
        """
        alphas = [item for item in self._auxiliaries() if self._auxiliary_type(item) in ALPHA_TYPES]
        derived = {one: to for kind, one, to in reversed(self.references) if kind == b"dimg"}
        found: dict[int, None] = {}
        pending = [*reversed(alphas), self.primary]
        while pending:
            item = pending.pop()
            if item in found:
                continue
            if item not in self.types:
                raise Undecodable(f"item {item} is missing")
            found[item] = None
            pending += reversed(derived.get(item, ()))
        coded = [item for item in found if item not in derived]
        if not coded:
            raise Undecodable("the primary picture has no coded data")
        return coded

    def data_of(self, item: int) -> bytes:
        """The coded data of an item. Raises `Undecodable` if the file ends before it."""
        parts = []
        for is_inside, offset, length in self.extents.get(item, ()):
            source = self.inside if is_inside else self.original
            if offset + length > len(source):
                raise Undecodable(f"item {item} ends at {offset + length}, the file has {len(source)} bytes")
            parts.append(source[offset : offset + length if length else None])
            if sum(map(len, parts)) > len(self.original) + len(self.inside):
                raise Undecodable(f"the parts of item {item} overlap")
        if not any(parts):
            raise Undecodable(f"item {item} has no data")
        return b"".join(parts)

    def metadata(self, kind: bytes) -> bytes:
        """The metadata of the primary picture, by `Exif` or a media type; empty if missing or damaged."""
        for reference, item, to in self.references:
            if reference == b"cdsc" and self.primary in to and self._kind_of(item) == kind:
                try:
                    return self.data_of(item)
                except Undecodable:
                    return b""
        return b""

    def _kind_of(self, item: int) -> bytes:
        return self.media_types.get(item) or self.types.get(item, b"")

    def _auxiliaries(self) -> list[int]:
        return [one for kind, one, to in self.references if kind == b"auxl" and self.primary in to]

    def _auxiliary_type(self, item: int) -> bytes:
        return (self.property_of(item, b"auxC") or b"")[4:].partition(b"\0")[0]


def read(original: bytes) -> Items:
    """Read the items of a file. Raises `Undecodable` if the boxes are damaged."""
    try:
        return _read(original)
    except (IndexError, StopIteration, ValueError) as error:
        raise Undecodable(f"the boxes of the file are damaged: {type(error).__name__}") from error


def _read(original: bytes) -> Items:
    meta = next((content for kind, content in boxes(original) if kind == b"meta"), None)
    if meta is None:
        raise ValueError
    inner = dict(reversed(list(boxes(meta[4:]))))
    primary = _Reader(inner[b"pitm"]) if b"pitm" in inner else None
    if primary is None:
        raise Undecodable("the file names no primary picture")
    version = primary.version()
    entries = list(_entries(inner.get(b"iinf", b"")))
    return Items(
        original=original,
        primary=primary.number(2 if version == 0 else 4),
        types={entry.item: entry.kind for entry in entries},
        media_types={entry.item: entry.media_type for entry in entries if entry.media_type},
        hidden=frozenset(entry.item for entry in entries if entry.is_hidden),
        references=list(_references(inner.get(b"iref", b""))),
        extents=dict(_extents(inner.get(b"iloc", b""))),
        properties=_properties(inner.get(b"iprp", b"")),
        inside=inner.get(b"idat", b""),
    )


class _Reader:
    """Reads big-endian numbers from a box. Raises `IndexError` at its end."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.position = 0

    def number(self, length: int) -> int:
        end = self.position + length
        if end > len(self.body):
            raise IndexError
        value = int.from_bytes(self.body[self.position : end], "big")
        self.position = end
        return value

    def version(self) -> int:
        """The version of a full box; the flags are in the following `number(3)`, which is skipped."""
        version = self.number(1)
        self.number(3)
        return version


def _entries(body: bytes) -> Iterator[_Entry]:
    """Yield the entry of each item (`iinf` and `infe`, §8.11.6)."""
    if not body:
        return
    reader = _Reader(body)
    reader.number(2 if reader.version() == 0 else 4)
    for kind, content in boxes(body[reader.position :]):
        if kind == b"infe":
            entry = _Reader(content)
            item = entry.number(4 if entry.version() >= 3 else 2)
            entry.number(2)
            item_kind = content[entry.position : entry.position + 4]
            texts = content[entry.position + 4 :].split(b"\0", 2)
            media_type = texts[1] if item_kind == b"mime" and len(texts) > 1 else b""
            yield _Entry(item, item_kind, media_type, bool(content[3] & 1))


def _references(body: bytes) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """Yield the references (`iref`, §8.11.12)."""
    if not body:
        return
    width = 2 if _Reader(body).version() == 0 else 4
    for kind, content in boxes(body[4:]):
        reader = _Reader(content)
        item, count = reader.number(width), reader.number(2)
        yield kind, item, tuple(reader.number(width) for _ in range(count))


def _extents(body: bytes) -> Iterator[tuple[int, list[Extent]]]:
    """Yield each item's extents (`iloc`, §8.11.3)."""
    if not body:
        return
    reader = _Reader(body)
    version = reader.version()
    sizes, more_sizes = reader.number(1), reader.number(1)
    offset_size, length_size = sizes >> 4, sizes & 15
    base_size, index_size = more_sizes >> 4, more_sizes & 15 if version else 0
    width = 4 if version >= 2 else 2
    total = 0
    for _ in range(min(reader.number(width), _MAX_ITEMS)):
        item = reader.number(width)
        method = reader.number(2) & 15 if version else 0
        reader.number(2)
        base = reader.number(base_size)
        extents = []
        count = reader.number(2)
        total += count
        if total > _MAX_EXTENTS:
            raise ValueError
        for _ in range(count):
            reader.number(index_size)
            extents.append(Extent(method == 1, base + reader.number(offset_size), reader.number(length_size)))
        yield item, extents


def _properties(body: bytes) -> dict[int, list[tuple[bytes, bytes]]]:
    """Return each item's properties in their order (`iprp`, ISO/IEC 23008-12 §9.3)."""
    inner = list(boxes(body))
    every = list(boxes(next((content for kind, content in inner if kind == b"ipco"), b"")))
    properties: dict[int, list[tuple[bytes, bytes]]] = {}
    for content in (content for kind, content in inner if kind == b"ipma"):
        reader = _Reader(content)
        version, flags = reader.number(1), reader.number(3)
        for _ in range(min(reader.number(4), _MAX_ITEMS)):
            item = reader.number(4 if version >= 1 else 2)
            wide = bool(flags & 1)
            indexes = [
                reader.number(2 if wide else 1) & (0x7FFF if wide else 0x7F) for _ in range(reader.number(1))
            ]
            properties.setdefault(item, []).extend(every[index - 1] for index in indexes if index)
    return properties
