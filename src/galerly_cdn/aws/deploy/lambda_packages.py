"""Which packages go to Lambda? Those of `lambda.txt`, by version and hash, for Lambda's machine alone.

pip is told that machine's tags; what it fetched is looked at again, since a wheel of another machine
only fails when the first picture is asked for.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import resources
from typing import TYPE_CHECKING

from galerly_cdn.errors import BuildFailed
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_GLIBC = 34
"""Amazon Linux 2023, on which Lambda's python3.13 runs, has glibc 2.34."""
_TOOLS = {"setuptools"}
"""What builds the sources; it stays here."""
_SOURCES = {"pyvips"}
"""Published as source alone, and all Python. Asked for wheels only, pip would find one of 2.1.0."""
_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-[0-9][^-]*)?-(?P<tags>[^-]+-[^-]+-[^-]+)\.whl")


class Machine(Value, frozen=True):
    """What wheels are for: a processor as Linux names it, and CPython's version."""

    name: str
    python: tuple[int, int]

    def __str__(self) -> str:
        return f"python{self.python[0]}.{self.python[1]} for {self.name}"


LAMBDA = Machine("aarch64", (3, 13))
"""As the template asks for."""


def local_machine() -> Machine:
    """This one, where the package may be tried."""
    return Machine(platform.machine(), sys.version_info[:2])


class LockedPackage(Value, frozen=True):
    """An entry of a lock: name, version, and the lines that pin both by hash."""

    name: str
    version: str
    text: str


def read_lock(text: str) -> tuple[LockedPackage, ...]:
    """The entries of a lock as `script/lock` writes it."""
    entries = re.split(r"\n(?=[a-z])", re.sub(r"\n +#.*", "", text).strip())
    found = (re.match(r"([a-z0-9.-]+)==(\S+)", entry) for entry in entries)
    return tuple(LockedPackage(one[1], one[2], one.string) for one in found if one)


def lambda_lock() -> tuple[LockedPackage, ...]:
    """What the Lambda function needs."""
    return read_lock(resources.files("galerly_cdn.aws.deploy").joinpath("lambda.txt").read_text("utf-8"))


def fetch(lock: Iterable[LockedPackage], machine: Machine, folder: Path) -> tuple[Path, ...]:
    """The wheels of `lock` for a machine, in `folder`, sorted. Raises `BuildFailed`."""
    kinds: dict[str, list[LockedPackage]] = {"tools": [], "sources": [], "wheels": []}
    for one in lock:
        kind = "tools" if one.name in _TOOLS else "sources" if one.name in _SOURCES else "wheels"
        kinds[kind].append(one)
    lists = {kind: folder / f"{kind}.txt" for kind in kinds}
    for kind, entries in kinds.items():
        lists[kind].write_text("\n".join(one.text for one in entries) + "\n", "utf-8")
    wheels, tools = folder / "wheels", folder / "tools"
    _pip("download", *_machine_options(machine), "-d", str(wheels), "-r", str(lists["wheels"]))
    _pip("install", "--target", str(tools), "-r", str(lists["tools"]))
    _pip("wheel", "--no-build-isolation", "-w", str(wheels), "-r", str(lists["sources"]), tools=tools)
    found = tuple(sorted(wheels.iterdir()))
    check(found, [*kinds["sources"], *kinds["wheels"]], machine)
    return found


def check(wheels: Iterable[Path], lock: Iterable[LockedPackage], machine: Machine) -> None:
    """Raise `BuildFailed` unless the wheels are exactly those of the lock, and run on `machine`."""
    wanted = {(one.name, one.version) for one in lock}
    problems = []
    for wheel in wheels:
        told = _WHEEL.fullmatch(wheel.name)
        pinned = told and (_canonical(told["name"]), told["version"])
        if told is None or pinned not in wanted:
            problems.append(f"{wheel.name} is not in the lock")
            continue
        wanted.remove(pinned)
        if not _runs(told["tags"], machine):
            problems.append(f"{wheel.name} does not run on {machine}")
    problems += [f"{name} {version} is missing" for name, version in sorted(wanted)]
    if problems:
        raise BuildFailed("; ".join(problems))


def _runs(tags: str, machine: Machine) -> bool:
    """Whether a wheel of these tags (`cp39-abi3-manylinux_2_24_aarch64`) runs there."""
    pythons, abi, platforms = tags.split("-")
    major, minor = machine.python
    minors = [int(one[3:]) for one in pythons.split(".") if re.fullmatch(r"cp3[0-9]+", one)]
    if abi == "abi3":
        is_python = any(one <= minor for one in minors)
    elif abi == "none":
        is_python = "py3" in pythons.split(".") or minor in minors
    else:
        is_python = abi == f"cp{major}{minor}" and minor in minors
    return is_python and any(one == "any" or one in _platforms(machine.name) for one in platforms.split("."))


def _platforms(machine: str) -> tuple[str, ...]:
    """The tags (PEP 600) that the machine's glibc satisfies, newest first: pip takes the first there is."""
    newest = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 16, -1)]
    return (*newest, f"manylinux2014_{machine}")


def _machine_options(machine: Machine) -> list[str]:
    version = "".join(map(str, machine.python))
    tags = [f"--platform={one}" for one in _platforms(machine.name)]
    abis = [f"--abi={one}" for one in (f"cp{version}", "abi3", "none")]
    return ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}", *abis, *tags]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(command: str, *arguments: str, tools: Path | None = None) -> None:
    """Run pip by hashes alone. Raises `BuildFailed` with its last line.

    Without libvips headers in sight (PKG_CONFIG_LIBDIR): pyvips would compile itself against them.
    """
    strict = ["--require-hashes", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--quiet"]
    environment = {**os.environ, "PKG_CONFIG_LIBDIR": "/nonexistent"}  # noqa: TID251 - pip's, not ours
    if tools is not None:
        environment["PYTHONPATH"] = str(tools)
    made = subprocess.run(  # noqa: S603 - pip, and files that we wrote
        [sys.executable, "-m", "pip", command, *strict, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise BuildFailed(f"pip {command}: " + (made.stderr.strip().splitlines() or ["failed"])[-1])
