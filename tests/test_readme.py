"""Every command of the README is run, in its order, as it stands there; only ports are made free ones."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from galerly_cdn.links import Links
from tests import pictures

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
COMMANDS = [
    line.partition("  #")[0].strip()
    for language, block in BLOCKS
    for line in block.splitlines()
    if language == "sh" and line.strip()
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photograph, and a home with pictures."""
    desk = tmp_path_factory.mktemp("desk")
    gallery = desk / "home" / "Pictures" / "clients" / "smith"
    gallery.mkdir(parents=True)
    (gallery / "1.jpg").write_bytes(pictures.jpeg(600, 400))
    (desk / "photo.jpg").write_bytes(pictures.jpeg(600, 400))
    (desk / "server-keys").mkdir()
    return desk


def test_every_command_of_the_readme_does_what_it_says(desk: Path) -> None:
    assert len(COMMANDS) > 8
    key_id = "none yet"
    for command in COMMANDS:
        told = run(command.replace("{id}", key_id), desk)
        if command.startswith("galerly-cdn keys new"):
            key_id = told.strip()
            for folder in (desk, desk / "server-keys"):
                name = f"{key_id}.private.pem" if folder == desk else f"{key_id}.pem"
                (folder / name).write_bytes((desk / "keys" / name).read_bytes())
    assert (desk / "photo.webp").read_bytes()[8:12] == b"WEBP"


def test_the_links_of_the_readme_are_what_it_says() -> None:
    (block,) = (block for language, block in BLOCKS if language == "python")
    exec(block, {})
    assert Links().dimensions(6000, 4000, "thumbnail") == (800, 533)


def run(command: str, desk: Path) -> str:
    """What a command printed. A server is asked for a picture and stopped; every command ends with 0."""
    where = ROOT if command.startswith("script/") else desk
    if command == "script/test":
        command += " -q tests/test_model.py"  # all of them would run this one again
    command = re.sub(r"--port \d+", "--port 0", command)
    prefix = "exec env" if "=" in command.partition(" ")[0] else "exec"
    process = subprocess.Popen(
        ["sh", "-c", f"{prefix} {command}"],
        cwd=where,
        env=environment(desk),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if "serve" in command.split()[0] or " serve " in f" {command} ":
        assert process.stdout
        line = process.stdout.readline()
        assert re.search(r"http://127\.0\.0\.1:\d+/", line), process.communicate()
        is_private = "PRIVATE" in command
        assert status_of(line.split()[-1] + "resize/small/clients/smith/1.jpg") == (
            403 if is_private else 200
        )
        process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, f"{command}: {output}{errors}"
    return output


def environment(desk: Path) -> dict[str, str]:
    """As a newcomer's: a home of its own, the installed command on the path, any free port."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "VIRTUAL_ENV"}}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "HOME": str(desk / "home"), "GALERLY_PORT": "0"}


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code
