"""Tests of the allow-list of loaders, the decodable formats and the check of libvips."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import pyvips

from galerly_cdn.errors import SettingsError, TooMuchMemory, Undecodable
from galerly_cdn.render import decoders, libvips_version
from galerly_cdn.render.formats import OriginalFormat, detect_format
from galerly_cdn.render.sample_images import SPECIMENS
from tests.support import pictures

if TYPE_CHECKING:
    from pathlib import Path

# In a separate process: loaders that are blocked would stay blocked for every other test.
BLOCKING_PROCESS = """
import sys, pyvips
from galerly_cdn.render import decoders, libvips_version
decoders.block_untrusted_loaders()
arguments = {"buffer": b"1,2", "source": pyvips.Source.new_from_memory(b"1,2")}
for name in sys.argv[2:]:
    argument = arguments.get(name.rpartition("_")[2], sys.argv[1])
    try:
        pyvips.Operation.call(name, argument, *([1, 1, 1] if name == "rawload" else []))
    except pyvips.Error as error:
        print(name, "blocked" if "operation is blocked" in str(error) else "open")
"""


def every_loader() -> dict[str, str]:
    """Return the class of every loader in the loaded libvips, by name."""
    classes: dict[str, str] = {}

    def visit(kind: int, *_: object) -> int:
        name = pyvips.nickname_find(kind)
        if not name.endswith("_base"):
            classes[name] = pyvips.type_name(kind)
        return pyvips.type_map(kind, visit)

    pyvips.type_map(pyvips.type_from_name("VipsForeignLoad"), visit)
    return classes


def test_loaders_outside_the_allow_list_are_blocked(tmp_path: Path) -> None:
    classes = every_loader()
    table = tmp_path / "table.csv"
    table.write_bytes(b"1,2\n3,4\n")
    lines = subprocess.run(
        [sys.executable, "-c", BLOCKING_PROCESS, str(table), *classes],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    allowed = tuple(f"VipsForeignLoad{name}" for name in decoders.ALLOWED_CLASSES)
    expected = {name: "open" if kind.startswith(allowed) else "blocked" for name, kind in classes.items()}
    assert dict(line.split() for line in lines) == expected
    blocked = {"svgload_buffer", "csvload", "matrixload", "rawload", "vipsload", "uhdrload_buffer"}
    assert {name for name, state in expected.items() if state == "blocked"} >= blocked


def test_decodable_formats_include_all_and_each_but_raw_has_a_specimen() -> None:
    assert decoders.decodable_formats() == set(OriginalFormat)
    assert set(SPECIMENS) == {kind.value for kind in OriginalFormat} - {"raw"}


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimen_has_the_format_of_its_name(name: str) -> None:
    assert detect_format(SPECIMENS[name]).value == name
    image = decoders.load(SPECIMENS[name], OriginalFormat(name))
    assert (image.width, image.height) == (16, 16)


@pytest.mark.parametrize("specimen", [b"", SPECIMENS["jpeg"][:150], pictures.jpeg(16, 16)])
def test_decoder_that_fails_the_self_test_is_left_out(
    monkeypatch: pytest.MonkeyPatch, specimen: bytes
) -> None:
    monkeypatch.setitem(SPECIMENS, "jpeg", specimen)
    assert OriginalFormat.JPEG not in decoders.decodable_formats.__wrapped__()


def test_libvips_of_the_package_is_accepted() -> None:
    libvips_version.check_version(decoders.version())


def test_other_libvips_is_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsError) as refused:
        libvips_version.check_version("8.14.1")
    (problem,) = refused.value.problems
    assert "8.14.1" in problem
    assert "PKG_CONFIG_LIBDIR=/nonexistent pip install" in problem


@pytest.mark.parametrize(
    "message",
    [
        "vips_malloc: out of memory -- size == 48MB",  # libvips/iofuncs/memory.c
        "VipsJpeg: Insufficient memory (case 4)",  # libjpeg, JERR_OUT_OF_MEMORY
        "gifload: Out of memory",  # libnsgif
        "heif: Memory allocation error (6.0)",  # libheif
        "unable to create thread: Cannot allocate memory",  # ENOMEM
    ],
)
def test_lack_of_memory_is_no_verdict_on_the_file(message: str) -> None:
    assert isinstance(decoders.refusal(pyvips.Error(message)), TooMuchMemory)
    assert isinstance(decoders.refusal(pyvips.Error("VipsJpeg: premature end of JPEG image")), Undecodable)
