"""Makes ICC profiles for originals that name their colours without one, and reads profiles' names.

Cameras write "Adobe RGB" in an EXIF tag; AVIF and PNG hold code points (ITU-T H.273: primaries and a
transfer function). `profile_bytes` makes a matrix profile of such a name (ICC.1:2022 §8.3.2), so that the
pipeline converts all colours in one way. HDR transfer functions get a shoulder: light up to 60 % of SDR
white (203 cd/m², BT.2408) is unchanged, and highlights roll off towards white instead of clipping.
"""

from __future__ import annotations

import functools
import itertools
import math
import struct
from typing import TYPE_CHECKING, Final

from galerly_cdn.render.originals import heif
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable

_BT709, _BT2020, _P3, _ADOBE = 1, 9, 12, -1
_SRGB, _LINEAR, _PQ, _HLG, _GAMMA_563_256 = 13, 8, 16, 18, -1
HDR_TRANSFERS: Final = frozenset({_PQ, _HLG})

# The red, green and blue columns in XYZ, adapted to D50 by Bradford.
_COLORANTS: Final = {
    _BT709: ((0.43607, 0.22250, 0.01393), (0.38506, 0.71688, 0.09710), (0.14308, 0.06062, 0.71417)),
    _ADOBE: ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
    _P3: ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
    _BT2020: ((0.67348, 0.27903, -0.00194), (0.16568, 0.67534, 0.02998), (0.12506, 0.04563, 0.79687)),
}
_SRGB_PARAMETERS: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_D50: Final = (0.96420, 1.0, 0.82491)
_WHITE_CDM2 = 203.0
_SHOULDER = 0.6
_CURVE_POINTS = 4096
_PRIMARIES_NAMES: Final = {
    _BT709: "BT.709",
    _BT2020: "BT.2020",
    _P3: "Display P3",
    _ADOBE: "Adobe RGB (1998)",
}
_TRANSFER_NAMES: Final = {_SRGB: "", _LINEAR: " linear", _PQ: " PQ", _HLG: " HLG", _GAMMA_563_256: ""}


class NamedColors(Value, frozen=True):
    """Primaries and transfer function as code points of H.273; -1 for Adobe RGB (1998), which has none."""

    primaries: int
    transfer: int

    def __str__(self) -> str:
        return _PRIMARIES_NAMES[self.primaries] + _TRANSFER_NAMES[self.transfer]


ADOBE_RGB: Final = NamedColors(_ADOBE, _GAMMA_563_256)


def named_colors(primaries: int, transfer: int) -> NamedColors | None:
    """Return the colours with these code points; None for sRGB and for unknown code points.

    Every transfer function except linear, PQ and HLG is treated as that of sRGB, as in browsers.
    """
    transfer = transfer if transfer in {_LINEAR, _PQ, _HLG} else _SRGB
    if primaries not in {_BT2020, _P3}:
        primaries = _BT709
    return None if (primaries, transfer) == (_BT709, _SRGB) else NamedColors(primaries, transfer)


def heif_colors(original: bytes) -> NamedColors | None:
    """Return the colours of the first `nclx` colour box (ISO/IEC 14496-12 §12.1.5) of the item properties."""
    body = original
    for kind, skip in ((b"meta", 4), (b"iprp", 0), (b"ipco", 0)):
        box = next((content for name, content in heif.boxes(body) if name == kind), b"")
        body = box[skip:]
    for name, content in heif.boxes(body):
        if name == b"colr" and content[:4] == b"nclx" and len(content) >= 8:
            return named_colors(*struct.unpack(">HH", content[4:8]))
    return None


def png_colors(chunks: dict[bytes, bytes]) -> NamedColors | None:
    """Return the colours of the `cICP` chunk (PNG 3rd edition §11.3.2.6)."""
    points = chunks.get(b"cICP", b"")
    return named_colors(points[0], points[1]) if len(points) == 4 else None


def description(profile: bytes) -> str:
    """Return the profile's description (ICC.1:2022 §9.2.41), at most 80 printable characters, or "ICC"."""
    count = int.from_bytes(profile[128:132], "big")
    for entry in itertools.islice(range(132, len(profile) - 11, 12), min(count, 64)):
        if profile[entry : entry + 4] != b"desc":
            continue
        offset, length = struct.unpack(">II", profile[entry + 4 : entry + 12])
        tag = profile[offset : offset + length]
        if tag[:4] == b"mluc" and len(tag) >= 28:
            size, start = struct.unpack(">II", tag[20:28])
            text = tag[start : start + size].decode("utf-16-be", "replace")
        else:
            text = tag[12 : 12 + int.from_bytes(tag[8:12], "big")].decode("ascii", "replace")
        return "".join(letter for letter in text if letter.isprintable())[:80] or "ICC"
    return "ICC"


@functools.cache
def profile_bytes(colors: NamedColors) -> bytes:
    """Return an ICC v4 matrix profile of these colours."""
    curve = _curve(colors.transfer)
    tags = {b"desc": _text(str(colors)), b"cprt": _text("CC0"), b"wtpt": _xyz(_D50)}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    tags |= dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, _COLORANTS[colors.primaries]), strict=True))
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    total = start + len(data)
    d50 = b"".join(map(_fixed, _D50))
    header = (
        struct.pack(">I4xI", total, 0x04300000) + b"mntrRGB XYZ " + struct.pack(">6H", 2025, 1, 1, 0, 0, 0)
    )
    header += b"acsp" + bytes(28) + d50
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(triple: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, triple))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII4sII", 1, 12, b"enUS", len(encoded), 28) + encoded


def _curve(transfer: int) -> bytes:
    """Return the curve from device values to light: parametric (ICC.1:2022 §10.18), sampled for HDR."""
    if transfer == _SRGB:
        return b"para" + struct.pack(">4xHH", 3, 0) + b"".join(map(_fixed, _SRGB_PARAMETERS))
    if transfer in {_LINEAR, _GAMMA_563_256}:
        return b"para" + struct.pack(">4xHH", 0, 0) + _fixed(1.0 if transfer == _LINEAR else 563 / 256)
    light: Callable[[float], float] = _pq if transfer == _PQ else _hlg
    signals = (point / (_CURVE_POINTS - 1) for point in range(_CURVE_POINTS))
    points = [round(65535 * _with_shoulder(light(signal) / _WHITE_CDM2)) for signal in signals]
    return b"curv" + struct.pack(">4xI", _CURVE_POINTS) + struct.pack(f">{_CURVE_POINTS}H", *points)


def _with_shoulder(light: float) -> float:
    if light <= _SHOULDER:
        return light
    return _SHOULDER + (1 - _SHOULDER) * -math.expm1((_SHOULDER - light) / (1 - _SHOULDER))


def _pq(signal: float) -> float:
    """Return the light in cd/m² (SMPTE ST 2084)."""
    power = math.pow(signal, 32 / 2523)
    ratio = max(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)
    return 10_000 * math.pow(ratio, 16384 / 2610)


def _hlg(signal: float) -> float:
    """Return the light in cd/m² on a display of 1000 (BT.2100 table 5, system gamma 1.2 for each channel)."""
    if signal <= 0.5:
        return 1000 * math.pow(signal**2 / 3, 1.2)
    scene = (math.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return 1000 * math.pow(scene, 1.2)
