"""Fetches the wheels of `lambda.txt` with pip, by version and hash, for Lambda's machine.

pip gets the machine's tags. The fetched wheels are checked again, since a wheel for another machine would
fail only when the first picture is requested.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import resources
from typing import TYPE_CHECKING

from galerly_cdn.aws.errors import BuildFailed
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_GLIBC = 34
"""The minor version of glibc 2.34, which Amazon Linux 2023 has; Lambda's python3.13 runs on it."""
_TOOLS = {"setuptools"}
"""Packages that build others from source. They are not packed."""
_SOURCES = {"pyvips"}
"""Packages published as source only, all of it Python. As a wheel, pip would only find pyvips 2.1.0."""
_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-[0-9][^-]*)?-(?P<tags>[^-]+-[^-]+-[^-]+)\.whl")


class Machine(Value, frozen=True):
    """A machine that wheels are for: its processor, as Linux names it, and CPython's version."""

    name: str
    python: tuple[int, int]

    def __str__(self) -> str:
        return f"python{self.python[0]}.{self.python[1]} for {self.name}"


LAMBDA = Machine("aarch64", (3, 13))
"""The machine in the template: `Architectures` and `Runtime`."""


def local_machine() -> Machine:
    """The machine that this runs on, for tests of the package."""
    return Machine(platform.machine(), sys.version_info[:2])


class LockedPackage(Value, frozen=True):
    """An entry of a lock file: name, version, and the lines that pin them by hash."""

    name: str
    version: str
    text: str


def read_lock(text: str) -> tuple[LockedPackage, ...]:
    """The entries of a lock file that `script/lock` wrote."""
    entries = re.split(r"\n(?=[a-z])", re.sub(r"\n +#.*", "", text).strip())
    matches = (re.match(r"([a-z0-9.-]+)==(\S+)", entry) for entry in entries)
    return tuple(LockedPackage(match[1], match[2], match.string) for match in matches if match)


def lambda_lock() -> tuple[LockedPackage, ...]:
    """The packages that the Lambda functions need."""
    return read_lock(resources.files("galerly_cdn.aws.deploy").joinpath("lambda.txt").read_text("utf-8"))


def fetch(
    lock: Iterable[LockedPackage], machine: Machine, folder: Path, progress: Callable[[str], object]
) -> tuple[Path, ...]:
    """Download or build the wheels of `lock` for a machine in `folder`. Raises `BuildFailed`.

    `progress` gets each package before it is fetched.
    """
    packages = sorted(lock, key=lambda package: (package.name in _SOURCES, package.name not in _TOOLS))
    wheels, tools, requirements = folder / "wheels", folder / "tools", folder / "package.txt"
    for number, package in enumerate(packages, start=1):
        verb = "building" if package.name in _SOURCES else "fetching"
        progress(f"{verb} {package.name} {package.version} ({number} of {len(packages)})")
        requirements.write_text(f"{package.text}\n", "utf-8")
        if package.name in _TOOLS:
            _pip("install", "--target", str(tools), "-r", str(requirements))
        elif package.name in _SOURCES:
            _pip("wheel", "--no-build-isolation", "-w", str(wheels), "-r", str(requirements), tools=tools)
        else:
            _pip("download", *_machine_options(machine), "-d", str(wheels), "-r", str(requirements))
    files = tuple(sorted(wheels.iterdir()))
    check(files, [package for package in packages if package.name not in _TOOLS], machine)
    return files


def check(wheels: Iterable[Path], lock: Iterable[LockedPackage], machine: Machine) -> None:
    """Raise `BuildFailed` unless the wheels are exactly those of the lock, and run on `machine`."""
    expected = {(package.name, package.version) for package in lock}
    problems = []
    for wheel in wheels:
        match = _WHEEL.fullmatch(wheel.name)
        package = match and (_canonical(match["name"]), match["version"])
        if match is None or package not in expected:
            problems.append(f"{wheel.name} is not in the lock")
            continue
        expected.remove(package)
        if not _is_compatible(match["tags"], machine):
            problems.append(f"{wheel.name} does not run on {machine}")
    problems += [f"{name} {version} is missing" for name, version in sorted(expected)]
    if problems:
        raise BuildFailed("; ".join(problems))


def _is_compatible(tags: str, machine: Machine) -> bool:
    """Whether a wheel with these tags (`cp39-abi3-manylinux_2_24_aarch64`) runs on `machine`."""
    pythons, abi, platforms = tags.split("-")
    major, minor = machine.python
    minors = [int(tag[3:]) for tag in pythons.split(".") if re.fullmatch(r"cp3[0-9]+", tag)]
    if abi == "abi3":
        is_python = any(oldest <= minor for oldest in minors)
    elif abi == "none":
        is_python = "py3" in pythons.split(".") or minor in minors
    else:
        is_python = abi == f"cp{major}{minor}" and minor in minors
    supported = {"any", *_platforms(machine.name)}
    return is_python and any(tag in supported for tag in platforms.split("."))


def _platforms(machine: str) -> tuple[str, ...]:
    """The platform tags (PEP 600) that the machine's glibc satisfies, newest first: pip prefers the first."""
    newest = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 16, -1)]
    return (*newest, f"manylinux2014_{machine}")


def _machine_options(machine: Machine) -> list[str]:
    version = "".join(map(str, machine.python))
    tags = [f"--platform={tag}" for tag in _platforms(machine.name)]
    abis = [f"--abi={abi}" for abi in (f"cp{version}", "abi3", "none")]
    return ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}", *abis, *tags]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(command: str, *arguments: str, tools: Path | None = None) -> None:
    """Run pip with hashes required. Raises `BuildFailed` with the last line that pip printed.

    PKG_CONFIG_LIBDIR hides libvips' headers, against which pyvips would otherwise compile itself.
    """
    strict = ["--require-hashes", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--quiet"]
    environment = {**os.environ, "PKG_CONFIG_LIBDIR": "/nonexistent"}  # noqa: TID251 - the environment of pip
    if tools is not None:
        environment["PYTHONPATH"] = str(tools)
    process = subprocess.run(  # noqa: S603 - pip, with files that this module wrote
        [sys.executable, "-m", "pip", command, *strict, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        raise BuildFailed(f"pip {command}: " + (process.stderr.strip().splitlines() or ["failed"])[-1])
