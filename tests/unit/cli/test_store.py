"""The commands `store recipes` and `store rollback`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from galerly_cdn import cli

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

SIZES = "tiny 150x150 jpeg={} webp=86"
NAMES = {"150x150.jpeg", "150x150.png", "150x150.webp"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GALERLY_RENDITIONS", str(tmp_path / "resized"))


def run(*arguments: str | Path, quality: int = 85) -> Result:
    return CliRunner(env={"GALERLY_SIZES": SIZES.format(quality)}).invoke(cli.main, list(map(str, arguments)))


@pytest.mark.parametrize("options", [["--store"], []], ids=["store", "folder"])
def test_rollback_appends_what_is_not_current_and_recipes_lists_it(
    tmp_path: Path, options: list[str]
) -> None:
    root = tmp_path / "photographs"
    (root / "originals").mkdir(parents=True)
    assert run("store", "recipes", *options, root).output == ""
    assert not (tmp_path / "resized").exists()
    changes = [
        json.loads(run("store", "rollback", *options, root, "--json", quality=quality).output)
        for quality in (85, 70, 85, 85)
    ]
    assert set(changes[0]["recipes"]) == NAMES
    assert list(changes[1]["recipes"]) == list(changes[2]["recipes"]) == ["150x150.jpeg"]
    assert changes[2]["recipes"]["150x150.jpeg"] == changes[0]["recipes"]["150x150.jpeg"]
    assert changes[3] is None
    assert run("store", "rollback", *options, root).output.startswith("unchanged ")
    listed = run("store", "recipes", *options, root, "--json").output.splitlines()
    assert [json.loads(line) for line in listed] == changes[:3]
    lines = run("store", "recipes", *options, root).output.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert run("store", "rollback", *options, root, quality=60).output == (
        "current    150x150.jpeg, by entry 4\n"
    )


@pytest.mark.parametrize("command", ["recipes", "rollback"])
@pytest.mark.parametrize("arguments", [[], ["--store", "missing"], ["missing"]], ids=str)
def test_command_without_originals_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("store", command, *arguments)
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert list(tmp_path.iterdir()) == []
