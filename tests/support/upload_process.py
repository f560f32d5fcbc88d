"""A CDN that takes uploads, to be killed (`zygote`).

It says `try KEY NUMBER` before an upload, `ack KEY NUMBER` when it was
accepted, `not KEY NUMBER` when the name was taken, and `wrong …` if a picture is not that of its original.
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
    """One color, its number in a comment, and a tail long enough to be torn."""
    plain = Image.new("RGB", (120, 80), color(number))
    tail = random.Random(number)
    content = pictures.saved(plain, "JPEG", quality=90, comment=str(number).encode())
    return content + tail.randbytes(tail.randrange(300_000))


def color(number: int) -> tuple[int, int, int]:
    return number % 7 * 36, number // 7 % 7 * 36, number // 49 % 7 * 36


def number_of(content: bytes) -> int:
    """Which photograph begins like this."""
    return int(Image.open(io.BytesIO(content)).info["comment"])


def shows(body: bytes, number: int) -> bool:
    """Whether a rendition is of that photograph."""
    seen = Image.open(io.BytesIO(body)).convert("RGB").getpixel((50, 40))
    assert isinstance(seen, tuple)
    return all(abs(a - b) < 12 for a, b in zip(seen, color(number), strict=True))


async def _work(root: Path, seed: int, step: str) -> None:
    settings = Settings(store=str(root), workers=1, access_log=False)
    async with compose(settings, locations.resolve_locations(settings, None)) as cdn:
        process_forker.die_at(step, random.Random(seed).randrange(1, 25))
        await asyncio.gather(*(_lane(cdn, seed, lane) for lane in range(LANES)))


async def _lane(cdn: Cdn, seed: int, lane: int) -> None:
    """One upload after the other; nobody else touches this lane's keys."""
    assert cdn.library is not None
    rng = random.Random(f"{seed} {lane}")
    number = (seed * LANES + lane) * 1000
    while True:
        number += 1
        key = f"g{lane}/{rng.randrange(4)}.jpg"
        content = photograph(number)
        _say("try", key, number)
        try:
            pieces = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
            await cdn.library.upload(key, stream(pieces), replaces=rng.random() < 0.8)
        except OriginalExists:
            _say("not", key, number)
            continue
        _say("ack", key, number)
        answer = await ask(cdn, f"/resize/tiny/{key}")
        if answer.status != 200 or not shows(answer.body, number):
            _say("wrong", key, number)


def _say(what: str, key: str, number: int) -> None:
    os.write(1, f"{what} {key} {number}\n".encode())


if __name__ == "__main__":
    process_forker.main(_work)
