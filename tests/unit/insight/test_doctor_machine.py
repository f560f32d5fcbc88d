"""Tests of the checks of the machine: each with the fault really there, and on this machine without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from galerly_cdn.app import renderer
from galerly_cdn.insight.doctor import machine, machine_facts
from galerly_cdn.insight.doctor.checks import Finding, Status, run
from galerly_cdn.render.pool import fork_server_process
from galerly_cdn.serialization import replaced
from galerly_cdn.server import serve
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from pathlib import Path


class Fault(NamedTuple):
    """Settings that this machine cannot meet, or a worker on a machine that lacks something."""

    status: Status
    found: str
    """A part of the phrase that names it."""
    settings: dict[str, object] = {}  # noqa: RUF012 - a named tuple's default, which nothing changes
    worker: str = ""
    """A function of `restricted_worker`."""
    libvips: str = ""
    """The version of an installed pyvips-binary."""


FAULTS = {
    "open-files": Fault(Status.FAILED, "needs 1,099,", {"max_connections": 2**39}),
    "memory": Fault(Status.WARNING, "GiB with 3 workers", {"render_memory_bytes": 2**50, "workers": 3}),
    "cores": Fault(Status.WARNING, "workers = 4096", {"workers": 4096}),
    "disk-space": Fault(Status.FAILED, "renditions_bytes is 1,073,741,824 GiB", {"renditions_bytes": 2**60}),
    "temporary-space": Fault(Status.FAILED, "may have 1,048,576 GiB", {"max_original_bytes": 2**50}),
    "worker": Fault(Status.FAILED, "a render worker cannot start", worker="main_without_pyvips"),
    "worker-limits": Fault(Status.FAILED, "not in force: memory, file-size", worker="main_without_limits"),
    "sandbox": Fault(Status.WARNING, "no-files (a decoder", worker="main_without_landlock"),
    "libvips-version": Fault(Status.FAILED, "pyvips-binary has 8.9.1", libvips="8.9.1.2"),
    "libvips-formats": Fault(Status.FAILED, "not decoded: avif", worker="main_without_avif"),
}


def start_instead(main: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers run a function of `restricted_worker`."""
    *interpreter, code = fork_server_process.worker_command("tests.support.restricted_worker")
    code = code.replace("import main; main()", f"import {main} as main; main()")
    monkeypatch.setattr(fork_server_process, "worker_command", lambda: (*interpreter, code))


def findings(store: str | Path, **settings: object) -> dict[str, Finding]:
    changed = replaced(Settings(store=str(store)), **settings)
    needed = serve.files_needed(1, changed.max_connections)
    facts = machine_facts.read(changed, needed, renderer.describe_worker)
    return {one.check: one for one in run(machine.CHECKS, facts)}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    return findings(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("check", FAULTS)
def test_machine_with_fault_is_found(check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[check]
    if fault.worker:
        start_instead(fault.worker, monkeypatch)
    if fault.libvips:
        metadata = tmp_path / f"pyvips_binary-{fault.libvips}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: pyvips-binary\nVersion: {fault.libvips}\n")
        monkeypatch.syspath_prepend(tmp_path)
    finding = findings(tmp_path, **fault.settings)[check]
    assert finding.status is fault.status
    assert fault.found in finding.found


@pytest.mark.parametrize("check", FAULTS)
def test_machine_without_fault_is_ok(check: str, healthy: dict[str, Finding]) -> None:
    found = healthy[check].found
    if check == "sandbox" and "no-network" in found and healthy[check].status is Status.WARNING:
        pytest.skip("this container grants no network namespace")
    assert healthy[check].status is Status.OK, found


def test_machine_without_worker_skips_checks_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_instead("main_without_pyvips", monkeypatch)
    found = findings(tmp_path)
    skipped = [name for name, one in found.items() if one.status is Status.NOT_APPLICABLE]
    assert skipped == ["worker-limits", "sandbox", "libvips-version", "libvips-formats"]


def test_machine_remote_renditions_skip_disk() -> None:
    assert findings("s3://bucket")["disk-space"].status is Status.NOT_APPLICABLE
