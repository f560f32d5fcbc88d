"""Makes ICC profiles for originals that name their colours without one, and reads profiles' names.

Cameras write "Adobe RGB" in an EXIF tag; AVIF and PNG hold code points (ITU-T H.273: primaries and a
transfer function), and PNG also a gamma and chromaticities. `profile_bytes` makes a matrix profile of them
(ICC.1:2022 §8.3.2), so that the pipeline converts all colours in one way. HDR transfer functions get a
shoulder: light up to 60 % of SDR white (203 cd/m², BT.2408) is unchanged, and highlights roll off towards
white instead of clipping.
"""

from __future__ import annotations

import functools
import itertools
import math
import struct
from typing import TYPE_CHECKING, Final

from galerly_cdn.render.primaries import D50, colorants, is_color_space
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.render.primaries import Chromaticities

_BT709, _BT470_M, _BT470_BG, _SMPTE_170M, _SMPTE_240M, _FILM = 1, 4, 5, 6, 7, 8
_BT2020, _XYZ, _DCI_P3, _P3, _EBU = 9, 10, 11, 12, 22
_OWN, _ADOBE = 0, -1
_GAMMA_22, _GAMMA_28, _LINEAR, _SRGB, _PQ, _SMPTE_428, _HLG = 4, 5, 8, 13, 16, 17, 18
_GAMMA = -1
HDR_TRANSFERS: Final = frozenset({_PQ, _HLG})

_D65: Final = (0.3127, 0.3290)
_C: Final = (0.310, 0.316)
_CHROMATICITIES: Final[dict[int, Chromaticities]] = {
    _BT709: (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    _BT470_M: (*_C, 0.670, 0.330, 0.210, 0.710, 0.140, 0.080),
    _BT470_BG: (*_D65, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    _SMPTE_170M: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    _SMPTE_240M: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    _FILM: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    _BT2020: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    _XYZ: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    _DCI_P3: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    _P3: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    _EBU: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
    _ADOBE: (*_D65, 0.640, 0.330, 0.210, 0.710, 0.150, 0.060),
}
"""White, red, green and blue of H.273's ColourPrimaries (table 2)."""
_BT709_TRANSFERS: Final = frozenset({1, 6, 11, 14, 15})
"""The code points with the transfer function of BT.709: a display shows it with a gamma of 2.4 (BT.1886)."""
_EXPONENTS: Final = {_LINEAR: 1.0, _BT709: 2.4, _GAMMA_22: 2.2, _GAMMA_28: 2.8}
_PNG_TRANSFERS: Final = frozenset(
    {*_BT709_TRANSFERS, _GAMMA_22, _GAMMA_28, _SMPTE_240M, _LINEAR, _SRGB, _PQ, _SMPTE_428, _HLG}
)
_HEIF_TRANSFERS: Final = _PNG_TRANSFERS - _BT709_TRANSFERS
_SRGB_PARAMETERS: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_SMPTE_240M_PARAMETERS: Final = (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0913)
_WHITE_CDM2 = 203.0
_SHOULDER = 0.6
_CURVE_POINTS = 4096
_MAX_PROFILES = 64
_PRIMARIES_NAMES: Final = {
    _OWN: "cHRM",
    _BT709: "BT.709",
    _BT470_M: "BT.470 M",
    _BT470_BG: "BT.470 B/G",
    _SMPTE_170M: "SMPTE 170M",
    _SMPTE_240M: "SMPTE 240M",
    _FILM: "film",
    _BT2020: "BT.2020",
    _XYZ: "XYZ",
    _DCI_P3: "DCI-P3",
    _P3: "Display P3",
    _EBU: "EBU Tech. 3213-E",
    _ADOBE: "Adobe RGB (1998)",
}
_TRANSFER_NAMES: Final = {
    _BT709: " gamma 2.4",
    _GAMMA_22: " gamma 2.2",
    _GAMMA_28: " gamma 2.8",
    _SMPTE_240M: " SMPTE 240M",
    _LINEAR: " linear",
    _SRGB: "",
    _PQ: " PQ",
    _SMPTE_428: " SMPTE ST 428-1",
    _HLG: " HLG",
}
_PNG_UNIT = 100_000
"""`gAMA` and `cHRM` hold integers: a value times 100,000."""
_SRGB_GAMMA = 2.2
_GAMMA_TOLERANCE = 0.05
_EXPONENT_RANGE = (0.001, 1000.0)
_LAST_INTENT = 3


class NamedColors(Value, frozen=True):
    """Primaries and transfer function as code points of H.273.

    -1 are the primaries of Adobe RGB (1998), and 0 those of `chromaticities`. The transfer function -1 is
    the power `exponent`.
    """

    primaries: int
    transfer: int
    exponent: float = 0.0
    chromaticities: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self == SRGB:
            return "sRGB"
        name = _PRIMARIES_NAMES[self.primaries]
        if self.primaries == _ADOBE:
            return name
        return name + _TRANSFER_NAMES.get(self.transfer, f" gamma {self.exponent:.4g}")


SRGB: Final = NamedColors(_BT709, _SRGB)
ADOBE_RGB: Final = NamedColors(_ADOBE, _GAMMA, 563 / 256)


def named_colors(primaries: int, transfer: int) -> NamedColors | None:
    """Return the colours with the code points of a HEIF's `nclx`; None for sRGB.

    As Chromium does, BT.709's transfer function and unknown code points count as sRGB's.
    """
    if transfer not in _HEIF_TRANSFERS:
        transfer = _SRGB
    if primaries not in _CHROMATICITIES:
        primaries = _BT709
    colors = NamedColors(primaries, transfer)
    return None if colors == SRGB else colors


def png_colors(chunks: dict[bytes, bytes], *, has_profile: bool) -> NamedColors | None:
    """Return the colours that a PNG names; None for those of its profile, or sRGB if it has none.

    `cICP` comes before the profile, the profile before `sRGB`, and that before `gAMA` (PNG 3rd edition
    §4.3). An invalid chunk counts as absent. As Chromium does, `cHRM` is read only with `gAMA`, and a `gAMA`
    alone within 5 % of 1/2.2 means sRGB.
    """
    named = _png_code_points(chunks.get(b"cICP", b""))
    if named or has_profile or _is_png_srgb(chunks.get(b"sRGB", b"")):
        return named
    gamma = chunks.get(b"gAMA", b"")
    if len(gamma) != 4 or not any(gamma):
        return None
    exponent = _PNG_UNIT / int.from_bytes(gamma, "big")
    limited = min(max(exponent, _EXPONENT_RANGE[0]), _EXPONENT_RANGE[1])
    points = chunks.get(b"cHRM", b"")
    if len(points) == 32:
        chromaticities = tuple(point / _PNG_UNIT for point in struct.unpack(">8I", points))
        return NamedColors(_OWN, _GAMMA, limited, chromaticities) if is_color_space(chromaticities) else None
    if abs(_SRGB_GAMMA / exponent - 1) < _GAMMA_TOLERANCE:
        return None
    return NamedColors(_BT709, _GAMMA, limited)


def _png_code_points(points: bytes) -> NamedColors | None:
    """Return the colours of `cICP`; None if it is not RGB of the full range or has an unknown code point."""
    if len(points) != 4 or points[2:] != b"\0\1":
        return None
    primaries, transfer = points[0], points[1]
    if primaries not in _CHROMATICITIES or transfer not in _PNG_TRANSFERS:
        return None
    return NamedColors(primaries, _BT709 if transfer in _BT709_TRANSFERS else transfer)


def _is_png_srgb(intent: bytes) -> bool:
    return len(intent) == 1 and intent[0] <= _LAST_INTENT


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


@functools.lru_cache(_MAX_PROFILES)
def profile_bytes(colors: NamedColors) -> bytes:
    """Return an ICC v4 matrix profile of these colours."""
    columns = colorants(colors.chromaticities or _CHROMATICITIES[colors.primaries])
    curve = _curve(colors)
    tags = {b"desc": _text(str(colors)), b"cprt": _text("CC0"), b"wtpt": _xyz(D50)}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    tags |= dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, columns), strict=True))
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    total = start + len(data)
    d50 = b"".join(map(_fixed, D50))
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


