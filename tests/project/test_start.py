"""pytest starts a single test file with only the plugins and libraries that every test needs."""

from __future__ import annotations

import subprocess
import sys

EXPENSIVE = {"boto3", "botocore", "flask", "moto", "numpy", "obstore", "pyvips", "schemathesis"}
"""Packages that take seconds to import together."""


def test_conftest_import_loads_no_expensive_package() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, tests.conftest; print(*sys.modules)"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert not EXPENSIVE & {*loaded.stdout.split()}


def test_pytest_loads_only_the_plugins_of_the_configuration() -> None:
    """Plugins load by entry point otherwise, whatever is installed; schemathesis alone takes two seconds."""
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--trace-config", "--collect-only", "tests/unit/test_errors.py"],
        capture_output=True,
        check=True,
        text=True,
    )
    loaded = {line.split()[0] for line in listed.stdout.partition("active plugins:")[2].splitlines() if line}
    assert "pytest_timeout" in loaded
    assert not {"schemathesis", "anyio"} & loaded
