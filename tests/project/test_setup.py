"""Tests of `script/setup`: what is missing, interrupted set-ups, and environments that are ready.

A fake python, a shell script, replaces the real one and records its calls.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAKE = """#!/bin/sh
case $* in
*version_info*) exit {too_old} ;;
*"import ensurepip"*) exit {no_venv} ;;
*--version*) echo Python 3.{minor}.0 ;;
"-m venv"*) echo venv >>calls; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
"-m pip"*) echo pip >>calls; exit "$(cat pip-fails 2>/dev/null || echo 0)" ;;
esac
"""


class Checkout:
    """A copy of the files that the set-up reads, under a path with a space in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "my checkout"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.root.mkdir()
        shutil.copytree(ROOT / "script", self.root / "script")
        shutil.copytree(ROOT / "requirements", self.root / "requirements")
        shutil.copy(ROOT / "pyproject.toml", self.root)
        for tool in ("cat", "cksum", "cp", "dirname", "mkdir", "rm", "sed", "sh"):
            (self.bin / tool).symlink_to(shutil.which(tool) or "")

    def python(self, name: str = "python3", *, too_old: int = 0, no_venv: int = 0, minor: int = 12) -> None:
        fake = self.bin / name
        fake.write_text(FAKE.format(too_old=too_old, no_venv=no_venv, minor=minor))
        fake.chmod(0o755)

    def setup(self, goal: str = "run") -> tuple[int, str]:
        script = self.root / "script" / "setup"
        done = subprocess.run(
            [script, goal], env={"PATH": str(self.bin)}, capture_output=True, text=True, check=False
        )
        assert done.stdout == ""
        return done.returncode, done.stderr

    def calls(self) -> list[str]:
        """The calls of python since the last call of this method."""
        log = self.root / "calls"
        calls = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_setup_without_python_names_the_needed_version(checkout: Checkout) -> None:
    code, message = checkout.setup()
    assert (code, message) == (1, "galerly-cdn: Python 3.11 or newer is needed; found: none.\n")


def test_setup_with_old_python_names_its_version(checkout: Checkout) -> None:
    checkout.python(too_old=1, minor=9)
    code, message = checkout.setup()
    assert (code, message) == (1, "galerly-cdn: Python 3.11 or newer is needed; found: Python 3.9.0.\n")
    assert checkout.calls() == []


def test_setup_without_venv_module_says_how_to_install_it(checkout: Checkout) -> None:
    checkout.python(no_venv=1)
    code, message = checkout.setup()
    assert code == 1
    assert (
        message == "galerly-cdn: python3 has no venv module. On Debian and Ubuntu: apt install python3-venv\n"
    )


def test_setup_finds_a_newer_python_of_another_name(checkout: Checkout) -> None:
    checkout.python(too_old=1, minor=9)
    checkout.python("python3.13", minor=13)
    code, message = checkout.setup()
    assert code == 0
    assert f"with Python 3.13.0 ({checkout.bin}/python3.13)" in message


@pytest.mark.parametrize("goal", ["run", "test", "check"])
def test_second_setup_starts_no_python(checkout: Checkout, goal: str) -> None:
    checkout.python()
    assert checkout.setup(goal)[0] == 0
    assert checkout.calls()[0] == "venv"
    assert checkout.setup(goal) == (0, "")
    assert checkout.calls() == []


def test_test_environment_is_also_ready_to_run(checkout: Checkout) -> None:
    checkout.python()
    assert checkout.setup("test")[0] == 0
    assert checkout.setup("run") == (0, "")


@pytest.mark.parametrize(
    ("goal", "name"),
    [
        ("run", "build"),
        ("run", "run"),
        ("test", "run"),
        ("test", "test"),
        ("check", "test"),
        ("check", "check"),
    ],
)
def test_changed_lock_file_is_installed_into_the_same_environment(
    checkout: Checkout, goal: str, name: str
) -> None:
    checkout.python()
    checkout.setup(goal)
    checkout.calls()
    with (checkout.root / "requirements" / f"{name}.txt").open("a") as lock:
        lock.write("# changed\n")
    assert checkout.setup(goal)[0] == 0
    assert set(checkout.calls()) == {"pip"}


def test_failed_setup_says_so_and_can_be_repeated(checkout: Checkout) -> None:
    checkout.python()
    (checkout.root / "pip-fails").write_text("1")
    code, message = checkout.setup()
    assert code == 1
    assert "run it again" in message
    assert checkout.calls() == ["venv", "pip"]
    (checkout.root / "pip-fails").unlink()
    assert checkout.setup()[0] == 0
    assert checkout.calls()[0] == "venv"
    assert checkout.setup() == (0, "")


def test_existing_environment_is_kept(checkout: Checkout) -> None:
    checkout.python()
    existing = checkout.root / ".venv" / "bin"
    existing.mkdir(parents=True)
    shutil.copy(checkout.bin / "python3", existing / "python")
    (existing / "their-tool").touch()
    assert checkout.setup()[0] == 0
    assert "venv" not in checkout.calls()
    assert (existing / "their-tool").exists()
