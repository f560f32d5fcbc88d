"""Starts servers with the command line, and creates keys and signatures."""

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
_MAX_PROCESSES = 2


def environment() -> dict[str, str]:
    """This process's environment without variables that are settings."""
    settings = ("GALERLY_", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(settings)}


def command_output(*arguments: str) -> str:
    """The output of a command. Raises `CalledProcessError`."""
    completed = subprocess.run(
        [*COMMAND, *arguments], env=environment(), check=True, stdout=subprocess.PIPE, text=True
    )
    return completed.stdout.strip()


class Signed(NamedTuple):
    """An address to sign, the name of the key, and the other options of `galerly-cdn sign`."""

    url: str
    key: str = "rsa"
    options: tuple[str, ...] = ("--expires", "2h")

    @classmethod
    def from_table(cls, path: str, row: dict[str, Any]) -> Signed:
        """From a row of the table; `of` signs another path than the row's, `url` another host."""
        options = {"expires": "2h", **row}
        url, path = options.pop("url", PUBLIC_URL), options.pop("of", path)
        key = options.pop("key", "rsa")
        flags = [f"--{name}" for name in ("cookies",) if options.pop(name, False)]
        values = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return cls(url + path, key, (*values, *flags))

    @property
    def is_cookies(self) -> bool:
        return "--cookies" in self.options


class Keys:
    """Creates the keys `rsa`, `ecdsa` and `unknown` (not known to the server), and signatures."""

    def __init__(self, folder: Path) -> None:
        self.public = folder / "server-keys"
        self.public.mkdir(parents=True)
        self._private: dict[str, Path] = {}
        for name, options, is_known in (
            ("rsa", [], True),
            ("ecdsa", ["--ecdsa"], True),
            ("unknown", [], False),
        ):
            pair = json.loads(
                command_output("keys", "new", "--out", str(folder / "keys"), "--json", *options)
            )
            self._private[name] = Path(pair["private"])
            if is_known:
                shutil.copy(pair["public"], self.public)
        self._signatures: dict[Signed, str] = {}

    def sign(self, addresses: Iterable[Signed]) -> None:
        """Create the signatures, several at once, because each takes a process."""
        unique = list(dict.fromkeys(addresses))
        with ThreadPoolExecutor(_MAX_PROCESSES) as pool:
            self._signatures.update(zip(unique, pool.map(self._sign, unique), strict=True))

    def signature(self, address: Signed) -> str:
        """The path and query of a signed address, or a `Cookie` header's value."""
        return self._signatures[address]

    def _sign(self, address: Signed) -> str:
        key = str(self._private[address.key])
        value = json.loads(command_output("sign", address.url, "--key", key, *address.options, "--json"))
        if address.is_cookies:
            return "; ".join(f"{name}={value}" for name, value in value.items())
        return "/" + str(value["url"]).split("/", 3)[3]


class Server:
    """`galerly-cdn serve` for a folder of photographs or a store, with or without the admin listener."""

    def __init__(
        self, folder: Path, collection: str, settings: dict[str, Any], *, is_store: bool, has_admin: bool
    ) -> None:
        self.originals = folder / "store/originals" if is_store else folder / "photographs"
        self.renditions = folder / ("store/resized" if is_store else "renditions")
        pictures.make_folder(collection, self.originals)
        location = {"store": folder / "store"} if is_store else {"renditions": self.renditions}
        values = {"workers": 1, "idle_s": 600, **location, **settings}
        self._variables = {
            f"GALERLY_{name.upper()}": _format_setting(value) for name, value in values.items()
        }
        self._command = [*COMMAND, "serve", *([] if is_store else [str(self.originals)]), "--port", "0"]
        self._has_admin = has_admin
        if has_admin:
            self._command += ["--admin-port", "0"]
        self.port = self.admin_port = 0
        self.lines: list[bytes] = []
        """The output after the addresses: access and audit records."""
        self.start()

    def start(self) -> None:
        """Start the server and wait until it serves. Raises `RuntimeError` if it exits."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, env={**environment(), **self._variables}
        )
        self.port = self._read_port()
        if self._has_admin:
            self.admin_port = self._read_port()
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def stop(self) -> int:
        """Stop the server with SIGTERM; returns its exit code."""
        self._process.send_signal(signal.SIGTERM)
        self._reader.join(60)
        return self._process.wait(60)

    def kill(self) -> None:
        """Kill the server if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def delete_renditions(self) -> None:
        """Delete every stored rendition while the server runs."""
        for file in self._rendition_files():
            file.unlink()

    def corrupt_renditions(self) -> None:
        """Corrupt one byte of every stored rendition."""
        for file in self._rendition_files():
            content = bytearray(file.read_bytes())
            content[-20] ^= 0x40
            file.write_bytes(content)

    def _rendition_files(self) -> list[Path]:
        return [one for one in self.renditions.rglob("*") if one.is_file() and one.name != "CACHEDIR.TAG"]

    def _read_port(self) -> int:
        assert self._process.stdout
        line = self._process.stdout.readline().decode()
        if not line.startswith("galerly-cdn "):
            self.kill()
            raise RuntimeError(f"the server did not start; its last output is {line!r}")
        return int(line.rpartition(":")[2].strip().strip("/"))

    def _read_output(self) -> None:
        assert self._process.stdout
        self.lines += self._process.stdout


def _format_setting(value: object) -> str:
    """The value of a setting's environment variable."""
    if isinstance(value, bool):
        return str(value).lower()
    return ";".join(map(str, value)) if isinstance(value, list) else str(value)
