"""Builds fact records."""

from __future__ import annotations

from galerly_cdn.model import FactRecord, Facts, Refusal

FACTS = Facts(
    format="jpeg",
    width_px=6000,
    height_px=4000,
    orientation=6,
    frames=1,
    bits=8,
    bands=3,
    has_alpha=False,
    is_progressive=True,
    profile="Ünïcödé \u2028 profile",
    metadata=("exif", "gps"),
    loses=("exif", "gps"),
    decode_bytes=18_432_000,
    coefficient_bytes=144_000_000,
)
REFUSAL = Refusal("undecodable", "The photograph is damaged or incomplete.", "VipsJpeg: \x00 premature end")


def good(key: str, version: str = "v1", revision: str = "r1") -> FactRecord:
    return FactRecord(key, version, revision, FACTS, is_good=True)


def header_only(key: str, version: str = "v1", revision: str = "r1") -> FactRecord:
    return FactRecord(key, version, revision, FACTS)


def refused(
    key: str,
    version: str = "v1",
    revision: str = "r1",
    facts: Facts | None = None,
    refusal: Refusal = REFUSAL,
) -> FactRecord:
    return FactRecord(key, version, revision, facts, refusal=refusal)
