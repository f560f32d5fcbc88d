"""Starts servers as an operator does, by the command line alone, and makes their keys and signatures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from checks.answers import pictures

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMAND = (sys.executable, "-m", "galerly_cdn")
TOKEN = "0123456789abcdef" * 4
OTHER_TOKEN = "fedcba9876543210" * 4
PUBLIC_URL = "https://cdn.example.com"
_AT_ONCE = 2


def environment() -> dict[str, str]:
    """Ours, without what would be taken for a setting."""
    foreign = ("GALERLY_", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def told(*arguments: str) -> str:
    """What a command prints. Raises `CalledProcessError`."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment(), check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


class Signed(NamedTuple):
    """What is to be signed: an address, by which key, and with what else the command takes."""

    url: str
    key: str = "rsa"
    options: tuple[str, ...] = ("--expires", "2h")

    @classmethod
    def read(cls, path: str, asked: dict[str, Any]) -> Signed:
        """From a row of the table; `of` is another path than the row's, `url` another host."""
        options = {"expires": "2h", **asked}
        url, path = options.pop("url", PUBLIC_URL), options.pop("of", path)
        key = options.pop("key", "rsa")
        flags = [f"--{name}" for name in ("cookies",) if options.pop(name, False)]
        values = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return cls(url + path, key, (*values, *flags))

    @property
    def is_cookies(self) -> bool:
        return "--cookies" in self.options


class Keys:
    """Keys by their names here, and signatures, each made once."""

    def __init__(self, folder: Path) -> None:
        self.public = folder / "server-keys"
        self.public.mkdir(parents=True)
        self._private: dict[str, Path] = {}
        for name, options, is_known in (
            ("rsa", [], True),
            ("ecdsa", ["--ecdsa"], True),
            ("unknown", [], False),
        ):
            made = json.loads(told("keys", "new", "--out", str(folder / "keys"), "--json", *options))
            self._private[name] = Path(made["private"])
            if is_known:
                shutil.copy(made["public"], self.public)
        self._made: dict[Signed, str] = {}

    def sign(self, wanted: Iterable[Signed]) -> None:
        """Make signatures, several at once: each is a process."""
        wanted = list(dict.fromkeys(wanted))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            self._made.update(zip(wanted, pool.map(self._sign, wanted), strict=True))

    def signature(self, wanted: Signed) -> str:
        """The path and query of a signed address, or a `Cookie` header's value."""
        return self._made[wanted]

    def _sign(self, wanted: Signed) -> str:
        key = str(self._private[wanted.key])
        answer = json.loads(told("sign", wanted.url, "--key", key, *wanted.options, "--json"))
        if wanted.is_cookies:
            return "; ".join(f"{name}={value}" for name, value in answer.items())
        return "/" + str(answer["url"]).split("/", 3)[3]


class Server:
    """`galerly-cdn serve` over a folder of photographs or a store, with an admin side if asked for."""

    def __init__(
        self, place: Path, collection: str, settings: dict[str, Any], *, is_store: bool, has_admin: bool
    ) -> None:
        self.originals = place / "store/originals" if is_store else place / "photographs"
        self.renditions = place / ("store/resized" if is_store else "renditions")
        pictures.hang(collection, self.originals)
        where = {"store": place / "store"} if is_store else {"renditions": self.renditions}
        given = {"workers": 1, "idle_s": 600, **where, **settings}
        self._variables = {f"GALERLY_{name.upper()}": _spelt(value) for name, value in given.items()}
        self._command = [*COMMAND, "serve", *([] if is_store else [str(self.originals)]), "--port", "0"]
        self._has_admin = has_admin
        if has_admin:
            self._command += ["--admin-port", "0"]
        self.port = self.admin_port = 0
        self.lines: list[bytes] = []
        """What it has printed after its addresses: access and audit records."""
        self.start()

    def start(self) -> None:
        """Start it, and return when it serves. Raises `RuntimeError` if it does not."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, env={**environment(), **self._variables}
        )
        self.port = self._announced()
        if self._has_admin:
            self.admin_port = self._announced()
        self._reader = threading.Thread(target=self._keep_reading, daemon=True)
        self._reader.start()

    def stop(self) -> int:
        """Stop it as an operator does; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        self._reader.join(60)
        return self._process.wait(60)

    def kill(self) -> None:
        """End it, if it runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def lose(self) -> None:
        """Delete every stored rendition behind its back."""
        for file in self._stored():
            file.unlink()

    def rot(self) -> None:
        """Damage every stored rendition."""
        for file in self._stored():
            damaged = bytearray(file.read_bytes())
            damaged[-20] ^= 0x40
            file.write_bytes(damaged)

    def _stored(self) -> list[Path]:
        return [one for one in self.renditions.rglob("*") if one.is_file() and one.name != "CACHEDIR.TAG"]

    def _announced(self) -> int:
        assert self._process.stdout
        line = self._process.stdout.readline().decode()
        if not line.startswith("galerly-cdn "):
            self.kill()
            raise RuntimeError(f"it did not start; its last words are {line!r}")
        return int(line.rpartition(":")[2].strip().strip("/"))

    def _keep_reading(self) -> None:
        assert self._process.stdout
        self.lines += self._process.stdout


def _spelt(value: object) -> str:
    """A setting as its variable is written."""
    if isinstance(value, bool):
        return str(value).lower()
    return ";".join(map(str, value)) if isinstance(value, list) else str(value)
