"""Damages files as disks, transfers and sync tools do, deterministically. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

PAGE_BYTES = 4096
KINDS = (
    "4 KB zeroed",
    "4 KB random",
    "512 B deleted",
    "64 B deleted",
    "512 B inserted",
    "64 B inserted",
    "tail zeroed",
    "tail cut",
)
"""The rows of the table, in its order."""
_POSITIONS = 9
_TAILS = 16


@dataclass(frozen=True)
class Mutation:
    """One damage: its kind, and the byte at which it begins."""

    kind: str
    start: int
    seed: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.start}"

    def apply(self, original: bytes) -> bytes:
        """The damaged file."""
        match self.kind.split():
            case ["4", "KB", "zeroed"]:
                return self._overwritten(original, bytes(PAGE_BYTES))
            case ["4", "KB", "random"]:
                return self._overwritten(original, self._random(PAGE_BYTES))
            case [count, "B", "deleted"]:
                return original[: self.start] + original[self.start + int(count) :]
            case [count, "B", "inserted"]:
                return original[: self.start] + self._random(int(count)) + original[self.start :]
            case ["tail", "zeroed"]:
                return original[: self.start] + bytes(len(original) - self.start)
            case ["tail", "cut"]:
                return original[: self.start]
        raise ValueError(self.kind)

    def _overwritten(self, original: bytes, by: bytes) -> bytes:
        length = min(len(by), len(original) - self.start)
        return original[: self.start] + by[:length] + original[self.start + length :]

    def _random(self, count: int) -> bytes:
        return random.Random(self.seed).randbytes(count)


def mutations(length_bytes: int, name: str) -> list[Mutation]:
    """Every mutation of a file of this length: six kinds at nine positions, tails at every 1/16.

    Positions are spread over the whole file and moved by up to 4 % of it; the seed is the file's name.
    Pages begin at a multiple of 4096 bytes, as those of a disk.
    """
    rng = random.Random(name)
    made = []
    for kind in KINDS[:6]:
        for number in range(_POSITIONS):
            share = (number + 0.5) / _POSITIONS + rng.uniform(-0.04, 0.04)
            start = int(share * length_bytes)
            if kind.startswith("4 KB"):
                start -= start % PAGE_BYTES
            made.append(Mutation(kind, start, f"{name} {kind} {number}"))
    for kind in KINDS[6:]:
        made += [Mutation(kind, length_bytes * part // _TAILS, name) for part in range(1, _TAILS)]
    return made


def sampled(every: list[Mutation], count: int | None, name: str) -> list[Mutation]:
    """`count` of them, the same ones in each run; all if it is None."""
    if count is None or count >= len(every):
        return every
    return sorted(random.Random(f"sample {name}").sample(every, count), key=every.index)
