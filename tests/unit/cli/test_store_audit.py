"""The commands `store audit` and `store clean`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from galerly_cdn import cli
from galerly_cdn.audit.survey import Progress
from galerly_cdn.cli.store_audit import Counter, progress_line
from tests.support.audited_stores import fill_with_everything, open_audited_store

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

SIZES = "150x150 webp=86; 800x600"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    async with open_audited_store(tmp_path / "store") as store:
        await fill_with_everything(store)
    return tmp_path / "store"


def run(*arguments: str | Path, **variables: str) -> Result:
    environment = {"GALERLY_SIZES": SIZES, **variables}
    return CliRunner(env=environment).invoke(cli.main, ["store", *map(str, arguments)])


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def test_audit_changes_nothing_and_exits_with_3_until_the_store_is_clean(root: Path) -> None:
    before = files(root)
    shown = run("audit", "--store", root)
    assert (shown.exit_code, files(root)) == (3, before)
    for text in ("To clean:", "orphan", "outdated", "unlisted", "temporary", "undecodable: ", "gallery"):
        assert text in shown.stdout
    trial = run("clean", "--store", root, "--dry-run", "--json")
    assert (trial.exit_code, files(root)) == (0, before)
    *listed, summary = map(json.loads, trial.stdout.splitlines())
    audit = json.loads(run("audit", "--store", root, "--json").stdout)
    by_reason = {one["reason"]: {"items": one["items"], "bytes": one["bytes"]} for one in audit["removable"]}
    assert by_reason == summary["removed"]
    assert summary["is_trial"]
    done = run("clean", "--store", root, "--yes", "--json")
    *removed, summary = map(json.loads, done.stdout.splitlines())
    assert sorted(removed, key=str) == sorted(listed, key=str)
    assert (done.exit_code, summary["kept"], summary["failed"]) == (0, 0, 0)
    assert before - files(root) == {path for path in before if is_named(path, root, removed)}
    clean = run("audit", "--store", root)
    assert (clean.exit_code, "Nothing to clean." in clean.stdout) == (0, True)


def is_named(path: Path, root: Path, removed: list[dict[str, str]]) -> bool:
    return any(path in {root / "resized" / one["name"], root / "originals" / one["name"]} for one in removed)


def test_clean_of_expired_photographs_in_a_read_only_folder_removes_nothing(root: Path) -> None:
    for path in (root / "originals").rglob("*.jpg"):
        os.utime(path, (0, 0))
    before = files(root)
    variables = {"GALERLY_RENDITIONS": str(root / "resized"), "GALERLY_EXPIRE": "** 30 originals"}
    refused = run("clean", root / "originals", "--expired", "--yes", **variables)
    assert (refused.exit_code, files(root)) == (1, before)
    assert "read-only" in refused.stderr
    assert "`writable`" in refused.stderr
    done = run("clean", root / "originals", "--expired", "--yes", **variables, GALERLY_WRITABLE="1")
    assert done.exit_code == 0
    assert not list((root / "originals").rglob("*.jpg"))


def test_clean_without_a_terminal_and_without_yes_removes_nothing(root: Path) -> None:
    before = files(root)
    refused = run("clean", "--store", root)
    assert (refused.exit_code, files(root)) == (2, before)
    assert "--yes" in refused.stderr


@pytest.mark.parametrize("answer", ["n\n", "y\n"])
def test_clean_on_a_terminal_asks_before_it_removes(
    root: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("galerly_cdn.cli.store_audit._can_ask", lambda: True)
    before = files(root)
    result = CliRunner(env={"GALERLY_SIZES": SIZES}).invoke(
        cli.main, ["store", "clean", "--store", str(root)], input=answer
    )
    assert "items, " in result.stderr
    assert (files(root) == before) == (answer == "n\n")
    assert result.exit_code == (1 if answer == "n\n" else 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--shard", "0/3"], "shard such as 2/8"),
        (["--shard", "4/3"], "shard such as 2/8"),
        (["--older-than", "3"], "90m, 24h or 30d"),
        (["--expired"], "`expire` is empty"),
        (["--inventory", "none.json"], "one bucket of S3"),
    ],
)
def test_clean_with_an_unusable_option_says_what_is_expected(
    root: Path, arguments: list[str], text: str
) -> None:
    before = files(root)
    refused = run("clean", "--store", root, "--yes", *arguments)
    assert refused.exit_code in {1, 2}
    assert text in refused.stderr
    assert "Traceback" not in refused.stderr
    assert files(root) == before


def test_clean_of_a_store_without_originals_removes_nothing(root: Path) -> None:
    (root / "originals").rename(root / "unmounted")
    (root / "originals").mkdir()
    before = files(root)
    refused = run("clean", "--store", root, "--yes")
    assert (refused.exit_code, files(root)) == (1, before)
    assert "no original" in refused.stderr


@pytest.mark.parametrize("command", ["audit", "clean"])
def test_command_on_a_missing_store_exits_with_2_and_creates_nothing(tmp_path: Path, command: str) -> None:
    options = ["--yes"] if command == "clean" else []
    refused = run(command, "--store", tmp_path / "none", *options)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert list(tmp_path.iterdir()) == []


def test_clean_of_expired_originals_needs_a_rule_that_says_so(root: Path) -> None:
    original = root / "originals/g/good.jpg"
    os.utime(original, (0, 0))
    for path in root.glob("resized/??/*"):
        os.utime(path, (0, 0))
    kept = run("clean", "--store", root, "--expired", "--yes", GALERLY_EXPIRE="g 30")
    assert (kept.exit_code, original.exists()) == (0, True)
    done = run("clean", "--store", root, "--expired", "--yes", GALERLY_EXPIRE="g 30 originals")
    assert (done.exit_code, original.exists()) == (0, False)
    assert "originals/g/good.jpg" in done.stdout
    assert (root / "originals/g/1.jpg").exists()


def test_question_says_how_many_photographs_are_lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galerly_cdn.cli.store_audit._can_ask", lambda: True)
    for path in (*root.glob("resized/??/*"), *root.glob("originals/?/*")):
        os.utime(path, (0, 0))
    asked = run("clean", "--store", root, "--expired", GALERLY_EXPIRE="** 30 originals")
    assert "5 of them photographs, which are lost?" in asked.stderr
    assert asked.exit_code == 1
    asked = run("clean", "--store", root)
    assert "all can be made again?" in asked.stderr


def test_progress_names_the_time_that_is_left_when_a_part_is_done() -> None:
    assert progress_line(Progress(0, 9, 1500, 0), 1.0) == "1,500 originals, 0 other items"
    assert progress_line(Progress(3, 9, 10, 2000), 20.0).endswith("2,000 other items, 25 %, about 60 s left")
    assert progress_line(Progress(5, 9, 10, 2000), 600.0).endswith("50 %, about 10 min left")


def test_without_a_terminal_a_line_tells_the_progress_every_30_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now_s = 0.0
    with Counter(lambda: now_s) as counter:
        for step in range(10):
            now_s = 9.0 * step
            counter.show(Progress(0, 4, step, 0))
    lines = ["4 originals, 0 other items", "8 originals, 0 other items"]
    assert capsys.readouterr().err.splitlines() == lines
