"""Skips tests whose tools are missing, starts the S3 servers, and measures coverage of worker processes.

Every test file loads this module: what only some of them need is imported where it is used.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.support import s3_servers
from tests.support.exhaustive import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PACKAGES = {
    "node": "nodejs",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "systemd-socket-activate": "systemd",
    "varnishd": "varnish",
}
_skipped: Counter[str] = Counter()

# A busy machine must not make a test fail: tests of speed measure CPU time.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """Measures the coverage of worker processes: they start without `site`, which would start coverage."""
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        from galerly_cdn.render.pool import fork_server_process

        pytest.MonkeyPatch().setattr(
            fork_server_process, "worker_command", _measured_command(fork_server_process.worker_command)
        )


def _measured_command(command: Callable[[str], tuple[str, ...]]) -> Callable[[str], tuple[str, ...]]:
    """A worker's command line that starts coverage before the worker."""

    def measured(module: str = "galerly_cdn.render.pool.worker") -> tuple[str, ...]:
        *interpreter, code = command(module)
        statement = f"from {module} import main"
        assert statement in code
        measured_code = code.replace(statement, f"import tests.support.subprocess_coverage; {statement}")
        return (*interpreter, measured_code)

    return measured


def _save_worker_coverage() -> None:
    """Converts what worker processes wrote to coverage data files. The file of a killed worker is empty."""
    for file in Path(__file__).parents[1].glob(".pytest_cache/measured/*"):
        if content := file.read_bytes():
            from coverage import CoverageData

            data = CoverageData(suffix=f"worker.{file.name}")
            data.loads(content)
            data.write()
        file.unlink()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in {"unit", "conformance"} and not item.get_closest_marker("exhaustive"):
            item.add_marker("measured")
    for item in items:
        for reason in _missing_tools(item):
            item.add_marker(pytest.mark.skip(reason=reason))


AXE = Path(__file__).parents[1] / ".galerly/axe/axe_playwright_python/axe.min.js"
"""The accessibility checks, as `script/axe` installs them."""
_CACHE = Path(__file__).parents[1] / ".galerly"
_FILES = {
    "axe-core": AXE,
    "docs tools": _CACHE / "site/tools/bin/sphinx-build",
    "helm": _CACHE / "manifests/ready",
}


def _missing_tools(item: pytest.Item) -> Iterator[str]:
    """A reason for each tool that the test needs and that is not installed.

    The mark `server` names the tools: `mark.server("slowhttptest")`.
    """
    if item.get_closest_marker("browser") and not (shutil.which("chromium") and shutil.which("chromedriver")):
        yield "needs Chromium and its driver: apt install chromium chromium-driver"
    for mark in item.iter_markers("server"):
        yield from (f"needs {tool}: {_install_hint(tool)}" for tool in mark.args if not _is_installed(tool))


def _is_installed(tool: str) -> bool:
    if tool == "seaweedfs":
        return True  # a package of the tests
    if tool == "versitygw":
        return s3_servers.versitygw_program() is not None
    if tool in _FILES:
        return _FILES[tool].exists()
    return shutil.which(tool) is not None


def _install_hint(tool: str) -> str:
    scripts = {
        "versitygw": "script/s3 (a Go program)",
        "axe-core": "script/axe",
        "docs tools": "script/site",
        "helm": "script/manifests",
    }
    return scripts.get(tool, f"apt install {_PACKAGES.get(tool, tool)}")


@pytest.fixture(scope="session", autouse=True)
def _credentials() -> Iterator[None]:
    """Sets the S3 servers' credentials in the environment. A test that needs none removes them."""
    with s3_servers.credentials():
        yield


@pytest.fixture(scope="session")
def moto() -> Iterator[s3_servers.S3Server]:
    with s3_servers.moto() as server:
        yield server


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.S3Server]:
    with s3_servers.versitygw(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.S3Server]:
    from tests.support import seaweedfs

    with seaweedfs.running(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> s3_servers.S3Server:
    """versitygw if it is installed, else moto."""
    server: s3_servers.S3Server = request.getfixturevalue(
        "versitygw" if s3_servers.versitygw_program() else "moto"
    )
    return server


@pytest.fixture(params=s3_servers.SERVERS)
def bucket(request: pytest.FixtureRequest) -> s3_servers.Objects:
    """An empty bucket of each S3 server."""
    server: s3_servers.S3Server = request.getfixturevalue(request.param)
    return server.bucket()


@pytest.fixture
def versitygw_bucket(request: pytest.FixtureRequest) -> s3_servers.Objects:
    """An empty bucket of a server that verifies signatures; moto does not."""
    server: s3_servers.S3Server = request.getfixturevalue("versitygw")
    return server.bucket()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped[report.longrepr[2].removeprefix("Skipped: ")] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # of pytest-xdist: its controller does this for all of them
        return
    _save_worker_coverage()
    if EVERYTHING and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("skipped")
    for reason, count in sorted(_skipped.items()):
        terminalreporter.line(f"{count} test{'s'[: count > 1]}: {reason}")
    if not _skipped:
        terminalreporter.line("nothing")
    elif EVERYTHING:
        terminalreporter.line("The run fails: EVERYTHING=1 allows no skipped test.")
