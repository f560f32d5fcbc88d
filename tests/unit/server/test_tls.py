"""Tests of HTTPS: TLS connections, and loading and reloading the certificate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
from typing import TYPE_CHECKING, TypeVar

import pytest
from cryptography import x509

from galerly_cdn.errors import SettingsError
from galerly_cdn.render.sample_images import SPECIMENS
from galerly_cdn.server import serve
from galerly_cdn.server.certificate import Certificate
from galerly_cdn.server.listener import no_hit
from galerly_cdn.settings import load
from tests.support.raw_http import Echo, Served, Viewer, answer, get, run, serving
from tests.support.shapes import ServeProcess
from tests.support.tls_certificates import Files, make, trusting
from tests.unit.server.test_request_bodies import BodyApplication
from tests.unit.server.test_request_smuggling import REFUSED, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.request import Receive, Scope, Send
    from galerly_cdn.http.responses import Response
    from galerly_cdn.settings.table import Settings


T = TypeVar("T")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make(tmp_path)


def https(files: Files, **more: object) -> Settings:
    named = {"tls_certificate": str(files.certificate), "tls_key": str(files.key)}
    return load.load_settings({"port": 0, **named, **more}, environment={}).settings


# connections


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_request_is_served(files: Files, version: ssl.TLSVersion) -> None:
    seen: list[str] = []

    async def application(scope: Scope, _: Receive, send: Send) -> None:
        seen.append(scope["scheme"])
        await answer(send, b"x" * 5_000_000)

    async def scenario() -> None:
        viewers = trusting(files.certificate)
        viewers.minimum_version = viewers.maximum_version = version
        viewers.set_alpn_protocols(["h2", "http/1.1"])
        async with serving(application, https(files), tls=viewers) as served, served.viewer() as viewer:
            assert served.address.startswith("https://127.0.0.1:")
            assert viewer.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            for _ in range(3):
                await viewer.send(get())
                assert (await viewer.response())[2] == b"x" * 5_000_000
            await viewer.send(get("/", "Connection: close"))
            assert (await viewer.response())[2] == b"x" * 5_000_000
            assert await viewer.read_to_end() == b""

    run(scenario())
    assert seen == ["https"] * 4


def test_tls_1_1_is_refused(files: Files) -> None:
    async def scenario() -> None:
        viewers = trusting(files.certificate)
        viewers.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            viewers.minimum_version = viewers.maximum_version = ssl.TLSVersion.TLSv1_1
        async with serving(Echo(), https(files), tls=viewers) as served:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with served.viewer():
                    pass

    run(scenario())


def test_tls_body_arrives_in_chunks(files: Files) -> None:
    async def scenario() -> None:
        application = BodyApplication()
        tls = trusting(files.certificate)
        async with (
            serving(application, https(files), takes_bodies=True, tls=tls) as served,
            served.viewer() as viewer,
        ):
            await viewer.send(
                b"PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"
            )
            assert await viewer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await viewer.send(b"x" * 9_000_000)
            assert (await viewer.response())[2] == b"9000000"
            assert await viewer.read_to_end() == b""
        assert max(map(len, application.parts)) < 1_000_000

    run(scenario())


@pytest.mark.parametrize(("raw", "status"), list(REFUSED.values())[::6], ids=list(REFUSED)[::6])
def test_tls_ambiguous_request_is_refused(files: Files, raw: bytes, status: int) -> None:
    async def scenario() -> None:
        application = Echo()
        tls = trusting(files.certificate)
        async with serving(application, https(files), tls=tls) as served, served.viewer() as viewer:
            await viewer.send(raw + SECOND)
            assert (await viewer.response())[0] == status
            assert await viewer.read_to_end() == b""
        assert application.raw_paths == []

    run(scenario())


@pytest.mark.parametrize("is_hit", [False, True], ids=["application", "hits"])
def test_tls_pipelined_requests_are_served_in_order(files: Files, *, is_hit: bool) -> None:
    async def scenario() -> None:
        tls, echo = trusting(files.certificate), Echo()
        answer_hit = echo.answer_hit if is_hit else no_hit
        async with (
            serving(echo, https(files), answer_hit=answer_hit, tls=tls) as served,
            served.viewer() as viewer,
        ):
            await viewer.send(b"".join(get(f"/{number}") for number in range(10)))
            for number in range(10):
                assert f'"/{number}"'.encode() in (await viewer.response())[2]

    run(scenario())


@pytest.mark.parametrize("first_bytes", [get(), b"", b"\x16\x03\x01\x00\x05hello", b"\x80" * 500])
def test_tls_missing_handshake_is_aborted_at_header_deadline(files: Files, first_bytes: bytes) -> None:
    async def scenario() -> None:
        application = Echo()
        settings = https(files, header_deadline_s=0.2)
        async with serving(application, settings) as served, served.viewer() as viewer:  # without TLS
            await viewer.send(first_bytes)
            assert b"HTTP" not in await _rest(viewer.reader)
        assert application.raw_paths == []

    run(scenario())


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def test_tls_handshake_counts_against_connection_limit(files: Files) -> None:
    refused: list[str] = []

    def refuse(error: GalerlyError, client: str) -> Response:
        refused.append(error.code)
        return serve.refuse(error, client)

    async def scenario() -> None:
        tls = trusting(files.certificate)
        async with serving(Echo(), https(files, max_connections=1), refuse, tls=tls) as served:
            async with Served(served.address).viewer() as first:
                assert await _is_refused(served)
                assert refused[0] == "too-many-connections"
                await first.send(b"\x00" * 100)
                assert await _rest(first.reader) is not None
            async with served.viewer() as viewer:  # the connection was released
                await viewer.send(get())
                assert (await viewer.response())[0] == 200

    run(scenario())


async def _is_refused(served: Served) -> bool:
    try:
        async with served.viewer() as viewer:
            await viewer.send(get())
            await viewer.response()
    except (ssl.SSLError, OSError, asyncio.IncompleteReadError):
        return True
    return False


def test_tls_close_notify_sends_disconnect(files: Files) -> None:
    messages: list[str] = []

    async def waiting(_: Scope, receive: Receive, __: Send) -> None:
        await receive()
        messages.append((await receive())["type"])
        gone.set()

    gone = asyncio.Event()

    async def scenario() -> None:
        async with serving(waiting, https(files), tls=trusting(files.certificate)) as served:
            async with served.viewer() as viewer:
                await viewer.send(get())
            await gone.wait()

    run(scenario())
    assert messages == ["http.disconnect"]


class ManualTls:
    """A client that drives TLS record by record, so that it can stop within the handshake."""

    def __init__(self, viewer: Viewer, tls: ssl.SSLContext) -> None:
        self.viewer = viewer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def complete(self, step: Callable[[], T]) -> T:
        """The result of `step`, once enough input has arrived for it."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self.viewer.send(self.outgoing.read())
                self.incoming.write(await self.viewer.reader.read(1 << 16))

    async def send(self, raw: bytes) -> None:
        self.tls.write(raw)
        await self.viewer.send(self.outgoing.read())


