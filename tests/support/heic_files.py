"""Builds HEIC files (ISO/IEC 23008-12) around small coded pictures, with every property that a test needs.

The coded pictures have 64 × 64 px and were encoded with x265 from painted fields. `COLORS` are those of the
upper left, upper right, lower left and lower right field; `GREYS` those of four vertical stripes. The paint
is the right answer, whatever a decoder says.
"""

from __future__ import annotations

import base64
import struct
from typing import NamedTuple

SIDE_PX = 64
COLORS = ((200, 60, 50), (60, 160, 70), (50, 80, 190), (150, 150, 150))
GREYS = (0, 85, 170, 255)
ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
APPLE_GAIN_MAP = b"urn:com:apple:photo:2020:aux:hdrgainmap"
DEPTH = b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth"
_CODED = {
    "color": (
        112,
        (
            "0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDD?$MQ18@KU0|1Z!00RI30{|YNA"
            "b|yz>PacCZUPz%2mk;B0LTCU0{{p>VgLaE2SfqEa<C#m0000vC;_hqcwqK?-|fwR|Nad><Ue<yI&8m>3glBy|N9a=sOR}h8^"
            "`btTmSZI+JYwfG9&-J<GS~xvH"
        ),
    ),
    "grey": (
        106,
        (
            "0R#vD005u(000009`FGC{P_3)01pFT0096OKmiN^|NjIC00093pZEX(0{{RXx&lC90096dLID8;2mk;B0H62(00RI39>9VG7"
            "F($#rn#^n00096AOHXZ03l)k0RRU?0l{*xB0vBD0M94^t_<*Z9OpQ`zCC<rYC!1S(>Gcj&;_9>_MQqHb%g`DP~KF1o*gef)J"
            "5@~9-LL~>>fXGUjCJZ{eB+oZ4tL+E};Z`Q~2hfT<RI<>`bc3{ka=8mADdDa$m<=MD+-c@Lbxu|8=+iqM!afN#RD4w6G~KH>-"
            "zOb6CYbj2xd^zSs0-FM%T8b&*=r!6I(ChEzQ~5AdX4**(7PXjqo==G@IsrMf$LIzH*$+i}~}SbQdN;@L;^yKG)7i<bl+XP>-"
            "<`?^>4H}B*Ft^"
        ),
    ),
    "deep": (
        109,
        (
            "0R#vD005o1000009`FGC{rdU<01pFT0096OKmiN^|NjIC00093owxu10{{RXx&lC90096gLID8;2mk;B0G+r100RI39-ttB1"
            "lew+lA7k=A)vs3000bt00093gkk^z00%??!E&%7KmY&$IVb_I26$lheBbTOfB*gof8;-SM!Iajk)h-m-~a4W;-jDCv9BM%Id"
            "A{jyFv(?==!_<_m1n|GS~"
        ),
    ),
    "deep12": (
        111,
        (
            "0R#vD005b|000009`FGC{rvm@01pFT0096OKmiN^|NjIC00093nYaJ|0{{RXx&lC90096iLID8;2mk;B0GYS|00RI39-ttB1"
            "X7mjNhz*w0vZem00093$N&HX00=;000968L;=Baup&SJ0022C0j~ylVD^09?ZrR;{s=$hKX>zbY`>AA<Mx05u_MZkf0j$Ue*"
            "o0q|7PNNB5$MW@B7|6uY73W"
        ),
    ),
}
"""(Length of the decoder configuration record, record and coded data) by the picture's name."""

Property = tuple[bytes, bytes]


class Item(NamedTuple):
    """An item: its type, data and properties, and its references as (type, IDs). IDs begin with 1."""

    kind: bytes
    data: bytes
    properties: tuple[Property, ...] = ()
    references: tuple[tuple[bytes, tuple[int, ...]], ...] = ()
    is_hidden: bool = False
    media_type: bytes = b""


def coded(
    name: str = "color",
    *properties: Property,
    references: tuple[tuple[bytes, tuple[int, ...]], ...] = (),
    is_hidden: bool = False,
) -> Item:
    """Return an item with a coded picture: color, grey, deep (10 bits) or deep12."""
    record_bytes, text = _CODED[name]
    both = base64.b85decode(text)
    bits, bands = {"deep": 10, "deep12": 12}.get(name, 8), 1 if name == "grey" else 3
    basic = ((b"hvcC", both[:record_bytes]), size(SIDE_PX, SIDE_PX), depth(bits, bands))
    return Item(b"hvc1", both[record_bytes:], (*basic, *properties), references, is_hidden)