def _curve(colors: NamedColors) -> bytes:
    """Return the curve from device values to light: parametric (ICC.1:2022 §10.18) or sampled."""
    parameters = {_SRGB: _SRGB_PARAMETERS, _SMPTE_240M: _SMPTE_240M_PARAMETERS}.get(colors.transfer)
    if parameters:
        return b"para" + struct.pack(">4xHH", 3, 0) + b"".join(map(_fixed, parameters))
    lights = {_PQ: _pq, _HLG: _hlg, _SMPTE_428: _smpte_428}
    if colors.transfer in lights:
        light = lights[colors.transfer]
        signals = (point / (_CURVE_POINTS - 1) for point in range(_CURVE_POINTS))
        points = [round(65535 * light(signal)) for signal in signals]
        return b"curv" + struct.pack(">4xI", _CURVE_POINTS) + struct.pack(f">{_CURVE_POINTS}H", *points)
    return b"para" + struct.pack(">4xHH", 0, 0) + _fixed(_EXPONENTS.get(colors.transfer, colors.exponent))


def _with_shoulder(light_cdm2: float) -> float:
    light = light_cdm2 / _WHITE_CDM2
    if light <= _SHOULDER:
        return light
    return _SHOULDER + (1 - _SHOULDER) * -math.expm1((_SHOULDER - light) / (1 - _SHOULDER))


def _pq(signal: float) -> float:
    """Return the light of PQ, 10,000 cd/m² at most (SMPTE ST 2084)."""
    power = math.pow(signal, 32 / 2523)
    ratio = max(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)
    return _with_shoulder(10_000 * math.pow(ratio, 16384 / 2610))


def _hlg(signal: float) -> float:
    """Return the light of HLG on a display of 1000 cd/m² (BT.2100 table 5, system gamma 1.2 a channel)."""
    if signal <= 0.5:
        return _with_shoulder(1000 * math.pow(signal**2 / 3, 1.2))
    scene = (math.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return _with_shoulder(1000 * math.pow(scene, 1.2))


def _smpte_428(signal: float) -> float:
    """Return the light of a cinema projector, whose white is 48 of 52.37 cd/m² (SMPTE ST 428-1)."""
    return min(52.37 / 48 * math.pow(signal, 2.6), 1.0)
