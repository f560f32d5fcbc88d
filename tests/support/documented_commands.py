"""Reads the commands of a page's shell blocks, and runs them as a new user would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_ENDS = {"|", "||", "&&", ";", "&", "(", ")"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """The language and the content of every block of a page."""
    return _BLOCK.findall(text)


def commands(text: str) -> Iterator[str]:
    """Every command of a page's shell blocks, without its comment; several lines may be one command."""
    for language, block in blocks(text):
        if language != "sh":
            continue
        pending = ""
        for line in block.splitlines():
            pending += line + "\n"
            if _is_whole(pending):
                if command := _without_comment(pending).strip():
                    yield command
                pending = ""
        assert not pending, f"the block has an unfinished command: {pending}"


def _is_whole(lines: str) -> bool:
    if lines.rstrip("\n").endswith("\\"):
        return False
    try:
        shlex.split(lines, comments=True)
    except ValueError:  # an open quotation
        return False
    return True


def _without_comment(lines: str) -> str:
    return "" if lines.startswith("#") else re.sub(r"(?m)  +# .*$", "", lines)


def programs(command: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """The variables and the words of each program that a command starts; without redirections."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = [*lexer, ";"]
    for at, token in enumerate(tokens):
        if token in _ENDS:
            if words:
                yield _split_variables(words)
            words = []
        elif token.strip("<>") and (at == 0 or tokens[at - 1] not in {"<", ">", ">>"}):
            words.append(token)


def _split_variables(words: list[str]) -> tuple[dict[str, str], list[str]]:
    if words[0] == "do":  # the body of a loop
        words = words[1:]
    count = next((at for at, word in enumerate(words) if not _VARIABLE.fullmatch(word)), len(words))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


def is_server(command: str) -> bool:
    return "serve" in command.split(maxsplit=1)[0] or " serve " in f" {command} "


def start(command: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command as written, except that a server takes any free port and is the process itself."""
    if is_server(command):
        command = re.sub(r"port \d+", "port 0", command)
        command = ("exec env " if "=" in command.partition(" ")[0] else "exec ") + command
    return subprocess.Popen(
        ["sh", "-c", command],
        cwd=ROOT if command.removeprefix("exec ").startswith("script/") else folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(folder: Path) -> dict[str, str]:
    """A new user's environment: an own home folder, the installed command on the path, any free port."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "VIRTUAL_ENV"}}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "HOME": str(folder / "home"), "GALERLY_PORT": "0"}


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
