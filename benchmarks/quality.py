"""Scores pictures with SSIMULACRA2 (100 is identical) against a full-decode Lanczos reference."""

from __future__ import annotations

import io
import statistics
from typing import TYPE_CHECKING

from PIL import Image

from checks import oracle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def mean(root: Path, keys: Sequence[str], bodies: Sequence[bytes]) -> str:
    """The mean score of the pictures, each against its fully decoded original at the picture's size."""
    from ssimulacra2 import compute_ssimulacra2  # type: ignore[import-not-found,unused-ignore]  # optional

    scores = []
    for key, body in zip(keys, bodies, strict=True):
        answer = Image.open(io.BytesIO(body)).convert("RGB")
        upright = oracle.on_white(oracle.upright(root / key))
        reference = upright.resize(answer.size, Image.Resampling.LANCZOS)
        scores.append(compute_ssimulacra2(_png(reference), _png(answer)))
    return f"{statistics.fmean(scores):.1f}"


def _png(picture: Image.Image) -> io.BytesIO:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    buffer.seek(0)
    return buffer
