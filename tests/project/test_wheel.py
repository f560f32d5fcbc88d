"""What is in the wheel? `script/wheel` installs and runs it; this looks inside."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from galerly_cdn import __version__

ROOT = Path(__file__).parents[2]


PACKAGES = [ROOT / "src" / "galerly_cdn"]
"""The second is what `galerly-cdn aws local` runs."""


def test_the_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name == f"galerly_cdn-{__version__}-py3-none-any.whl"
    ours = {
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert ours <= names
    rest = {name for name in names - ours if ".dist-info/" not in name}
    assert rest == set()
    assert f"galerly_cdn-{__version__}.dist-info/licenses/LICENSE" in names