def test_stop_serves_handshake_in_progress_and_drops_silent_one(
    files: Files,
) -> None:
    async def scenario() -> None:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        draining = asyncio.Event()
        one = serve.Listener(application=Echo(), host="127.0.0.1", port=0, on_ready=ready.set_result)
        serving = asyncio.ensure_future(serve.serve(one, settings=https(files), on_drain=draining.set))
        served = Served(await ready)
        async with served.viewer() as silent, served.viewer() as viewer:
            await silent.send(b"\x16")
            client = ManualTls(viewer, trusting(files.certificate))
            with pytest.raises(ssl.SSLWantReadError):
                client.tls.do_handshake()
            client_hello = client.outgoing.read()
            await viewer.send(client_hello[:50])
            os.kill(os.getpid(), signal.SIGTERM)
            await draining.wait()
            await viewer.send(client_hello[50:])
            await client.complete(client.tls.do_handshake)
            await client.send(get("/a"))
            answered = await client.complete(lambda: client.tls.read(1 << 16))
            assert answered.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close\r\n" in answered
            assert await silent.read_to_end() == b""
        assert await serving

    run(scenario())


def test_tls_tampered_record_ends_connection(files: Files) -> None:
    async def scenario() -> None:
        application = Echo()
        async with serving(application, https(files)) as served, served.viewer() as viewer:
            client = ManualTls(viewer, trusting(files.certificate))
            await client.complete(client.tls.do_handshake)
            client.tls.write(get("/a"))
            record = client.outgoing.read()
            await viewer.send(record[:-1] + bytes([record[-1] ^ 1]))
            assert b"HTTP" not in await _rest(viewer.reader)
        assert application.raw_paths == []

    run(scenario())


def test_stop_finishes_downloads_over_tls(tmp_path: Path, files: Files) -> None:
    settings = {"sign_originals": "false", "tls_certificate": files.certificate, "tls_key": files.key}
    shape = ServeProcess(tmp_path / "photographs", tmp_path / "renditions", settings)
    length_bytes = 20_000_000

    async def download(served: Served, begun: asyncio.Semaphore, may_end: asyncio.Event) -> int:
        async with served.viewer() as viewer:
            await viewer.send(get("/original/large.jpg"))
            await viewer.reader.readuntil(b"\r\n\r\n")
            begun.release()
            await may_end.wait()
            return len(await viewer.read_to_end())

    async def scenario() -> None:
        served = Served(f"https://127.0.0.1:{shape.port}/", trusting(files.certificate))
        begun, may_end = asyncio.Semaphore(0), asyncio.Event()
        async with asyncio.TaskGroup() as group, served.viewer():  # and one idle connection
            tasks = [group.create_task(download(served, begun, may_end)) for _ in range(5)]
            for _ in tasks:
                await begun.acquire()
            shape.process.send_signal(signal.SIGTERM)
            may_end.set()
        assert [task.result() for task in tasks] == [length_bytes] * 5

    try:
        shape.put("large.jpg", SPECIMENS["jpeg"])
        os.truncate(tmp_path / "photographs" / "large.jpg", length_bytes)
        run(scenario())
        assert shape.process.wait(30) == 0
    finally:
        shape.process.kill()
        shape.process.communicate()


