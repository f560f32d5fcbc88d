"""Every command of the README is run, in its order, as it stands there; only ports are made free ones."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.links import Links
from tests.support import pictures

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
COMMANDS = [
    line.partition("  #")[0].strip()
    for language, block in BLOCKS
    for line in block.splitlines()
    if language == "sh" and line.strip()
]


ADMIN = "http://127.0.0.1:8001"
SAYS = {
    "upload photo.jpg --gallery wedding --store": "created    wedding/photo.jpg  jpeg, 600×400 px",
    "link ": '<img src="/resize/800x600/wedding/photo.jpg"',
    "upload photo.jpg --gallery wedding --replace": "replaced   wedding/photo.jpg",
    "warm ": "warmed  wedding/photo.jpg  12 made",
    "inspect wedding/": "stored  12 renditions",
    "purge ": "purged  wedding/photo.jpg  12 renditions",
    "ls ": "  wedding/photo.jpg\n",
    "rm ": "deleted  wedding/photo.jpg",
    "sign ": "&Key-Pair-Id=",
}
"""What commands of these beginnings print."""


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
    assert len(COMMANDS) > 16
    key_id, admin = "none yet", "none yet"
    told: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for command in COMMANDS:
            line = command.replace("{id}", key_id).replace(ADMIN, admin)
            if "--admin-port" in line:
                admin = stack.enter_context(kept_running(line, desk))
                continue
            told[command] = run(line, desk)
            if command.startswith("galerly-cdn keys new"):
                key_id = told[command].strip()
                copy_keys(desk, key_id)
    assert (desk / "photo.webp").read_bytes()[8:12] == b"WEBP"
    for beginning, said in SAYS.items():
        output = next(one for line, one in told.items() if line.startswith(f"galerly-cdn {beginning}"))
        assert said in output, beginning


def test_the_links_of_the_readme_are_what_it_says() -> None:
    (block,) = (block for language, block in BLOCKS if language == "python")
    exec(block, {})
    assert Links().dimensions(6000, 4000, "thumbnail") == (800, 533)


def run(command: str, desk: Path) -> str:
    """What a command printed. A server is asked for a picture and stopped; every command ends with 0."""
    if command == "script/test":
        command += " -q tests/unit/test_model.py"  # all of them would run this one again
    process = begun(command, desk)
    if is_server(command):
        assert process.stdout
        line = process.stdout.readline()
        assert re.search(r"http://127\.0\.0\.1:\d+/", line), process.communicate()
        is_private = "PRIVATE" in command
        key = "coast/evening-tide.jpg" if command == "script/server" else "clients/smith/1.jpg"
        assert status_of(line.split()[-1] + "resize/small/" + key) == (403 if is_private else 200)
        process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, f"{command}: {output}{errors}"
    return output


@contextlib.contextmanager
def kept_running(command: str, desk: Path) -> Iterator[str]:
    """A server for the commands after it: the address of its admin side."""
    process = begun(command, desk)
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(2)]
    try:
        assert re.search(r"http://127\.0\.0\.1:\d+/", lines[1]), process.communicate()
        assert status_of(lines[0].split()[-1] + "resize/small/wedding/photo.jpg") == 200
        yield lines[1].split()[-1].rstrip("/")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=100)
    assert process.returncode == 0


def is_server(command: str) -> bool:
    return "serve" in command.split(maxsplit=1)[0] or " serve " in f" {command} "


def begun(command: str, desk: Path) -> subprocess.Popen[str]:
    """It runs as it stands there, but for its ports."""
    free = re.sub(r"port \d+", "port 0", command)
    prefix = "exec env" if "=" in free.partition(" ")[0] else "exec"
    return subprocess.Popen(
        ["sh", "-c", f"{prefix} {free}"],
        cwd=ROOT if command.startswith("script/") else desk,
        env=environment(desk),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def copy_keys(desk: Path, key_id: str) -> None:
    """The private key to who signs, the public one, and only that, to the server."""
    for folder, name in ((desk, f"{key_id}.private.pem"), (desk / "server-keys", f"{key_id}.pem")):
        (folder / name).write_bytes((desk / "keys" / name).read_bytes())


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
