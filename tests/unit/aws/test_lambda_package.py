"""Tests of the Lambda zip: locked packages, wheels for Lambda's machine, reproducible bytes."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.aws.deploy import build, lambda_packages
from galerly_cdn.aws.errors import BuildFailed
from galerly_cdn.serialization import to_json
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

LOCK = lambda_packages.read_lock(
    "one==1.2 \\\n    --hash=sha256:ab\n    # via x\n"
    "two-part==3.0 \\\n    --hash=sha256:cd \\\n    --hash=sha256:ef\n"
)
RIGHT = ["one-1.2-py3-none-any.whl", "two_part-3.0-cp313-cp313-manylinux_2_28_aarch64.whl"]


def check(names: Iterable[str]) -> None:
    lambda_packages.check([Path(name) for name in names], LOCK, lambda_packages.LAMBDA)


def test_read_lock_returns_entries() -> None:
    assert [(one.name, one.version) for one in LOCK] == [("one", "1.2"), ("two-part", "3.0")]
    assert LOCK[1].text.count("--hash=sha256:") == 2


def test_lambda_lock_has_renderer_packages_and_no_server_packages() -> None:
    names = {one.name for one in lambda_packages.lambda_lock()}
    assert {"pyvips", "pyvips-binary", "obstore", "msgspec"} <= names
    assert not {"boto3", "botocore", "click", "jinja2", "httptools", "cryptography"} & names


def test_lambda_lock_has_tested_versions() -> None:
    run = lambda_packages.read_lock((Path(__file__).parents[3] / "requirements/run.txt").read_text())
    tested = {one.name: one.version for one in run}
    assert {
        one.name for one in lambda_packages.lambda_lock() if tested.get(one.name, one.version) != one.version
    } == set()


@pytest.mark.parametrize(
    "name",
    [
        "two_part-3.0-cp313-cp313-manylinux_2_28_aarch64.whl",
        "two_part-3.0-cp313-cp313-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
        "two_part-3.0-cp313-cp313-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "two_part-3.0-cp313-cp313-manylinux_2_34_aarch64.whl",
        "two_part-3.0-cp39-abi3-manylinux_2_24_aarch64.whl",
        "two_part-3.0-1-cp39-abi3-manylinux_2_24_aarch64.whl",
        "two_part-3.0-py2.py3-none-any.whl",
        "two_part-3.0-py3-none-manylinux_2_28_aarch64.whl",
        "Two.Part-3.0-py3-none-any.whl",
    ],
)
def test_check_wheel_for_lambda_is_accepted(name: str) -> None:
    check([RIGHT[0], name])


@pytest.mark.parametrize(
    "name",
    [
        "two_part-3.0-cp313-cp313-manylinux_2_28_x86_64.whl",
        "two_part-3.0-cp313-cp313-musllinux_1_2_aarch64.whl",
        "two_part-3.0-cp313-cp313-macosx_11_0_arm64.whl",
        "two_part-3.0-cp313-cp313-win_arm64.whl",
        "two_part-3.0-cp313-cp313-linux_aarch64.whl",
        "two_part-3.0-cp313-cp313-manylinux_2_35_aarch64.whl",
        "two_part-3.0-cp312-cp312-manylinux_2_28_aarch64.whl",
        "two_part-3.0-cp313-cp313t-manylinux_2_28_aarch64.whl",
        "two_part-3.0-cp314-abi3-manylinux_2_28_aarch64.whl",
        "two_part-3.0-py2-none-any.whl",
    ],
)
def test_check_wheel_for_other_machine_fails(name: str) -> None:
    with pytest.raises(BuildFailed, match=r"does not run on python3\.13 for aarch64"):
        check([RIGHT[0], name])


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([RIGHT[0], "two_part-2.9-py3-none-any.whl"], "two_part-2.9-py3-none-any.whl is not in the lock"),
        ([RIGHT[0], "two_part-2.9-py3-none-any.whl"], "two-part 3.0 is missing"),
        ([*RIGHT, "three-1-py3-none-any.whl"], "three-1-py3-none-any.whl is not in the lock"),
        ([*RIGHT, RIGHT[0]], "one-1.2-py3-none-any.whl is not in the lock"),
        ([*RIGHT, "one-1.2.tar.gz"], "one-1.2.tar.gz is not in the lock"),
        (RIGHT[:1], "two-part 3.0 is missing"),
    ],
)
def test_check_package_set_unlike_lock_fails(names: list[str], problem: str) -> None:
    with pytest.raises(BuildFailed) as raised:
        check(names)
    assert problem in raised.value.detail


def test_fetch_runs_pip_with_hashes_and_lambda_tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (tmp_path / "wheels").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    lock, shown = lambda_packages.lambda_lock(), list[str]()
    with pytest.raises(BuildFailed, match="is missing"):
        lambda_packages.fetch(lock, lambda_packages.LAMBDA, tmp_path, shown.append)
    assert len(shown) == len(commands) == len(lock)
    assert re.fullmatch(r"fetching setuptools [0-9.]+ \(1 of [0-9]+\)", shown[0])
    assert re.fullmatch(r"building pyvips [0-9.]+ \(([0-9]+) of \1\)", shown[-1])
    assert all({"--require-hashes", "--no-deps"} <= set(command) for command in commands)
    download = next(command for command in commands if "download" in command)
    assert "--only-binary=:all:" in download
    assert "--python-version=313" in download
    platforms = [one for one in download if one.startswith("--platform=")]
    assert platforms[0] == "--platform=manylinux_2_34_aarch64"
    # The tag of obstore's wheel; without it pip takes obstore 0.3.0.
    assert "--platform=manylinux_2_24_aarch64" in platforms
    assert not [one for one in platforms if "x86" in one]


def test_fetch_pip_error_fails_with_last_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "warning\nERROR: hashes do not match\n")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(BuildFailed) as raised:
        lambda_packages.fetch(LOCK, lambda_packages.LAMBDA, tmp_path, print)
    assert raised.value.detail == "pip download: ERROR: hashes do not match"


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True), st.binary(max_size=64)),
    st.randoms(),
)
def test_bundle_is_independent_of_order(files: dict[str, bytes], random_order: random.Random) -> None:
    listed = list(files.items())
    shuffled = list(files.items())
    random_order.shuffle(shuffled)
    code = build.bundle(listed)
    assert build.bundle(shuffled) == code
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
        assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in archive.infolist())
        assert all(entry.external_attr >> 16 == 0o100644 for entry in archive.infolist())


def test_bundle_duplicate_path_fails() -> None:
    with pytest.raises(BuildFailed, match=r"in two packages: a\.py"):
        build.bundle([("a.py", b"1"), ("b.py", b""), ("a.py", b"2")])


def test_unpacked_drops_stubs_headers_and_metadata(tmp_path: Path) -> None:
    wheel = tmp_path / "one-1.2-py3-none-any.whl"
    kept = [
        "one/__init__.py",
        "one/x.abi3.so",
        "one-1.2.dist-info/METADATA",
        "one-1.2.dist-info/licenses/LICENSE",
    ]
    dropped = [
        "one/__init__.pyi",
        "one/py.typed",
        "one/x.h",
        "one-1.2.dist-info/RECORD",
        "one-1.2.dist-info/WHEEL",
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (*kept, *dropped):
            archive.writestr(name, name)
    assert dict(build.unpacked([wheel])) == {name: name.encode() for name in kept}


def test_package_files_are_python_modules_only() -> None:
    names = {name for name, _ in build.package_files()}
    assert {
        "galerly_cdn/__init__.py",
        "galerly_cdn/render/pipeline.py",
        "galerly_cdn/aws/deploy/build.py",
    } <= names
    assert all(re.fullmatch(r"galerly_cdn/([a-z_0-9]+/)*[a-z_0-9]+\.py", name) for name in names)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One wheel instead of those that pip would fetch."""
    wheel = tmp_path / "one-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("one.py", "1")
    monkeypatch.setattr(lambda_packages, "fetch", lambda *_: (wheel,))
    return tmp_path


