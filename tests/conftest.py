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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERYTHING = os.environ.get("EVERYTHING") == "1"
"""Whether a test left out is a failure."""
_PACKAGES = {"node": "nodejs"}
_left_out: Counter[str] = Counter()

# A busy machine makes no test false: what must be quick is measured in CPU time.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """Under coverage, measure worker processes too: they start without `site`, which would do it."""
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        from galerly_cdn.render.pool import process

        pytest.MonkeyPatch().setattr(process, "worker_command", _measured(process.worker_command))


def _measured(command: Callable[[str], tuple[str, ...]]) -> Callable[[str], tuple[str, ...]]:
    def measured(module: str = "galerly_cdn.render.pool.worker") -> tuple[str, ...]:
        *interpreter, code = command(module)
        start = f"from {module} import main"
        assert start in code
        return (*interpreter, code.replace(start, f"import tests.support.subprocess_coverage; {start}"))

    return measured


def _keep_what_workers_did() -> None:
    """Turn what measured worker processes wrote into data files of coverage; a killed worker's is empty."""
    for seen in Path(__file__).parents[1].glob(".pytest_cache/measured/*"):
        if content := seen.read_bytes():
            from coverage import CoverageData

            data = CoverageData(suffix=f"worker.{seen.name}")
            data.loads(content)
            data.write()
        seen.unlink()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for need in _needs(item):
            item.add_marker(pytest.mark.skip(reason=need))


def _needs(item: pytest.Item) -> Iterator[str]:
    """What the test needs and this machine lacks. `server` names its tools: `mark.server("slowhttptest")`."""
    if item.get_closest_marker("browser") and not (shutil.which("chromium") and shutil.which("chromedriver")):
        yield "needs Chromium and its driver: apt install chromium chromium-driver"
    for mark in item.iter_markers("server"):
        yield from (f"needs {tool}: {_provided(tool)}" for tool in mark.args if not _is_here(tool))


def _is_here(tool: str) -> bool:
    return (
        s3_servers.versitygw_program() is not None if tool == "versitygw" else shutil.which(tool) is not None
    )


def _provided(tool: str) -> str:
    return "script/s3 (a Go program)" if tool == "versitygw" else f"apt install {_PACKAGES.get(tool, tool)}"


@pytest.fixture(scope="session", autouse=True)
def _credentials() -> Iterator[None]:
    """Those of the servers, for all tests: a test that is to have none takes them away for itself."""
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
def s3_server(request: pytest.FixtureRequest) -> s3_servers.S3Server:
    """A real one where there is one."""
    server: s3_servers.S3Server = request.getfixturevalue(
        "versitygw" if s3_servers.versitygw_program() else "moto"
    )
    return server


@pytest.fixture(params=s3_servers.SERVERS)
def bucket(request: pytest.FixtureRequest) -> s3_servers.Objects:
    """An empty bucket of each server there is."""
    server: s3_servers.S3Server = request.getfixturevalue(request.param)
    return server.bucket()


@pytest.fixture
def versitygw_bucket(request: pytest.FixtureRequest) -> s3_servers.Objects:
    """An empty bucket of a server that verifies signatures; moto believes them all."""
    server: s3_servers.S3Server = request.getfixturevalue("versitygw")
    return server.bucket()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _left_out[report.longrepr[2].removeprefix("Skipped: ")] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # of pytest-xdist: its controller does this for all of them
        return
    _keep_what_workers_did()
    if EVERYTHING and _left_out and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("left out")
    for reason, count in sorted(_left_out.items()):
        terminalreporter.line(f"{count} test{'s'[: count > 1]}: {reason}")
    if not _left_out:
        terminalreporter.line("nothing")
    elif EVERYTHING:
        terminalreporter.line("That is a failure: everything was asked for.")
