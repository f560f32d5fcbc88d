"""Runs a CDN that takes uploads until it is killed (`process_forker`).

It prints `try KEY NUMBER` before an upload, `ack KEY NUMBER` when it was accepted, `not KEY NUMBER` when the
name was taken, and `wrong KEY NUMBER` if a picture was not made from its original.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
from typing import TYPE_CHECKING

from PIL import Image

from galerly_cdn.app.server import compose
from galerly_cdn.errors import OriginalExists
from galerly_cdn.settings import locations
from galerly_cdn.settings.table import Settings
from tests.support import pictures, process_forker
from tests.support.folder_library import ask, stream

if TYPE_CHECKING:
    from pathlib import Path

    from galerly_cdn.app.server import Cdn

LANES = 3
KEYS = [f"g{lane}/{number}.jpg" for lane in range(LANES) for number in range(4)]


def photograph(number: int) -> bytes:
    """A JPEG of one colour, with its number in a comment, and a tail that makes the upload long."""
    plain = Image.new("RGB", (120, 80), color(number))
    tail = random.Random(number)
    content = pictures.saved(plain, "JPEG", quality=90, comment=str(number).encode())
    return content + tail.randbytes(tail.randrange(300_000))


def color(number: int) -> tuple[int, int, int]:
    return number % 7 * 36, number // 7 % 7 * 36, number // 49 % 7 * 36


def number_of(content: bytes) -> int:
    """The number in a photograph's comment."""
    return int(Image.open(io.BytesIO(content)).info["comment"])


def shows(body: bytes, number: int) -> bool:
    """Whether a rendition was made from the photograph of this number."""
    pixel = Image.open(io.BytesIO(body)).convert("RGB").getpixel((50, 40))
    assert isinstance(pixel, tuple)
    return all(abs(a - b) < 12 for a, b in zip(pixel, color(number), strict=True))


async def _work(root: Path, seed: int, step: str) -> None:
    settings = Settings(store=str(root), workers=1, access_log=False)
    async with compose(settings, locations.resolve_locations(settings, None)) as cdn:
        process_forker.die_at(step, random.Random(seed).randrange(1, 25))
        await asyncio.gather(*(_lane(cdn, seed, lane) for lane in range(LANES)))


async def _lane(cdn: Cdn, seed: int, lane: int) -> None:
    """Sequential uploads. Each lane has keys of its own."""
    assert cdn.library is not None
    rng = random.Random(f"{seed} {lane}")
    number = (seed * LANES + lane) * 1000
    while True:
        number += 1
        key = f"g{lane}/{rng.randrange(4)}.jpg"
        content = photograph(number)
        _print_event("try", key, number)
        try:
            pieces = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
            await cdn.library.upload(key, stream(pieces), replaces=rng.random() < 0.8)
        except OriginalExists:
            _print_event("not", key, number)
            continue
        _print_event("ack", key, number)
        answer = await ask(cdn, f"/resize/tiny/{key}")
        if answer.status != 200 or not shows(answer.body, number):
            _print_event("wrong", key, number)


def _print_event(event: str, key: str, number: int) -> None:
    os.write(1, f"{event} {key} {number}\n".encode())


if __name__ == "__main__":
    process_forker.main(_work)
