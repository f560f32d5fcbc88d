"""Does `script/setup` say what is missing, start over when it was cut off, and do nothing when all is there?

A python of sh stands in for the real one and writes down what it was asked to do.
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
    """A copy of what the set-up reads, at an address with a space in it."""

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
        """What was asked of python since the last time."""
        log = self.root / "calls"
        calls = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_without_python_it_says_which_is_needed(checkout: Checkout) -> None:
    code, said = checkout.setup()
    assert (code, said) == (1, "galerly-cdn: Python 3.11 or newer is needed; found: none.\n")


def test_a_python_too_old_is_named(checkout: Checkout) -> None:
    checkout.python(too_old=1, minor=9)
    code, said = checkout.setup()
    assert (code, said) == (1, "galerly-cdn: Python 3.11 or newer is needed; found: Python 3.9.0.\n")
    assert checkout.calls() == []


def test_a_missing_venv_module_is_named_with_its_cure(checkout: Checkout) -> None:
    checkout.python(no_venv=1)
    code, said = checkout.setup()
    assert code == 1
    assert said == "galerly-cdn: python3 has no venv module. On Debian and Ubuntu: apt install python3-venv\n"


def test_another_python_that_fits_is_found(checkout: Checkout) -> None:
    checkout.python(too_old=1, minor=9)
    checkout.python("python3.13", minor=13)
    code, said = checkout.setup()
    assert code == 0
    assert "with Python 3.13.0, once" in said


@pytest.mark.parametrize("goal", ["run", "test", "check"])
def test_the_second_start_asks_nothing_of_python(checkout: Checkout, goal: str) -> None:
    checkout.python()
    assert checkout.setup(goal)[0] == 0
    assert checkout.calls()[0] == "venv"
    assert checkout.setup(goal) == (0, "")
    assert checkout.calls() == []


def test_an_environment_to_test_is_one_to_run(checkout: Checkout) -> None:
    checkout.python()
    assert checkout.setup("test")[0] == 0
    assert checkout.setup("run") == (0, "")


def test_a_changed_lock_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.python()
    checkout.setup()
    checkout.calls()
    with (checkout.root / "requirements" / "run.txt").open("a") as lock:
        lock.write("# changed\n")
    assert checkout.setup()[0] == 0
    assert set(checkout.calls()) == {"pip"}


def test_a_set_up_that_failed_says_so_and_starts_over(checkout: Checkout) -> None:
    checkout.python()
    (checkout.root / "pip-fails").write_text("1")
    code, said = checkout.setup()
    assert code == 1
    assert "start it again to try again" in said
    assert checkout.calls() == ["venv", "pip"]
    (checkout.root / "pip-fails").unlink()
    assert checkout.setup()[0] == 0
    assert checkout.calls()[0] == "venv"
    assert checkout.setup() == (0, "")


def test_an_environment_of_somebody_elses_is_kept(checkout: Checkout) -> None:
    checkout.python()
    theirs = checkout.root / ".venv" / "bin"
    theirs.mkdir(parents=True)
    shutil.copy(checkout.bin / "python3", theirs / "python")
    (theirs / "their-tool").touch()
    assert checkout.setup()[0] == 0
    assert "venv" not in checkout.calls()
    assert (theirs / "their-tool").exists()
