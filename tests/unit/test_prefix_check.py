"""Tests the comparison of private prefixes with the store's folders."""

from __future__ import annotations

import pytest

from galerly_cdn.errors import SettingsError
from galerly_cdn.prefix_check import PrefixCheck
from tests.support.in_memory_cdn import MemoryOriginals

NFC, NFD = "caf\u00e9", "cafe\u0301"


def check_of(prefix: str, *folders: str) -> PrefixCheck:
    originals = MemoryOriginals()
    for folder in folders:
        originals.put(f"{folder}/smith/1.jpg")
    return PrefixCheck(originals, (prefix,))


@pytest.mark.parametrize(
    ("prefix", "folders", "wrong"),
    [
        ("clients", ["Clients"], ["Clients"]),
        ("Clients", ["clients"], ["clients"]),
        ("clients", ["clients", "CLIENTS"], ["CLIENTS"]),
        (NFC, [NFD], [NFD]),
        (NFD, [NFC], [NFC]),
        (
            "clients/2026a",
            ["Clients/2026a", "clients/2026A", "Clients/2025"],
            ["Clients/2026a", "clients/2026A"],
        ),
        ("stra\u00dfe", ["STRASSE"], ["STRASSE"]),
    ],
)
async def test_folder_that_is_nearly_a_prefix_is_a_settings_error(
    prefix: str, folders: list[str], wrong: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        await check_of(prefix, *folders).check()
    assert len(caught.value.problems) == len(wrong)
    for folder in wrong:
        assert any(f"is not the folder {folder!a}" in line for line in caught.value.problems)
    assert all(line.startswith(f"private_prefixes: {prefix!a}") for line in caught.value.problems)


@pytest.mark.parametrize(
    ("prefix", "folders", "absent"),
    [
        ("clients", ["clients"], ()),
        ("clients/2026", ["clients/2026", "other"], ()),
        ("client", ["clients"], ("client",)),
        ("clients/2026", ["clients/2025"], ("clients/2026",)),
        ("clients", [], ("clients",)),
        ("/", [], ()),
    ],
)
async def test_prefix_without_a_folder_is_a_warning(
    prefix: str, folders: list[str], absent: tuple[str, ...]
) -> None:
    check = check_of(prefix, *folders)
    await check.check()
    assert check.absent == absent
    assert len(check.warnings) == len(absent)
