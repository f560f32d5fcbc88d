"""Tries the container image: `python -m checks.image ROOT DESCRIPTION` after `script/image` has built it.

`ROOT` is the image's file system, `DESCRIPTION` what `buildah inspect` prints of it. The image's program runs
as the image's user, in a file system that is read only but for /tmp and the volumes, with the image's
environment alone. It needs root and Linux, and no container engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import heic_files, pictures, raw_files
from tests.support.scenario_player import SCENARIOS, ScenarioRun, signing_settings
from tests.support.shapes import ServeProcess, send_request

MAX_BYTES = 200_000_000
MAX_START_S = 1.0
TOOLS = {
    "apt",
    "apt-get",
    "as",
    "cc",
    "dpkg",
    "ensurepip",
    "g++",
    "gcc",
    "ld",
    "make",
    "perl",
    "pip",
    "setuptools",
}
"""What builds or installs programs; the image has none of it in `PROGRAMS`."""
PROGRAMS = {"bin", "python3.11", "sbin", "site-packages"}
SMOKE = {
    "the first request renders, the second is a hit with the same strong ETag",
    "Accept chooses AVIF before WebP, and each format is stored once",
    "a rendition is rotated upright, and never enlarged",
    "a matching validator is 304 without a body",
    "a single range is 206, an unsatisfiable one 416, any other is ignored",
    "a removed original is 404 at once, and a new one is served at once",
    "a damaged rendition is rendered again, and never served",
    "a size or format outside the allow-list is 403",
    "an original that cannot be rendered is 415 and stored nowhere",
    "an upload is served as soon as it is complete",
    "a purged rendition is rendered again, with the same bytes",
    "a signed request gets the unchanged original, under its own name",
}
"""The scenarios that show that the image holds what the wheel holds; the tests run all."""
_MOUNT = """
set -e
root=$1 shared=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=0777 tmpfs "$root/var/cache"
mkdir -p "$root$shared"
mount --bind "$shared" "$root$shared"
exec "$@"
"""
"""Mounts, in a namespace of its own, what a container engine mounts."""
_ENTER = """
import os, sys

_, root, user, names, *command = sys.argv
own = {name for name in os.environ if name in names.split(",") or name.startswith("GALERLY_")}
environment = {name: os.environ[name] for name in own}
os.chroot(root)
os.chdir("/")
os.setgroups([])
uid, gid = map(int, user.split(":"))
os.setgid(gid)
os.setuid(uid)
os.execve(command[0], command, environment)
"""
"""Becomes a program of the image, with the image's user and no variable of this machine."""


@dataclass(frozen=True)
class Image:
    """An image's file system and its configuration, after the OCI image specification."""

    root: Path
    configuration: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.configuration["Env"])

    def command(self, shared: Path, *arguments: str) -> tuple[str, ...]:
        """The command that runs a program of the image; it sees the folder `shared` at the same path."""
        mount = ("unshare", "--mount", "sh", "-c", _MOUNT, "sh", str(self.root), str(shared))
        enter = (sys.executable, "-I", "-c", _ENTER, str(self.root), self.configuration["User"])
        return (*mount, *enter, ",".join(self.environment), *arguments)

    def program(self, shared: Path) -> tuple[str, ...]:
        """The command that runs the image's entry point."""
        (name,) = self.configuration["Entrypoint"]
        folders = self.environment["PATH"].split(":")
        found = (f"{folder}/{name}" for folder in folders if (self.root / folder.lstrip("/") / name).exists())
        return self.command(shared, next(found))


def size_bytes(root: Path) -> int:
    """The bytes of all files, each link once."""
    files = {(file.lstat().st_ino, file.lstat().st_size) for file in root.rglob("*") if not file.is_dir()}
    return sum(size for _, size in files)


