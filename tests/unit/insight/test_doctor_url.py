"""Tests of the checks of an address: a real server behind a proxy with each fault, and without one."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from galerly_cdn.access import keys
from galerly_cdn.access.signing import Signer
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

OTHERS = {
    "a certificate that expires soon": (
        "certificate-expiry",
        Fault(Status.WARNING, "it expires in 5 days", certificate_days=5),
    ),
    "the expiry of an untrusted certificate": (
        "certificate-expiry",
        Fault(Status.NOT_APPLICABLE, "not trusted", certificate_days=30, is_trusted=False),
    ),
    "no host name": ("dns", Fault(Status.FAILED, "is no host name", origin="http://a..b")),
    "a proxy that reaches no CDN": (
        "answer",
        Fault(Status.FAILED, "answers 502", proxy=Faults(statuses={404: 502})),
    ),
    "a CloudFront whose galleries are all private": (
        "allow-list",
        Fault(Status.NOT_APPLICABLE, "the server does not say", proxy=Faults(statuses={404: 403, 403: 403})),
    ),
    "the 404 of a private gallery": (
        "missing-lifetime",
        Fault(Status.NOT_APPLICABLE, "the answer is 403", proxy=Faults(statuses={404: 403})),
    ),
    "a 404 without a lifetime": (
        "missing-lifetime",
        Fault(Status.FAILED, "is not sent", proxy=Faults(headers={"cache-control": ""})),
    ),
    "a 404 that is not stored": (
        "missing-lifetime",
        Fault(Status.OK, "no-store", proxy=Faults(headers={"cache-control": "no-store"})),
    ),
    "a size that the server does not have": (
        "picture",
        Fault(Status.FAILED, "403 size-not-allowed", path="/resize/801x600/wedding/1.jpg"),
    ),
    "no picture": ("picture", Fault(Status.NOT_APPLICABLE, "give the address of a picture", path="")),
    "a picture that is not stored": (
        "picture",
        Fault(
            Status.FAILED,
            "302",
            proxy=Faults(statuses={200: 302}, headers={"location": f"{PICTURE}?stored=1"}),
        ),
    ),
    "no Vary": ("negotiation", Fault(Status.WARNING, "Vary: Accept", proxy=Faults(headers={"vary": ""}))),
    "an address with a format": (
        "negotiation",
        Fault(Status.NOT_APPLICABLE, "names a format", path="/resize/tiny.webp/wedding/1.jpg"),
    ),
    "no Cache-Status": (
        "cache-hits",
        Fault(Status.WARNING, "no header shows it", proxy=Faults(headers={"cache-status": ""})),
    ),
    "X-Cache": (
        "cache-hits",
        Fault(
            Status.OK,
            "x-cache: Hit from cloudfront",
            proxy=Faults(headers={"cache-status": "", "x-cache": "Hit from cloudfront"}),
        ),
    ),
    "CORS headers for pages only": (
        "cross-origin",
        Fault(Status.OK, "those of the settings", proxy=Faults(shares_with_pages=True)),
    ),
    "Age": (
        "cache-hits",
        Fault(Status.OK, "age: 7", proxy=Faults(headers={"cache-status": "", "age": "7"})),
    ),
}
"""Further results of a check, by what is there."""


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


@pytest.mark.parametrize("name", OTHERS)
def test_url_with_something_else_is_judged(
    name: str, cdn: ServeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, fault = OTHERS[name]
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


def test_url_that_redirects_to_https_is_checked_there(
    cdn: ServeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tls_certificates.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
    with faulty_proxy.running(cdn.port, certificate=files) as secure:
        redirect = Faults(statuses={404: 301, 200: 301}, headers={"location": f"{secure}/"})
        with faulty_proxy.running(cdn.port, redirect) as plain:
            found = findings(plain + PICTURE, Settings())
    assert secure in found["answer"].found
    assert {one.status for one in found.values()} == {Status.OK}


def test_url_of_private_galleries_with_signed_picture_is_ok(tmp_path: Path) -> None:
    key_id, _, private_key = keys.create_key_pair(tmp_path / "keys", ecdsa=True)
    signer = Signer(key_id, private_key.read_bytes())
    private_key.unlink()
    settings = {
        "private_prefixes": "/",
        "public_keys": tmp_path / "keys",
        "public_urls": "http://cdn.test",
    }
    cdn = ServeProcess(tmp_path / "originals", tmp_path / "renditions", settings)
    try:
        cdn.put("wedding/1.jpg", SPECIMENS["jpeg"])
        signed = signer.url(f"http://cdn.test{PICTURE}", expires_s=int(time.time()) + 3600)
        address = signed.replace("cdn.test", f"127.0.0.1:{cdn.port}")
        found = findings(address, Settings(private_prefixes=("/",)))
    finally:
        cdn.stop()
    assert {name: one.found for name, one in found.items() if one.status is Status.FAILED} == {}
    assert found["picture-lifetime"].found.startswith("Cache-Control: private, max-age=3600;")
    assert found["allow-list"].status is found["statuses"].status is Status.OK
