"""Downloads of originals: headers, ranges, reading, changes during a download, and memory."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import QueueFull, StoreUnreachable, Unsettled
from galerly_cdn.http import responses
from galerly_cdn.http.responses import Conditions, Download
from galerly_cdn.http.urls import checked_key
from galerly_cdn.model import Head
from galerly_cdn.render.sample_images import SPECIMENS
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.originals import FolderOriginals
from tests.support import pictures
from tests.support.in_memory_cdn import Gate, InMemoryCdn
from tests.support.raw_http import Served, get, run, serving
from tests.support.shapes import ServeProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, MutableMapping

    from galerly_cdn.access.signing import Verifier

PUBLIC = Settings(sign_originals=False, port=0)
CONTENT = SPECIMENS["jpeg"].ljust(5120, b".")
OTHER_CONTENT = SPECIMENS["png"].ljust(5120, b"-")
PATH = "/original/g/a.jpg"
KEY = "g/a.jpg"


@pytest.fixture
def cdn() -> InMemoryCdn:
    """With one public original of six chunks."""
    made = InMemoryCdn(settings=PUBLIC)
    made.originals.put(KEY, content=CONTENT)
    return made


# headers


async def _nothing(_first: int, _length_bytes: int) -> AsyncGenerator[bytes, None]:
    raise AssertionError("the original is read before it is sent")
    yield b""


def response_headers(
    key: str, version: str = "v1", *, is_private: bool = False, **conditions: bytes
) -> dict[bytes, bytes]:
    download = Download(key, Head(version, 10), "image/jpeg", _nothing)
    response = responses.original(download, Conditions(**conditions), Settings(), is_private=is_private)
    assert len(dict(response.headers)) == len(response.headers)
    return dict(response.headers)


def test_public_original_has_all_headers() -> None:
    headers = response_headers(KEY)
    assert re.fullmatch(rb'"[0-9a-f]{32}"', headers.pop(b"etag"))
    assert headers == {
        b"cache-control": b"public, max-age=31536000, immutable",
        b"x-content-type-options": b"nosniff",
        b"content-security-policy": b"default-src 'none'; sandbox",
        b"cross-origin-resource-policy": b"cross-origin",
        b"access-control-allow-origin": b"*",
        b"timing-allow-origin": b"*",
        b"content-type": b"image/jpeg",
        b"content-disposition": b'attachment; filename="a.jpg"',
        b"accept-ranges": b"bytes",
        b"content-length": b"10",
    }


def test_etag_is_a_digest_of_the_version() -> None:
    assert response_headers(KEY)[b"etag"] == response_headers("other/key")[b"etag"]
    assert response_headers(KEY, '"quoted-é"')[b"etag"] != response_headers(KEY)[b"etag"]
    assert b"quoted" not in response_headers(KEY, '"quoted-é"')[b"etag"]


def test_signed_original_is_private() -> None:
    headers = response_headers(KEY, is_private=True)
    assert headers[b"cache-control"] == b"private, max-age=3600"
    assert not {b"access-control-allow-origin", b"cross-origin-resource-policy"} & headers.keys()
    assert (
        response_headers(KEY, is_private=True, if_none_match=b"*")[b"cache-control"]
        == b"private, max-age=3600"
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("g/a.JPG", 'attachment; filename="a.JPG"'),
        ("no extension", 'attachment; filename="no extension"'),
        ("g/.hidden", 'attachment; filename=".hidden"'),
        ("g/100%.jpg", "attachment; filename=\"100_.jpg\"; filename*=UTF-8''100%25.jpg"),
        ("g/日本.webp", "attachment; filename=\"__.webp\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.webp"),
    ],
)
def test_download_s_file_name_is_that_of_the_key(key: str, expected: str) -> None:
    assert response_headers(key)[b"content-disposition"].decode() == expected


@given(st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1))
def test_any_key_gives_a_well_formed_content_disposition(name: str) -> None:
    matched = re.fullmatch(
        r"attachment; filename=\"([ !#-\[\]-~]+)\"(?:; filename\*=UTF-8''([\w%.~-]+))?",
        response_headers(f"g/{name}")[b"content-disposition"].decode("ascii"),
        re.ASCII,
    )
    assert matched is not None
    assert (unquote(matched[2]) if matched[2] else matched[1]) == name


@pytest.mark.parametrize("name", SPECIMENS)
async def test_media_type_is_detected_from_the_bytes(cdn: InMemoryCdn, name: str) -> None:
    cdn.originals.put("g/lie.txt", content=SPECIMENS[name])
    assert (await cdn.ask("/original/g/lie.txt")).headers["content-type"] == f"image/{name}"


@pytest.mark.parametrize("content", [b"", b"<html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\xff"])
async def test_signed_download_serves_any_file_as_octet_stream(content: bytes) -> None:
    cdn = InMemoryCdn(settings=replaced(PUBLIC, private_prefixes=("clients",)))
    cdn.edge = cdn.edge_with(cast("Verifier", AcceptingVerifier()))
    cdn.originals.put("clients/g/a.html", content=content)
    answer = await cdn.ask("/original/clients/g/a.html")
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "private, max-age=3600"
    assert cdn.renderer.inspections == 0


class AcceptingVerifier:
    def verify(self, *_: object, **__: object) -> None:
        """Accept every signature."""


# without a signature, pictures alone

UNSIGNED = [
    *(pytest.param(SPECIMENS[name], 200, "", id=name) for name in SPECIMENS),
    pytest.param(pictures.truncated(pictures.jpeg()), 200, "", id="damaged pixels"),
    pytest.param(pictures.jpeg(1100, 1000), 200, "", id="over the limit of pixels"),
    pytest.param(SPECIMENS["png"][:20], 415, "undecodable", id="damaged header"),
    pytest.param(b"SECRET=1\n", 415, "unsupported-format", id="settings"),
    *(
        pytest.param(content, 415, "unsupported-format", id=kind)
        for kind, content in pictures.disguises().items()
    ),
]


@pytest.mark.parametrize(("content", "status", "code"), UNSIGNED)
async def test_unsigned_download_serves_pictures_alone(content: bytes, status: int, code: str) -> None:
    """For GET, HEAD and ranges, whatever the name says."""
    cdn = InMemoryCdn(settings=replaced(PUBLIC, max_megapixels=1))
    cdn.originals.put("g/notes.jpg", content=content)
    for _ in range(2):  # without a record, and with one
        whole = await cdn.ask("/original/g/notes.jpg")
        head = await cdn.ask("/original/g/notes.jpg", "HEAD")
        part = await cdn.ask("/original/g/notes.jpg", range="bytes=0-3")
        assert (whole.status, head.status, part.status) == (status, status, 206 if status == 200 else status)
        assert cdn.records[-1].reason == code
        if status == 415:
            assert whole.code == part.code == code
            assert whole.headers["cache-control"] == "public, max-age=300"
            assert head.body == b""
        else:
            assert (whole.body, part.body) == (content, content[:4])


async def test_unsigned_downloads_of_one_picture_are_one_inspection(cdn: InMemoryCdn) -> None:
    cdn.renderer.gate = Gate(is_open=False)
    asking = [asyncio.ensure_future(cdn.ask(PATH)) for _ in range(3)]
    await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    assert {(await answer).status for answer in asking} == {200}
    assert cdn.renderer.inspections == 1
    await cdn.facts.drain()
    assert cdn.renditions.records[KEY].facts is not None


async def test_unsigned_download_with_a_record_waits_for_no_worker(cdn: InMemoryCdn) -> None:
    assert (await cdn.ask(PATH)).status == 200
    cdn.renderer.refusal = QueueFull("busy", 2.0)
    assert (await cdn.ask(PATH)).status == 200
    cdn.originals.put("g/other.jpg", content=CONTENT)
    refused = await cdn.ask("/original/g/other.jpg")
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "queue-full", "2")


async def test_inspections_of_unsigned_downloads_are_limited_for_each_client() -> None:
    cdn = InMemoryCdn(settings=replaced(PUBLIC, misses_per_minute_per_client=1))
    for key in (KEY, "g/other.jpg"):
        cdn.originals.put(key, content=CONTENT)
    assert [(await cdn.ask(PATH)).status for _ in range(2)] == [200, 200]
    assert (await cdn.ask("/original/g/other.jpg")).code == "too-many-misses"
    assert (await cdn.ask("/original/g/other.jpg", client="192.0.2.2")).status == 200


async def test_media_type_of_a_replaced_original_is_detected_again(cdn: InMemoryCdn) -> None:
    for name in ("png", "gif"):
        cdn.originals.put(KEY, content=SPECIMENS[name])
        for _ in range(2):
            assert (await cdn.ask(PATH)).headers["content-type"] == f"image/{name}"


# reading


@pytest.mark.parametrize(
    ("byte_range", "status", "first", "last"),
    [
        ("bytes=0-", 206, 0, 5120),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=999-1000", 206, 999, 1001),
        ("bytes=500-4600", 206, 500, 4601),
        ("bytes=-120", 206, 5000, 5120),
        ("bytes=5000-99999", 206, 5000, 5120),
        ("bytes=1-2,4-5", 200, 0, 5120),
        ("lines=1-2", 200, 0, 5120),
    ],
)
async def test_range_gives_exactly_its_bytes(
    cdn: InMemoryCdn, byte_range: str, status: int, first: int, last: int
) -> None:
    answer = await cdn.ask(PATH, range=byte_range)
    assert (answer.status, answer.body) == (status, CONTENT[first:last])
    assert answer.headers["content-length"] == str(last - first)
    expected = f"bytes {first}-{last - 1}/5120" if status == 206 else None
    assert answer.headers.get("content-range") == expected
    assert cdn.records[0].bytes == last - first


async def test_range_outside_is_416_and_range_of_another_version_is_ignored(cdn: InMemoryCdn) -> None:
    outside = await cdn.ask(PATH, range="bytes=5120-")
    assert (outside.status, outside.headers["content-range"]) == (416, "bytes */5120")
    etag = (await cdn.ask(PATH, "HEAD")).headers["etag"]
    assert (await cdn.ask(PATH, range="bytes=0-9", if_range=etag)).status == 206
    cdn.originals.put(KEY, content=OTHER_CONTENT)
    answer = await cdn.ask(PATH, range="bytes=0-9", if_range=etag)
    assert (answer.status, answer.body) == (200, OTHER_CONTENT)


async def test_head_and_304_read_nothing(cdn: InMemoryCdn) -> None:
    etag = (await cdn.ask(PATH)).headers["etag"]
    cdn.originals.chunks.close()  # a read would wait for ever
    head = await cdn.ask(PATH, "HEAD", range="bytes=0-1")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "5120")
    assert (await cdn.ask(PATH, if_none_match=etag)).status == 304
    assert cdn.originals.reading == 0
    assert [record.bytes for record in cdn.records[1:]] == [0, 0]


async def test_access_record_of_a_download_has_its_key(cdn: InMemoryCdn) -> None:
    await cdn.ask(PATH)
    (record,) = cdn.records
    assert (record.key, record.size, record.bytes, record.reason) == (KEY, "", 5120, "")


@pytest.mark.parametrize("path", [PATH, "/original/g/none.jpg"])
async def test_original_without_public_keys_is_403_without_a_store_access(path: str) -> None:
    cdn = InMemoryCdn(settings=Settings())
    cdn.originals.put(KEY)
    for query in (b"", b"Expires=9999999999&Signature=a&Key-Pair-Id=K1"):
        answer = await cdn.ask(path, query=query)
        assert (answer.status, answer.code) == (403, "signature-required")
        assert answer.headers["cache-control"] == "no-store"
    assert cdn.originals.heads == 0


# changes during a download


class SentMessages:
    """Sends and receives for one exchange, as a server does; `messages` are the sent ones."""

    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []

    async def receive(self) -> MutableMapping[str, Any]:
        raise AssertionError("a download has no body")

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)

    @property
    def is_whole(self) -> bool:
        return not self.messages[-1].get("more_body", True)


def scope(path: str = PATH) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "raw_path": path.encode(),
        "query_string": b"",
        "client": ("192.0.2.1", 4711),
        "headers": [],
    }


@pytest.mark.parametrize("error", [Unsettled("replaced"), StoreUnreachable("gone"), OSError("what")])
async def test_download_that_fails_midway_is_left_incomplete(
    cdn: InMemoryCdn, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cdn.ask(PATH, "HEAD")

    async def failing(*_: object) -> AsyncGenerator[bytes, None]:
        yield CONTENT[:1000]
        raise error

    monkeypatch.setattr(cdn.originals, "read", failing)
    sent = SentMessages()
    await cdn.application(scope(), sent.receive, sent.send)
    assert sent.messages[0]["status"] == 200
    assert not sent.is_whole
    record = cdn.records[-1]
    assert (record.status, record.bytes) == (200, 1000)
    assert record.reason == getattr(error, "code", "internal")
    assert cdn.counters.snapshot()[record.reason] == 1


async def test_download_that_is_too_short_is_left_incomplete(
    cdn: InMemoryCdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cdn.ask(PATH, "HEAD")

    async def short(*_: object) -> AsyncGenerator[bytes, None]:
        yield CONTENT[:-1]

    monkeypatch.setattr(cdn.originals, "read", short)
    sent = SentMessages()
    await cdn.application(scope(), sent.receive, sent.send)
    assert not sent.is_whole
    assert (cdn.records[-1].reason, cdn.records[-1].detail) == ("internal", "5119 bytes of 5120")


@pytest.mark.parametrize("is_known", [False, True], ids=["first request", "later request"])
async def test_original_replaced_before_its_first_byte_is_503(cdn: InMemoryCdn, *, is_known: bool) -> None:
    if is_known:
        await cdn.ask(PATH, "HEAD")
    cdn.originals.chunks.close()
    asking = asyncio.ensure_future(cdn.ask(PATH))
    if is_known:
        await cdn.originals.chunks.arrival()
    await cdn.originals.chunks.arrival()
    cdn.originals.put(KEY, content=OTHER_CONTENT)
    cdn.originals.chunks.open()
    answer = await asking
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "unsettled", "1")
    assert cdn.originals.reading == 0


def test_original_replaced_midway_ends_the_connection() -> None:
    async def scenario() -> None:
        cdn = InMemoryCdn(settings=PUBLIC)
        cdn.originals.put(KEY, content=CONTENT)
        await cdn.ask(PATH, "HEAD")
        cdn.originals.chunks.close()
        async with serving(cdn.application) as served, served.viewer() as viewer:
            await viewer.send(get(PATH))
            for _ in range(2):  # for the media type, and the first chunk
                await cdn.originals.chunks.arrival()
            cdn.originals.chunks.open()
            cdn.originals.chunks.close()  # so that only the first passes
            await viewer.reader.readuntil(b"\r\n\r\n")
            assert await viewer.reader.readexactly(1000) == CONTENT[:1000]
            cdn.originals.put(KEY, content=OTHER_CONTENT)
            cdn.originals.chunks.open()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await viewer.reader.readexactly(len(CONTENT) - 1000)
        assert (cdn.records[-1].reason, cdn.records[-1].bytes) == ("unsettled", 1000)

    run(scenario())


def test_viewer_that_disconnects_ends_the_reading() -> None:
    async def scenario() -> None:
        cdn = InMemoryCdn(settings=PUBLIC)
        cdn.originals.chunk_bytes = 100_000
        cdn.originals.put(KEY, content=CONTENT.ljust(50_000_000))
        async with serving(cdn.application) as served:
            async with served.viewer() as viewer:
                await viewer.send(get(PATH))
                await viewer.reader.readexactly(100)
                assert cdn.originals.reading == 1
            while cdn.originals.reading:  # a request lets the server notice the disconnect
                async with served.viewer() as other:
                    await other.send(get("/nowhere"))
                    await other.response()
        (record,) = (one for one in cdn.records if one.key)
        assert (record.reason, record.status) == ("disconnected", 200)
        assert record.bytes < 50_000_000

    run(scenario())


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda file: file.write_bytes(b"X" * 1_000_000),
    "cut": lambda file: os.truncate(file, 10),
    "touched": lambda file: file.touch(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_file_changed_in_place_is_detected_before_its_bytes_are_sent(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"o" * 1_000_000)
    store = FolderOriginals(tmp_path, checked_key, now=lambda: 0.0)
    head = await store.head("a.jpg")
    chunks = store.read("a.jpg", head.version, 0, head.length_bytes)
    assert set(await anext(chunks)) == {ord("o")}
    change(file)
    with pytest.raises(Unsettled):
        await anext(chunks)


async def test_file_edited_while_a_chunk_is_read_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"o" * 1000)
    store = FolderOriginals(tmp_path, checked_key, now=lambda: 0.0)
    head = await store.head("a.jpg")
    real_pread = os.pread

    def edited(fd: int, length_bytes: int, first: int) -> bytes:
        file.write_bytes(b"X" * 1000)
        return real_pread(fd, length_bytes, first)

    monkeypatch.setattr(os, "pread", edited)
    with pytest.raises(Unsettled):
        await anext(store.read("a.jpg", head.version, 0, 1000))


# memory

LARGE_BYTES = 60_000_000
VIEWERS = 8


@contextmanager
def large(root: Path) -> Iterator[ServeProcess]:
    """A server with a public original of 60 MB; killed if the test fails."""
    shape = ServeProcess(root / "photographs", root / "renditions", {"sign_originals": "false"})
    try:
        shape.put("large.jpg", SPECIMENS["jpeg"])
        os.truncate(root / "photographs" / "large.jpg", LARGE_BYTES)
        yield shape
    finally:
        if shape.process.poll() is None:
            shape.process.kill()
        shape.process.communicate()


async def _download(served: Served, started: asyncio.Semaphore, may_end: asyncio.Event) -> int:
    """Start a download, continue it when it may end, and return the number of received bytes."""
    async with served.viewer() as viewer:
        await viewer.send(get("/original/large.jpg", "Connection: close"))
        assert (await viewer.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        started.release()
        await may_end.wait()
        received_bytes = 0
        while chunk := await viewer.reader.read(1 << 20):
            received_bytes += len(chunk)
        return received_bytes


async def _downloads(shape: ServeProcess, meanwhile: Callable[[], object]) -> list[int]:
    """The bytes that each of several viewers received; `meanwhile` is called when all have started."""
    started, may_end = asyncio.Semaphore(0), asyncio.Event()
    served = Served(f"http://127.0.0.1:{shape.port}/")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_download(served, started, may_end)) for _ in range(VIEWERS)]
        for _ in tasks:
            await started.acquire()
        meanwhile()
        may_end.set()
    return [task.result() for task in tasks]


def _peak_bytes(pid: int) -> int:
    """The peak memory of a process (proc_pid_status(5), VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_downloads_of_60_mb_take_less_than_half_of_it_in_memory(tmp_path: Path) -> None:
    with large(tmp_path) as shape:
        before_bytes = _peak_bytes(shape.process.pid)
        assert run(_downloads(shape, lambda: None)) == [LARGE_BYTES] * VIEWERS
        assert _peak_bytes(shape.process.pid) - before_bytes < LARGE_BYTES / 2
        assert [record["bytes"] for record in shape.stop()] == [LARGE_BYTES] * VIEWERS


def test_stop_of_the_server_completes_downloads(tmp_path: Path) -> None:
    with large(tmp_path) as shape:
        stopped = _downloads(shape, lambda: shape.process.send_signal(signal.SIGTERM))
        assert run(stopped) == [LARGE_BYTES] * VIEWERS
        assert shape.process.wait(30) == 0
