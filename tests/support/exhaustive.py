"""Chooses how much of an exhaustive test runs: all of it with EVERYTHING=1, as in CI, else a sample."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

EVERYTHING = os.environ.get("EVERYTHING") == "1"
"""Whether exhaustive tests run whole, and a skipped test is a failure."""


def count(everything: int, sample: int) -> int:
    """The number of repetitions."""
    return everything if EVERYTHING else sample


def cases(everything: Sequence[T], every: int) -> Sequence[T]:
    """All cases, or the first of each `every` of them."""
    return everything if EVERYTHING else everything[::every]