def test_build_writes_three_files_and_code_hash(offline: Path) -> None:
    out = offline / "new" / "out"
    built = build.build(Settings(), out)
    code = (out / "resizer.zip").read_bytes()
    assert built.sha256 == hashlib.sha256(code).hexdigest()
    assert sorted(path.name for path in out.iterdir()) == ["resizer.zip", "template.yaml", "viewer.js"]
    assert "function handler(event)" in Path(built.viewer).read_text()
    assert "AWSTemplateFormatVersion" in Path(built.template).read_text()
    assert to_json(build.build(Settings(), out)) == to_json(built)
    with zipfile.ZipFile(built.zip) as archive:
        assert {"one.py", "galerly_cdn/http/urls.py"} <= set(archive.namelist())


def test_build_lambda_edge_writes_node_handler(offline: Path) -> None:
    built = build.build(Settings(), offline / "out", with_lambda_edge=True)
    assert "exports.handler" in Path(built.viewer).read_text()
    assert "AWS::Lambda::Version" in Path(built.template).read_text()


def test_build_zip_above_maximum_is_not_written(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_ZIP_BYTES", 1000)
    with pytest.raises(BuildFailed, match="1000 are allowed"):
        build.build(Settings(), offline / "out")
    assert not (offline / "out").exists()
