"""Tests of the checks of an address: a real server behind a proxy with each fault, and without one."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from galerly_cdn.insight.doctor import url, url_facts
from galerly_cdn.insight.doctor.checks import Finding, Status, run
from galerly_cdn.render.sample_images import SPECIMENS
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support import faulty_proxy, tls_certificates
from tests.support.faulty_proxy import Faults
from tests.support.shapes import ServeProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICTURE = "/resize/tiny/wedding/1.jpg"


class Fault(NamedTuple):
    """What is wrong, and the result of the check."""

    status: Status
    found: str
    """A part of the phrase that names it."""
    proxy: Faults = Faults()
    settings: dict[str, object] = {}  # noqa: RUF012 - a named tuple's default, which nothing changes
    """Settings at hand that the server does not have."""
    origin: str = ""
    """Another origin than the proxy's."""
    path: str = PICTURE
    certificate_days: int = 0
    """The proxy has a certificate for `localhost` that lasts this long."""
    is_trusted: bool = True


FAULTS = {
    "dns": Fault(Status.FAILED, "absent.invalid: ", origin="http://absent.invalid"),
    "answer": Fault(Status.FAILED, "refused", origin="closed"),
    "certificate-trust": Fault(Status.FAILED, "self-signed", certificate_days=30, is_trusted=False),
    "certificate-expiry": Fault(Status.FAILED, "it has expired", certificate_days=-1),
    "certificate-name": Fault(
        Status.FAILED, "mismatch", certificate_days=30, origin="https://127.0.0.1:{port}"
    ),
    "statuses": Fault(Status.FAILED, "missing photograph 403", proxy=Faults(statuses={404: 403})),
    "allow-list": Fault(
        Status.FAILED,
        "the server refuses 640x480, 640x480.jpeg, 640x480.png and 1 more; the server offers 150x150,",
        settings={"sizes": ("large 640x480 jpeg=85",)},
    ),
    "missing-lifetime": Fault(
        Status.FAILED, "max-age=86400", proxy=Faults(headers={"cache-control": "public, max-age=86400"})
    ),
    "picture": Fault(Status.FAILED, "404 no-such-original", path="/resize/tiny/wedding/absent.jpg"),
    "picture-lifetime": Fault(
        Status.FAILED, "Cache-Control: max-age=60;", proxy=Faults(headers={"cache-control": "max-age=60"})
    ),
    "negotiation": Fault(
        Status.FAILED, "Accept: image/jpeg,image/png got image/avif", proxy=Faults(ignores_vary=True)
    ),
    "cache-hits": Fault(
        Status.FAILED, "request 4 of one picture: ", proxy=Faults(headers={"cache-status": "proxy; fwd=miss"})
    ),
    "cross-origin": Fault(
        Status.FAILED,
        "access-control-allow-origin is *, expected https://shop.example",
        settings={"allow_origin": "https://shop.example"},
    ),
}


@pytest.fixture(scope="module")
def cdn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    folder = tmp_path_factory.mktemp("cdn")
    process = ServeProcess(folder / "originals", folder / "renditions")
    process.put("wedding/1.jpg", SPECIMENS["jpeg"])
    yield process
    process.stop()


def findings(address: str, settings: Settings, now_s: float | None = None) -> dict[str, Finding]:
    facts = url_facts.read(address, settings, time.time() if now_s is None else now_s)
    return {one.check: one for one in run(url.CHECKS, facts)}


@contextlib.contextmanager
def faulty(fault: Fault, cdn: ServeProcess, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a CDN with a fault."""
    files = (
        tls_certificates.make(folder, lasts_days=fault.certificate_days) if fault.certificate_days else None
    )
    if files and fault.is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
    with faulty_proxy.running(cdn.port, fault.proxy, files) as origin, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens on it
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
        other = closed if fault.origin == "closed" else fault.origin.format(port=origin.rpartition(":")[2])
        yield (other or origin) + fault.path


@pytest.mark.parametrize("check", FAULTS)
def test_url_with_fault_is_found(
    check: str, cdn: ServeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[check]
    with faulty(fault, cdn, tmp_path, monkeypatch) as address:
        finding = findings(address, replaced(Settings(), **fault.settings))[check]
    assert (finding.status, fault.found in finding.found) == (fault.status, True), finding.found


@pytest.fixture(scope="module")
def healthy(cdn: ServeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Finding]]:
    files = tls_certificates.make(tmp_path_factory.mktemp("certificate"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(files.certificate))
        with faulty_proxy.running(cdn.port, certificate=files) as origin:
            yield findings(origin + PICTURE, Settings())


@pytest.mark.parametrize("check", FAULTS)
def test_url_without_fault_is_ok(check: str, healthy: dict[str, Finding]) -> None:
    assert healthy[check].status is Status.OK, healthy[check].found
