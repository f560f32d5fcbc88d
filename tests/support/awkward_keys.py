"""Makes keys that a layer may spell otherwise: spaces, quotes, `+`, `%`, emoji, NFC and NFD, 900 bytes."""

from __future__ import annotations

import random
import unicodedata

_PIECES = [
    *"ab Z09._-~'\"`!$&()*+,;=:@#?%[]{}<>|^",
    *("%20", "%2F", "%2e", "..", ".jpg", "é", unicodedata.normalize("NFD", "é"), "ß", "日本"),
    *("Ωмега", "שלום", "\xa0", "\N{FULLWIDTH SOLIDUS}", "\N{CAMERA}"),
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}",
]
_MAX_SEGMENT_BYTES, _MAX_KEY_BYTES = 255, 900


def make_keys(count: int, seed: int) -> list[str]:
    """Keys in galleries of their own, so that none is a folder of another. A tenth of them have 900 bytes."""
    numbers = random.Random(seed)
    return [_make_key(numbers, number, is_long=number % 10 == 9) for number in range(count)]


def _make_key(numbers: random.Random, number: int, *, is_long: bool) -> str:
    segments = [f"g{number}{_text(numbers, numbers.randrange(1, 20))}"]
    segments += [f"x{_text(numbers, numbers.randrange(1, 30))}" for _ in range(numbers.randrange(1, 4))]
    key = "/".join(segments)
    if is_long:
        while (rest := _MAX_KEY_BYTES - len(key.encode()) - 1) > 0:
            key += "/" + _text(numbers, min(rest, _MAX_SEGMENT_BYTES - 5), start="y")
            if rest == 1:
                break
    return key


def _text(numbers: random.Random, length_bytes: int, start: str = "") -> str:
    """Pieces of this many bytes together."""
    text = start
    while (rest := length_bytes - len(text.encode())) > 0:
        text += numbers.choice([piece for piece in _PIECES if len(piece.encode()) <= rest])
    return text