def grid(columns: int, rows: int, width_px: int, height_px: int, *properties: Property) -> list[Item]:
    """Return a grid, which is the first item, and its tiles (§6.6.2.3)."""
    data = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width_px, height_px)
    tiles = tuple(range(2, 2 + rows * columns))
    whole = (size(width_px, height_px), depth(8, 3), *properties)
    return [Item(b"grid", data, whole, ((b"dimg", tiles),)), *(coded(is_hidden=True) for _ in tiles)]


def auxiliary(kind: bytes, *, of: int = 1, name: str = "grey") -> Item:
    """Return an auxiliary picture: alpha, a gain map, depth (§6.4.5)."""
    return coded(name, (b"auxC", bytes(4) + kind + b"\0"), references=((b"auxl", (of,)),))


def exif(block: bytes, *, of: int = 1) -> Item:
    """Return an EXIF item from a block with its identifier (§A.2.1)."""
    return Item(b"Exif", struct.pack(">I", 6) + block, (), ((b"cdsc", (of,)),))


def xmp(packet: bytes, *, of: int = 1) -> Item:
    """Return an XMP item (§A.3)."""
    return Item(b"mime", packet, (), ((b"cdsc", (of,)),), media_type=b"application/rdf+xml\0")


def size(width_px: int, height_px: int) -> Property:
    """Return an image size (§6.5.3)."""
    return b"ispe", struct.pack(">III", 0, width_px, height_px)


def depth(bits: int, bands: int) -> Property:
    """Return a pixel information property (§6.5.6)."""
    return b"pixi", struct.pack(f">IB{bands}B", 0, bands, *[bits] * bands)


def rotated(quarters: int) -> Property:
    """Return a rotation by quarter turns counter-clockwise (§6.5.10)."""
    return b"irot", bytes([quarters])


def mirrored(axis: int) -> Property:
    """Return a mirroring: 0 exchanges top and bottom, 1 left and right (§6.5.12)."""
    return b"imir", bytes([axis])


def named(primaries: int, transfer: int, matrix: int = 6, *, is_full: bool = True) -> Property:
    """Return a colour box with code points (ISO/IEC 14496-12 §12.1.5)."""
    return b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, is_full << 7)


def profile(icc: bytes) -> Property:
    """Return a colour box with an ICC profile."""
    return b"colr", b"prof" + icc


def heic(*items: Item, brand: bytes = b"heic") -> bytes:
    """Return a file; the first item is the primary picture."""
    properties = list(dict.fromkeys(one for item in items for one in item.properties))
    body = b"".join(item.data for item in items)
    kinds = _box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
    start = len(kinds) + len(_meta(items, properties, 0)) + 8  # the offsets have a constant width
    return kinds + _meta(items, properties, start) + _box(b"mdat", body)


def _meta(items: tuple[Item, ...], properties: list[Property], start: int) -> bytes:
    entries = b"".join(
        _box(
            b"infe",
            struct.pack(">BxxBHH", 2, item.is_hidden, number, 0) + item.kind + b"\0" + item.media_type,
        )
        for number, item in enumerate(items, 1)
    )
    references = b"".join(
        _box(kind, struct.pack(f">HH{len(to)}H", number, len(to), *to))
        for number, item in enumerate(items, 1)
        for kind, to in item.references
    )
    locations, position = b"", start
    for number, item in enumerate(items, 1):
        locations += struct.pack(">HHHII", number, 0, 1, position, len(item.data))
        position += len(item.data)
    associations = b"".join(
        struct.pack(">HB", number, len(item.properties))
        + bytes(_association(properties, one) for one in item.properties)
        for number, item in enumerate(items, 1)
    )
    kinds = _box(b"ipco", b"".join(_box(kind, content) for kind, content in properties))
    return _box(
        b"meta",
        bytes(4)
        + _box(b"hdlr", bytes(8) + b"pict" + bytes(13))
        + _box(b"pitm", struct.pack(">IH", 0, 1))
        + _box(b"iinf", struct.pack(">IH", 0, len(items)) + entries)
        + (_box(b"iref", bytes(4) + references) if references else b"")
        + _box(b"iprp", kinds + _box(b"ipma", struct.pack(">II", 0, len(items)) + associations))
        + _box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(items)) + locations),
    )


def _association(properties: list[Property], one: Property) -> int:
    """Return the index of a property; transformations and the decoder's configuration are essential."""
    is_essential = one[0] in {b"hvcC", b"irot", b"imir", b"clap"}
    return properties.index(one) + 1 | is_essential << 7


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content