# the certificate


def certificate_serial(context: ssl.SSLContext) -> int:
    """The serial number of the certificate that a server with this context sends in a handshake."""
    to_server, to_viewer = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_viewer, server_side=True)
    viewers = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    viewers.check_hostname, viewers.verify_mode = False, ssl.CERT_NONE
    viewer = viewers.wrap_bio(to_viewer, to_server, server_hostname="localhost")
    for side in (viewer, server, viewer):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    seen = viewer.getpeercert(binary_form=True)
    assert seen is not None
    return x509.load_der_x509_certificate(seen).serial_number


def test_certificate_refresh_waits_for_both_files(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    certificate = Certificate(files.certificate, files.key)
    assert certificate_serial(certificate.context) == files.serial
    old_key = files.key.read_bytes()
    renewed = make(files.key.parent)
    new_key = renewed.key.read_bytes()
    files.key.write_bytes(old_key)  # the certificate is renewed first
    for _ in range(3):
        certificate.refresh()
        assert certificate_serial(certificate.context) == files.serial
    assert caplog.text.count("The previous certificate stays in use") == 1
    files.key.unlink()
    certificate.refresh()
    assert certificate_serial(certificate.context) == files.serial
    files.key.write_bytes(new_key)
    certificate.refresh()
    assert certificate_serial(certificate.context) == renewed.serial
    assert f"The renewed certificate {renewed.certificate} is in use." in caplog.text


def test_running_server_uses_renewed_certificate(files: Files) -> None:
    async def scenario() -> None:
        tls = trusting(files.certificate)
        async with serving(Echo(), https(files), tls=tls) as served, served.viewer() as early:
            renewed = trusting(make(files.key.parent).certificate)
            while await _is_refused(Served(served.address, renewed)):
                pass
            await early.send(get())
            assert (await early.response())[0] == 200

    run(scenario())


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def _swap(folder: Path) -> None:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    before = certificate.read_bytes()
    certificate.write_bytes(key.read_bytes())
    key.write_bytes(before)


def _other_key(folder: Path) -> None:
    (folder / "other").mkdir()
    make(folder / "other").key.replace(folder / "key.pem")


UNFIT_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no certificate": (
        lambda folder: (folder / "certificate.pem").unlink(),
        "tls_certificate: cannot read .*: No such",
    ),
    "no key": (lambda folder: (folder / "key.pem").unlink(), "tls_key: cannot read .*: No such"),
    "the key of another certificate": (_other_key, "tls_key: .* is not the key of "),
    "swapped": (_swap, "are no certificate and unencrypted key in PEM"),
    "empty": (_write("certificate.pem", b""), "are no certificate and unencrypted key in PEM"),
    "nonsense": (_write("key.pem", b"\x00nonsense"), "are no certificate and unencrypted key in PEM"),
    "an encrypted key": (
        lambda folder: make(folder, password=b"secret"),
        "are no certificate and unencrypted key",
    ),
}


@pytest.mark.parametrize(("damage", "problem"), UNFIT_FILES.values(), ids=UNFIT_FILES)
def test_serve_unfit_certificate_raises_one_problem(
    files: Files, damage: Callable[[Path], object], problem: str
) -> None:
    damage(files.key.parent)
    addresses: list[str] = []
    one = serve.Listener(application=Echo(), host="127.0.0.1", port=0, on_ready=addresses.append)
    with pytest.raises(SettingsError, match=problem) as raised:
        serve.run(serve.serve(one, settings=https(files)))
    assert len(raised.value.problems) == 1
    assert addresses == []


def test_certificate_expired_is_used_with_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expired = make(tmp_path, lasts_days=-1)
    with caplog.at_level(logging.WARNING):
        assert certificate_serial(Certificate(expired.certificate, expired.key).context) == expired.serial
    assert f"{expired.certificate} has expired on " in caplog.text


@pytest.mark.parametrize("name", ["tls_certificate", "tls_key"])
def test_settings_certificate_without_key_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="give both or neither"):
        load.load_settings({name: "a.pem"}, environment={})
