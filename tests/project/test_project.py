"""Tests of the project itself: lock files, declared dependencies, line limits, scripts and licence."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path
from tokenize import COMMENT

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
FOLDERS = ("benchmarks", "checks", "docs", "src", "tests")
PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
SCRIPTS = sorted(path for path in (ROOT / "script").iterdir() if path.is_file())
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAX_LINES = 450
PINNED = re.compile(
    r"^(?P<name>[a-z0-9.-]+)==\S+(?: ; [^\\]+)? \\(?P<hashes>(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)"
)

DISABLED = re.compile(r"# ?(noqa|type: ?ignore|pyright: ?ignore|pragma)")
DISABLED_WITH_REASON = re.compile(
    r"# (noqa: [A-Z]+\d+(, [A-Z]+\d+)*|(type|pyright): ignore\[[\w, -]+\]|pragma: no \w+) (-| #) (?!noqa)\S"
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


@pytest.mark.server("git")
def test_no_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    hosts = ["py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian"]
    paths = [r"(?<![\w.*])/" + name + "/" for name in ("work", "root")]
    forbidden = re.compile("|".join([*map(re.escape, hosts), *paths]).encode())
    found = {relative(path): forbidden.findall(path.read_bytes()) for path in tracked() if path.is_file()}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize("lock", LOCKS, ids=relative)
def test_every_requirement_is_pinned_by_version_and_hash(lock: Path) -> None:
    entries = re.split(r"\n(?=\S)", re.sub(r"\n    #.*", "", lock.read_text()).strip())
    assert entries
    assert [entry for entry in entries if not PINNED.match(entry)] == []


def test_lock_files_hold_the_declared_requirements() -> None:
    groups = PROJECT["dependency-groups"]
    declared = {"run": PROJECT["project"]["dependencies"], **groups}
    for name, requirements in declared.items():
        lock = (ROOT / "requirements" / f"{name}.txt").read_text()
        pinned = set(re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE))
        assert {distribution(each) for each in requirements} <= pinned, f"{name}: run script/lock"


def distribution(requirement: str) -> str:
    found = re.match(r"[a-z0-9-]+", requirement)
    assert found
    return found[0]


def test_package_imports_only_declared_dependencies() -> None:
    project = PROJECT["project"]
    requirements = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    declared = {distribution(each) for each in requirements}
    others = {"yaml": "pyyaml", "_pi_heif": "pi-heif", "opentelemetry": "opentelemetry-sdk"}
    imported = {others.get(name, name.replace("_", "-")) for name in imported_packages()}
    assert imported <= declared


def test_every_dependency_has_a_contract_on_its_importers() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    protected = {name for one in contracts for name in one.get("protected_modules", [])}
    assert imported_packages() <= protected


def imported_packages() -> set[str]:
    """The top-level packages that the sources import, without the standard library and our own."""
    found = {
        name.partition(".")[0]
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        for name in imports(node)
    }
    return found - sys.stdlib_module_names - {"galerly_cdn"}


def imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_file_and_function_are_within_their_line_limits(source: Path) -> None:
    text = source.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, functions)
    }
    assert {name: lines for name, lines in long.items() if lines > 40} == {}


@pytest.mark.parametrize("source", PYTHON, ids=relative)
def test_disabled_check_has_a_reason(source: Path) -> None:
    """The reason is on the line, or in a comment right above it."""
    with source.open("rb") as opened:
        comments = {one.start[0]: one for one in tokenize.tokenize(opened.readline) if one.type == COMMENT}
    without = [
        one.line.strip()
        for number, one in comments.items()
        if DISABLED.search(one.string)
        and not DISABLED_WITH_REASON.search(one.string)
        and not (number - 1 in comments and comments[number - 1].line.lstrip().startswith("#"))
    ]
    assert without == []


@pytest.mark.parametrize(
    ("comment", "has_reason"),
    [
        ("# noqa: S311 - noise is no secret", True),
        ("# noqa: S311, T201 - likewise", True),
        ("# type: ignore[misc]  # frozen", True),
        ("# type: ignore[method-assign, assignment]  # the test's", True),
        ("# pyright: ignore[reportX] - it is one", True),
        ("# pragma: no cover - never on Linux", True),
        ("# noqa: S311", False),
        ("# noqa: S311, T201", False),
        ("# noqa", False),
        ("# type: ignore[misc]", False),
        ("# type: ignore[misc]  # noqa: S311", False),
        ("# type: ignore", False),
        ("# pragma: no cover", False),
    ],
)
def test_reason_of_disabled_check_is_recognised(comment: str, *, has_reason: bool) -> None:
    assert DISABLED.search(comment)
    assert bool(DISABLED_WITH_REASON.search(comment)) == has_reason


def test_no_file_has_a_vague_name() -> None:
    vague = {"base", "common", "core", "helpers", "misc", "utils"}
    assert [relative(path) for path in SOURCES if path.stem in vague] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
def test_script_is_executable_and_portable_sh(script: Path) -> None:
    assert script.read_text().startswith("#!/bin/sh\n# ")
    assert script.stat().st_mode & 0o111 == 0o111
    assert subprocess.run(["sh", "-n", script], check=False, capture_output=True).stderr == b""


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_script_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"\bscript/[a-z0-9]+", (ROOT / page).read_text())
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_changelog_has_dated_releases() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", each) for each in headings[1:])


def test_license_is_the_declared_one() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    text = " ".join((ROOT / "LICENSE").read_text().split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text
