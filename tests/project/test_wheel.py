"""Tests of the wheel's contents; `script/wheel` installs and runs it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from galerly_cdn import __version__

ROOT = Path(__file__).parents[2]


PACKAGE = ROOT / "src" / "galerly_cdn"


def test_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name == f"galerly_cdn-{__version__}-py3-none-any.whl"
    sources = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert sources <= names
    rest = {name for name in names - sources if ".dist-info/" not in name}
    assert rest == set()
    assert f"galerly_cdn-{__version__}.dist-info/licenses/LICENSE" in names
