"""Tests of the checks that need no corpus: the mutations, and the table of reported mistakes."""

from __future__ import annotations

import pytest

from checks import harmless, reports
from checks.mutations import KINDS, mutations, sampled
from galerly_cdn.render.formats import detect_format
from tests.support import pictures

ORIGINAL = pictures.jpeg(300, 200)


@pytest.mark.parametrize("kind", KINDS)
def test_mutation_changes_the_file_alike_in_every_run(kind: str) -> None:
    made = [
        [one.apply(ORIGINAL) for one in mutations(len(ORIGINAL), "a.jpg") if one.kind == kind]
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert len(made[0]) == (15 if kind.startswith("tail") else 9)
    assert ORIGINAL not in made[0]


def test_sample_is_the_same_in_every_run_and_part_of_all() -> None:
    every = mutations(len(ORIGINAL), "a.jpg")
    assert sampled(every, 8, "a.jpg") == sampled(every, 8, "a.jpg")
    assert set(sampled(every, 8, "a.jpg")) < set(every)
    assert sampled(every, None, "a.jpg") == every


@pytest.mark.parametrize("original", [ORIGINAL, pictures.png(60, 40), pictures.gif()])
def test_harmless_irregularity_keeps_the_format(original: bytes) -> None:
    kind = detect_format(original)
    made = [harmless.apply(original, name, kind) for name in harmless.kinds(kind)]
    assert all(one is None or (one != original and detect_format(one) is kind) for one in made)
    assert sum(one is not None for one in made) >= 2


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("jpeg_no_eoi.jpg", "jpeg_*.jpg"),
        ("tiff_lab8_alpha.tif", "tiff_lab*_alpha.tif"),
        ("tiff_lab8.tif", "tiff_lab*.tif"),
        ("nef_like.nef", "*.{dng,nef,arw,pef}"),
        ("gray_prophoto.jpg", "{png_cicp,png_gama,png_chrm,png_gray,gray_prophoto,avif_gamma}*"),
    ],
)
def test_reported_file_has_the_entry_of_its_kind(name: str, pattern: str) -> None:
    found = reports.entry(name)
    assert found is not None
    assert found.pattern == pattern


def test_unknown_file_has_no_entry() -> None:
    assert reports.entry("another.webp") is None