def check_contents(image: Image) -> None:
    """The user is not root; no file is set-uid or writable by others; nothing builds or installs programs.

    Raises `AssertionError`.
    """
    assert image.configuration["User"] == "10001:10001"
    modes = {file: file.lstat().st_mode for file in image.root.rglob("*") if not file.is_symlink()}
    assert [file for file, mode in modes.items() if mode & 0o6000] == []
    assert [file for file, mode in modes.items() if mode & 0o0002 and not mode & 0o1000] == []
    assert [file for file in modes if file.name in TOOLS and file.parent.name in PROGRAMS] == []
    total = size_bytes(image.root)
    print(f"The image has {total / 1e6:.0f} MB unpacked.")
    assert total <= MAX_BYTES


def check_start(running: ServeProcess, began_s: float) -> None:
    """The time from the command to the line that says that it serves. Raises `AssertionError`.

    A busy machine prolongs it: only the CPU time of the process and its workers is limited.
    """
    took_s = time.monotonic() - began_s
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    print(f"The image serves after {took_s:.2f} s, {cpu_s:.2f} s of them CPU time.")
    assert cpu_s <= MAX_START_S


def check_first_pictures(running: ServeProcess) -> None:
    """The gallery page, and an AVIF of originals with each decoder. Raises `AssertionError`."""
    running.put("coast/a.jpg", pictures.jpeg(1200, 900))
    running.put("coast/b.heic", heic_files.heic(heic_files.coded()))
    running.put("coast/c.nef", raw_files.nef(pictures.jpeg(1200, 900)))
    page = running.request("GET", "/?gallery=coast", {"Accept": "text/html"})
    assert page.status == 200, page
    assert b"a.jpg" in page.body
    for name in ("a.jpg", "b.heic", "c.nef"):
        began_s = time.monotonic()
        picture = running.request("GET", f"/resize/800x600/coast/{name}", {"Accept": "image/avif"})
        assert (picture.status, picture.headers["content-type"]) == (200, "image/avif"), picture
        print(f"The AVIF of {name} took {time.monotonic() - began_s:.2f} s.")


def check_health(image: Image, shared: Path, port: int) -> None:
    """The image's own health check, run as the engine runs it. Raises `AssertionError`."""
    answers = [
        send_request(port, "GET", f"/health/{name}", {"Host": "10.0.0.1"}) for name in ("livez", "readyz")
    ]
    assert [answer.status for answer in answers] == [200, 200], answers
    test = image.configuration["Healthcheck"]["Test"]
    assert test[0] == "CMD"
    for tried, expected in ((port, 0), (1, 1)):
        environment = {
            **os.environ,
            **image.environment,
            "GALERLY_PORT": str(tried),
            "PATH": os.environ["PATH"],
        }
        command = image.command(shared, "/opt/galerly-cdn/bin/python", *test[2:])
        done = subprocess.run(command, env=environment, check=False, capture_output=True)
        assert done.returncode == expected, done.stderr.decode()


def run_scenarios(running: ServeProcess) -> None:
    """Runs the smoke scenarios. Raises `AssertionError` with every unmet expectation."""
    chosen = [scenario for scenario in SCENARIOS if scenario["name"] in SMOKE]
    assert len(chosen) == len(SMOKE)
    problems = [
        f"{scenario['name']}, step {number}, {problem}"
        for scenario in chosen
        for number, problem in ScenarioRun(running).run(scenario)
    ]
    assert not problems, "\n".join(problems)
    print(f"The image passes {len(chosen)} scenarios.")


def main(root: Path, description: Path) -> None:
    image = Image(root, json.loads(description.read_text("utf-8"))["Docker"]["config"])
    check_contents(image)
    os.umask(0)  # the image's user writes into folders that the scenarios make
    with tempfile.TemporaryDirectory(prefix="image-") as scratch:
        shared = Path(scratch)
        shared.chmod(0o777)
        settings = {"writable": True, "browse": True, **signing_settings(shared)}
        began_s = time.monotonic()
        running = ServeProcess(
            shared / "photographs",
            shared / "renditions",
            settings,
            variables=image.environment,
            program=image.program(shared),
        )
        try:
            check_start(running, began_s)
            check_first_pictures(running)
            check_health(image, shared, running.port)
            run_scenarios(running)
        finally:
            running.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
