"""Runs every command of the README, in its order and as written; only the ports are replaced by free ones."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.links import Links
from tests.support import pictures
from tests.support.documented_commands import is_server, start, status_of
from tests.support.logs import access_line

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
EXPECTED_OUTPUT = {
    "upload photo.jpg --gallery wedding --store": "created    wedding/photo.jpg  jpeg, 600×400 px",
    "link ": '<img src="/resize/800x600/wedding/photo.jpg"',
    "upload photo.jpg --gallery wedding --replace": "replaced   wedding/photo.jpg",
    "warm ": "warmed  wedding/photo.jpg  12 rendered, 0 already stored",
    "inspect wedding/": "stored  12 renditions",
    "purge ": "purged  wedding/photo.jpg  12 renditions",
    "ls ": "  wedding/photo.jpg\n",
    "rm ": "deleted  wedding/photo.jpg",
    "sign ": "&Key-Pair-Id=",
    "report ": "1 request, as galerly-cdn serve logged it",
}
"""What the commands that begin with these words print."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photograph and an access log, and a home folder with pictures."""
    folder = tmp_path_factory.mktemp("folder")
    gallery = folder / "home" / "Pictures" / "clients" / "smith"
    gallery.mkdir(parents=True)
    (gallery / "1.jpg").write_bytes(pictures.jpeg(600, 400))
    (folder / "photo.jpg").write_bytes(pictures.jpeg(600, 400))
    (folder / "server-keys").mkdir()
    (folder / "access.log").write_bytes(access_line() + b"\n")
    return folder


def test_every_command_of_the_readme_prints_what_is_expected(folder: Path) -> None:
    assert len(COMMANDS) > 16
    key_id, admin = "unset", "unset"
    outputs: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for command in COMMANDS:
            line = command.replace("{id}", key_id).replace(ADMIN, admin)
            if "--admin-port" in line:
                admin = stack.enter_context(run_server(line, folder))
                continue
            outputs[command] = run(line, folder)
            if command.startswith("galerly-cdn keys new"):
                key_id = outputs[command].strip()
                copy_keys(folder, key_id)
    assert (folder / "photo.webp").read_bytes()[8:12] == b"WEBP"
    for prefix, expected in EXPECTED_OUTPUT.items():
        output = next(one for line, one in outputs.items() if line.startswith(f"galerly-cdn {prefix}"))
        assert expected in output, prefix


def test_python_example_of_the_readme_runs() -> None:
    (block,) = (block for language, block in BLOCKS if language == "python")
    exec(block, {})
    assert Links().dimensions(6000, 4000, "thumbnail") == (800, 533)


def run(command: str, folder: Path) -> str:
    """The output of a command, which must end with 0. A server answers one request and is stopped."""
    if command == "script/test":
        command += " -q tests/unit/test_model.py"  # the whole suite would run this test again
    process = start(command, folder)
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
def run_server(command: str, folder: Path) -> Iterator[str]:
    """Run a server for the commands that follow; yields the address of its admin side."""
    process = start(command, folder)
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


def copy_keys(folder: Path, key_id: str) -> None:
    """Copy the private key to the signer's folder, and the public key alone to the server's."""
    for copies, name in ((folder, f"{key_id}.private.pem"), (folder / "server-keys", f"{key_id}.pem")):
        (copies / name).write_bytes((folder / "keys" / name).read_bytes())
