"""Every command of the docs pages can be run: by this test, or its options are those that the program has."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import signal
import tomllib
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from galerly_cdn import cli
from galerly_cdn.insight.prices import packaged_prices
from galerly_cdn.settings.table import DESCRIBED
from tests.support import pictures
from tests.support.documented_commands import blocks, commands, is_server, programs, start, status_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
SETTINGS = {one.name for one in DESCRIBED}
VARIABLES = {f"GALERLY_{name.upper()}" for name in SETTINGS} | {"GALERLY_CONFIG", "GALERLY_ADMIN_TOKEN"}
RUN = ("quickstart", "urls", "private", "backup", "tuning", "faq", "admin")
"""The pages whose commands are run in their order."""
INSTALLS = "installs from a package index; `script/wheel` does it"
NEEDS_ACCOUNT = "needs an account of a cloud"
NOT_RUN = {
    INSTALLS: {"pip", "python3", "."},
    "is a part of a system": {"systemctl", "journalctl", "useradd", "install", "chgrp", "chmod", "ln"},
    "is a system's tool for services": {
        "systemd-socket-activate",
        "systemd-run",
        "systemd-analyze",
        "logrotate",
    },
    "is another server": {"nginx", "rotatelogs", "caddy", "imgproxy"},
    "needs images or a cluster": {"podman", "docker", "buildah", "helm", "kubectl"},
    NEEDS_ACCOUNT: {"aws", "rclone"},
    "asks an address of an example": {"curl"},
    "is tested by `test_log_queries.py`": {"jq"},
    "is a command of the shell": {
        "export",
        "test",
        "mkdir",
        "cp",
        "openssl",
        "cat",
        "echo",
        "for",
        "done",
        "wait",
    },
}
"""Why a program that is not ours is not run on the pages that are only parsed."""
CRON = re.compile(r"^(?:[\d*/,-]+ +){5}")


def parsed(page: Path) -> list[str]:
    return [*commands(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_command_of_a_page_has_the_options_of_its_program(page: Path) -> None:
    for command in parsed(page):
        for variables, words in programs(CRON.sub("", command)):
            assert {name for name in variables if name.startswith("GALERLY_")} <= VARIABLES, command
            if words:
                _check(words)


def _check(words: list[str]) -> None:
    """Asserts that a program exists, and that ours has the options."""
    program, *options = words
    if Path(program).name == "galerly-cdn":
        _check_options(options)
    elif program.startswith("script/"):
        assert (ROOT / program).is_file(), words
    elif Path(program).name in {"pip", "python3"}:
        assert program in NOT_RUN[INSTALLS] or program.startswith("/opt/galerly-cdn"), words
    elif program == "python" and options[0] == "-m":
        assert importlib.util.find_spec(options[1]), words
    else:
        assert program in set().union(*NOT_RUN.values()), words


def _check_options(words: list[str]) -> None:
    command: click.Command = cli.main
    # click keeps the help option of the first context for the whole process.
    context = click.Context(command, info_name="galerly-cdn", **command.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found, words
        command, words = found, words[1:]
        context = click.Context(command, context, command.name)
    _, unknown, _ = command.make_parser(context).parse_args(words)  # raises for an unknown option
    assert not unknown, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_toml_of_a_page_names_settings_or_prices(page: Path) -> None:
    for language, block in blocks(page.read_text("utf-8")):
        if language == "toml":
            assert {*tomllib.loads(block)} <= SETTINGS | {*packaged_prices()}, block


@pytest.mark.parametrize(
    "command",
    [
        "galerly-cdn serve --no-such-option",
        "galerly-cdn no-such",
        "galerly-cdn ls a b",
        "script/no",
        "no-such",
    ],
)
def test_command_that_cannot_be_run_is_found(command: str) -> None:
    ((_, words),) = programs(command)
    with pytest.raises((AssertionError, click.UsageError)):
        _check(words)


class Walk:
    """A reader who enters the commands of a page one after the other; servers keep running beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._replaced: dict[str, str] = {}
        self.outputs: dict[str, str] = {}

    @contextlib.contextmanager
    def server(self, command: str) -> Iterator[None]:
        process = start(self._actual(command), self._folder)
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(2 if "--admin-port" in command else 1)]
        assert all("http://127.0.0.1:" in line for line in lines), process.communicate()
        for line, port in zip(lines, (8000, 8001), strict=False):
            self._replaced[f"http://127.0.0.1:{port}"] = line.split()[-1].rstrip("/")
        try:
            yield
        finally:
            _stop(process)

    def run(self, command: str) -> None:
        process = start(self._actual(command), self._folder)
        output, errors = process.communicate(timeout=100)
        assert process.returncode == 0, f"{command}: {output}{errors}"
        self.outputs[command] = output
        if " keys new " in command:
            self._replaced["{id}"] = output.strip()

    def _actual(self, command: str) -> str:
        for written, actual in self._replaced.items():
            command = command.replace(written, actual)
        return command

    def address(self, port: int = 8000) -> str:
        return self._replaced[f"http://127.0.0.1:{port}"]


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    assert process.returncode == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a photograph, a home folder with pictures, and a store as the quick start leaves it."""
    for place in (tmp_path / "photo.jpg", tmp_path / "sea.jpg", tmp_path / "home/Pictures/1.jpg"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(pictures.jpeg(600, 400))
    return tmp_path


@pytest.mark.parametrize("name", RUN)
def test_commands_of_a_page_run_in_their_order(name: str, folder: Path) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    walk = Walk(folder)
    skipped = NOT_RUN[INSTALLS] | NOT_RUN[NEEDS_ACCOUNT]
    with contextlib.ExitStack() as servers:
        if name != "quickstart":
            _make_store(walk, servers)
        for language, block in blocks(text):
            if language == "toml":
                (folder / "galerly.toml").write_text(block, "utf-8")
        for command in commands(text):
            (_, words), *_ = programs(command)
            if is_server(command):
                servers.enter_context(walk.server(command))
            elif words[0] not in skipped and "https://cdn.example.com" not in words[1:2]:
                walk.run(command)
        CHECKS.get(name, _check_nothing_more)(walk, folder)


def _make_store(walk: Walk, servers: contextlib.ExitStack) -> None:
    """The store of the quick start with one more photograph, and its server."""
    walk.run("cp photo.jpg 'first dance.jpg'")
    walk.run("galerly-cdn upload photo.jpg 'first dance.jpg' --gallery wedding --store photographs")
    servers.enter_context(walk.server("galerly-cdn serve --store photographs --admin-port 8001"))


def _check_quickstart(walk: Walk, folder: Path) -> None:
    assert (folder / "small.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert b"ftypavif" in (folder / "large.avif").read_bytes()[:32]
    assert (
        "size-not-allowed" in walk.outputs["curl -sS http://127.0.0.1:8000/resize/801x601/wedding/photo.jpg"]
    )
    page = (folder / "page.html").read_text("utf-8")
    assert page.startswith("<picture>")
    (source,) = re.findall(r'<img src="http://127.0.0.1:\d+(\S+)"', page)
    assert status_of(walk.address() + source) == 200


def _check_urls(walk: Walk, folder: Path) -> None:
    assert (folder / "dance.jpg").read_bytes()[:2] == b"\xff\xd8"
    head = next(output for command, output in walk.outputs.items() if "-D -" in command)
    written = (ROOT / "docs/urls.md").read_text("utf-8")
    named = {line.partition(":")[0].lower() for line in head.splitlines()[1:] if line}
    assert named - {"date", "content-length", "content-security-policy", "x-content-type-options"} <= {
        name.lower() for name in re.findall(r"`([A-Z][A-Za-z-]+)[`:]", written)
    }


def _check_private(walk: Walk, _: Path) -> None:
    for command, output in walk.outputs.items():
        if command.startswith("galerly-cdn sign") and "--cookies" not in command and "--ip" not in command:
            signed = urllib.parse.urlsplit(output.strip())
            assert status_of(f"{walk.address()}{signed.path}?{signed.query}") == 200, command
            assert status_of(walk.address() + signed.path) == 403


def _check_backup(_: Walk, folder: Path) -> None:
    assert (folder / "restored/originals/wedding/photo.jpg").read_bytes() == pictures.jpeg(600, 400)


def _check_nothing_more(_: Walk, __: Path) -> None:
    """Every command has ended with 0, and every server has started and ended with 0."""


CHECKS = {
    "quickstart": _check_quickstart,
    "urls": _check_urls,
    "private": _check_private,
    "backup": _check_backup,
}
