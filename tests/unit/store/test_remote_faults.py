"""Tests a failing remote store: errors, retries, the circuit breaker and damaged objects."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import hashlib
import itertools
import os
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import (
    ClockSkewed,
    GalerlyError,
    KeyNotHeld,
    NoSuchOriginal,
    OriginalExists,
    SettingsError,
    StoreBusy,
    StoreCorrupt,
    StoreRefused,
    StoreUnreachable,
    TooManyBytes,
    Unsettled,
)
from galerly_cdn.store.remote import connection, resilience
from galerly_cdn.store.remote.bucket import Bucket
from galerly_cdn.store.remote.originals import RemoteOriginals
from galerly_cdn.store.remote.renditions import RemoteRenditions
from galerly_cdn.store.remote.resilience import CircuitBreaker, RetryBudget
from tests.support import tls_certificates
from tests.support.fake_s3 import FakeS3, Fault, Request, fake_s3
from tests.support.rendition_folders import TARGET, Counted, make_rendition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.store.interfaces import WritableOriginals

CONTENT = os.urandom(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
TRIES = 4
"""Attempts of a request before it fails."""


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(resilience, "_BACKOFF_S", 0.001)


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with fake_s3() as server:
        server.put("originals/a", CONTENT, md5=MD5)
        yield server


def originals(fake: FakeS3, clock: Callable[[], float] = lambda: 0.0, **settings: object) -> RemoteOriginals:
    changed = fake.settings(store_fresh_s=0, **settings)
    return RemoteOriginals(Bucket("s3://bucket/originals", changed, clock, Counted()), changed, clock)


def renditions(fake: FakeS3) -> RemoteRenditions:
    count = Counted()
    return RemoteRenditions(Bucket("s3://bucket/resized", fake.settings(), lambda: 0.0, count), count)


def fail_first(times: int, fault: Fault) -> Callable[[Request], Fault | None]:
    """The first requests get the fault, the others do not."""
    numbers = itertools.count(1)
    return lambda _request: fault if next(numbers) <= times else None


async def content_of(store: WritableOriginals, key: str = "a") -> bytes:
    with await store.open(key) as original:
        return os.pread(original.fd, 1 << 20, 0)


async def upload(store: WritableOriginals, content: bytes, *, replaces: bool = False) -> bool:
    with store.upload_file() as file:
        file.write(content)
        md5 = hashlib.md5(content).hexdigest()
        _, is_new = await store.put("a", file, media_type="image/jpeg", md5=md5, replaces=replaces)
        return is_new


# faults that pass

PASSING = {
    "internal error": Fault(status=500),
    "slow down": Fault(status=503, code="SlowDown"),
    "too many requests": Fault(status=429, code="TooManyRequests"),
    "reset": Fault(resets=True),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_passing_fault_is_retried(fake: FakeS3, fault: Fault) -> None:
    fake.fault = fail_first(TRIES - 1, fault)
    assert (await originals(fake).head("a")).length_bytes == len(CONTENT)
    fake.fault = fail_first(TRIES - 1, fault)
    assert await content_of(originals(fake)) == CONTENT


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_lasting_fault_is_unreachable_after_the_retries(fake: FakeS3, fault: Fault) -> None:
    fake.fault = lambda _request: fault
    with pytest.raises(StoreUnreachable):
        await originals(fake).head("a")
    assert len(fake.requests) == TRIES
    with pytest.raises(StoreUnreachable):
        await originals(fake).open("a")
    assert len(fake.requests) == 2 * TRIES
    assert await renditions(fake).get("a", TARGET) is None
    assert await renditions(fake).record("a", TARGET) is None
    with pytest.raises(StoreUnreachable):
        await renditions(fake).put(make_rendition("a"))


async def test_store_that_fails_half_the_time_gets_a_tenth_more_requests(fake: FakeS3) -> None:
    """That is the limit after the reserve of fifty retries is used up."""
    store = originals(fake)
    bad = itertools.cycle([Fault(status=503, code="SlowDown"), None])
    fake.fault = lambda _request: next(bad)
    for number in range(200):
        with contextlib.suppress(StoreUnreachable, NoSuchOriginal):
            await store.head(f"{number}")
        if number == 99:
            fake.requests.clear()
    assert 100 < len(fake.requests) <= 100 * 1.1 + 1


async def test_optional_head_is_requested_once(fake: FakeS3) -> None:
    store = originals(fake)
    known = await store.head("a")
    fake.requests.clear()
    fake.fault = lambda _request: Fault(status=503, code="SlowDown")
    for _ in range(20):
        assert (await store.head("a")).version == known.version
    with pytest.raises(StoreUnreachable):
        await store.head("another")  # the breaker has not counted the twenty failures
    requested = collections.Counter(one.key for one in fake.requests)
    assert 1 <= requested["bucket/originals/a"] <= 20
    assert requested["bucket/originals/another"] == TRIES


async def test_silent_store_is_unreachable_at_the_deadline(fake: FakeS3) -> None:
    fake.fault = lambda _request: Fault(hangs=True)
    store = originals(fake, store_deadline_s=0.1)
    for request in (store.head("a"), store.delete("a"), upload(store, b"new")):
        with pytest.raises(StoreUnreachable, match="deadline"):
            await request


async def test_store_that_refuses_connections_is_unreachable(fake: FakeS3) -> None:
    fake.port = 1
    with pytest.raises(StoreUnreachable):
        await originals(fake).head("a")


REFUSALS = {
    "forbidden": Fault(status=403, code="AccessDenied"),
    "unauthenticated": Fault(status=401),
    "bad request": Fault(status=400, code="AuthorizationHeaderMalformed"),
    "another region": Fault(status=301, code="PermanentRedirect"),
}


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
async def test_refusal_is_not_retried(fake: FakeS3, fault: Fault) -> None:
    fake.fault = lambda _request: fault
    store = originals(fake)
    for request in (store.head("a"), store.open("a"), upload(store, b"new")):
        before = _signed_requests(fake)
        with pytest.raises(StoreRefused):
            await request
        assert _signed_requests(fake) == before + 1


def _signed_requests(fake: FakeS3) -> int:
    """The requests without the one, unsigned, for the store's time."""
    return sum("authorization" in one.headers for one in fake.requests)


# incomplete and altered objects


async def test_broken_download_is_resumed(fake: FakeS3) -> None:
    fake.fault = fail_first(1, Fault(cut=0.5))
    assert await content_of(originals(fake)) == CONTENT
    assert [one.headers.get("range") for one in fake.requests] == [None, "bytes=150000-299999"]


async def test_download_that_always_breaks_is_an_error(fake: FakeS3) -> None:
    fake.fault = lambda _request: Fault(cut=0.5)
    with pytest.raises(StoreUnreachable):
        await originals(fake).open("a")
    assert len(fake.requests) <= TRIES + 1


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


ALTERATIONS: dict[str, Callable[[bytes], bytes]] = {
    "one bit": flipped,
    "short": lambda content: content[:-1],
    "long": lambda content: content + b"\0",
    "nothing": lambda _content: b"",
}


@pytest.mark.parametrize("altered", ALTERATIONS.values(), ids=ALTERATIONS)
async def test_altered_original_is_downloaded_again(fake: FakeS3, altered: Callable[[bytes], bytes]) -> None:
    fake.fault = fail_first(1, Fault(altered=altered))
    assert await content_of(originals(fake)) == CONTENT


@pytest.mark.parametrize("has_md5", [True, False])
@pytest.mark.parametrize("altered", ALTERATIONS.values(), ids=ALTERATIONS)
async def test_original_altered_twice_is_an_error(
    fake: FakeS3, altered: Callable[[bytes], bytes], *, has_md5: bool
) -> None:
    """Also if another program uploaded it, and only its ETag is its MD5."""
    if not has_md5:
        fake.put("originals/a", CONTENT)
    numbers = itertools.count()
    fake.fault = lambda request: (
        Fault(altered=lambda body: altered(b"%d" % next(numbers) + body[1:]))
        if request.method == "GET"
        else None
    )
    with pytest.raises(StoreCorrupt):
        await originals(fake).open("a")
    assert len(fake.requests) <= 3


async def test_original_truncated_twice_alike_is_an_error(fake: FakeS3) -> None:
    fake.put("originals/a", CONTENT)
    fake.fault = lambda request: Fault(altered=ALTERATIONS["short"]) if request.method == "GET" else None
    with pytest.raises(StoreCorrupt):
        await originals(fake).open("a")


def unnamed_files() -> int:
    """The number of open files without a name."""
    count = 0
    for one in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):
            status = os.fstat(int(one.name))
            count += stat.S_ISREG(status.st_mode) and not status.st_nlink
    return count


async def test_failed_open_leaves_no_descriptor_open(fake: FakeS3) -> None:
    fake.put("originals/a", CONTENT)
    gc.collect()  # the files of earlier tests
    before = unnamed_files()
    store = originals(fake)
    for fault in (
        lambda request: Fault(altered=ALTERATIONS["short"]) if request.method == "GET" else None,
        lambda request: Fault(altered=ALTERATIONS["short"]) if request.method == "GET" else Fault(status=403),
        lambda _request: Fault(cut=0.5),
    ):
        fake.fault = fault
        with pytest.raises(GalerlyError):
            await store.open("a")
        assert unnamed_files() == before
    fake.fault = lambda _request: None
    with await store.open("a"):
        assert unnamed_files() == before + 1
    assert unnamed_files() == before


async def test_failed_request_keeps_nothing_in_memory() -> None:
    """The body of an upload is an open file: it must not stay open until the next garbage collection."""

    class Content:
        """An object that can have a weak reference."""

    content = Content()
    reference = weakref.ref(content)

    async def request(content: Content = content) -> None:
        raise StoreUnreachable(str(content))

    gc.disable()
    try:
        with pytest.raises(StoreUnreachable) as raised:
            await RetryBudget().run(request)
        del request, content, raised
        assert reference() is None
    finally:
        gc.enable()


async def test_etag_that_is_not_an_md5_is_accepted(fake: FakeS3) -> None:
    """With SSE-KMS and SSE-C an ETag only looks like an MD5: two equal downloads are accepted."""
    fake.put("originals/a", CONTENT)
    fake.objects["bucket/originals/a"].headers["etag"] = f'"{"0" * 32}"'
    assert await content_of(originals(fake)) == CONTENT
    assert fake.request_count("GET") == 2
    fake.objects["bucket/originals/a"].headers["etag"] = f'"{"0" * 32}-3"'  # uploaded in parts
    assert await content_of(originals(fake)) == CONTENT
    assert fake.request_count("GET") == 3


async def test_original_above_the_limit_is_not_downloaded(fake: FakeS3) -> None:
    with pytest.raises(TooManyBytes):
        await originals(fake, max_original_bytes=len(CONTENT) - 1).open("a")
    assert await content_of(originals(fake, max_original_bytes=len(CONTENT))) == CONTENT


async def test_read_returns_bytes_of_the_requested_version(fake: FakeS3) -> None:
    store = originals(fake)
    head = await store.head("a")
    got = b"".join([chunk async for chunk in store.read("a", head.version, 1000, 250_000)])
    assert got == CONTENT[1000:251_000]
    fake.put("originals/a", CONTENT[::-1])
    with pytest.raises(Unsettled):
        await anext(store.read("a", head.version, 1000, 250_000))


async def test_large_read_is_split_and_stops_at_a_change(fake: FakeS3) -> None:
    content = os.urandom(9 << 20)
    fake.put("originals/a", content)
    store = originals(fake)
    version = (await store.head("a")).version
    parts = [part async for part in store.read("a", version, 0, len(content))]
    assert b"".join(parts) == content
    assert len(parts) == 3
    reading = store.read("a", version, 0, len(content))
    assert await anext(reading) == parts[0]
    fake.put("originals/a", content[::-1])
    with pytest.raises(Unsettled):
        await anext(reading)


@pytest.mark.parametrize("altered", ALTERATIONS.values(), ids=ALTERATIONS)
async def test_altered_rendition_is_a_miss(fake: FakeS3, altered: Callable[[bytes], bytes]) -> None:
    store = renditions(fake)
    await store.put(make_rendition("a"))
    fake.fault = lambda _request: Fault(altered=altered)
    assert await store.get("a", TARGET) is None
    fake.fault = lambda _request: None
    assert await store.get("a", TARGET) == make_rendition("a")


async def test_record_requests_no_body(fake: FakeS3) -> None:
    store = renditions(fake)
    await store.put(make_rendition("a", CONTENT))
    assert await store.record("a", TARGET) == make_rendition("a", CONTENT).record
    assert (fake.request_count("HEAD"), fake.request_count("GET")) == (1, 0)


# conflicting puts


async def test_retried_create_accepts_its_own_first_attempt(fake: FakeS3) -> None:
    fake.objects.clear()
    fake.fault = fail_first(1, Fault(status=500, done=True))
    assert not await upload(originals(fake), CONTENT)
    assert fake.objects["bucket/originals/a"].body == CONTENT
    assert fake.request_count("PUT") == 2


async def test_retried_conditional_deletion_finds_that_its_first_attempt_was_executed(fake: FakeS3) -> None:
    fake.fault = fail_first(1, Fault(status=500, done=True))
    assert await originals(fake).delete_unchanged("a", MD5)
    assert (fake.request_count("DELETE"), list(fake.objects)) == (2, [])
    assert not await originals(fake).delete_unchanged("a", MD5)


async def test_retried_conditional_deletion_leaves_other_bytes(fake: FakeS3) -> None:
    fake.fault = fail_first(1, Fault(status=500))
    assert not await originals(fake).delete_unchanged("a", "another")
    assert fake.objects["bucket/originals/a"].body == CONTENT


async def test_create_over_other_bytes_is_refused(fake: FakeS3) -> None:
    with pytest.raises(OriginalExists):
        await upload(originals(fake), b"another")
    assert fake.objects["bucket/originals/a"].body == CONTENT


async def test_create_whose_refusal_was_lost_is_refused(fake: FakeS3) -> None:
    """A server closes the connection once it has refused a long body, and may not deliver its response."""
    fake.fault = lambda request: Fault(resets=True) if request.method == "PUT" else None
    with pytest.raises(OriginalExists):
        await upload(originals(fake), bytes(1024 * 1024))


async def test_create_during_another_create_is_retried(fake: FakeS3) -> None:
    fake.objects.clear()
    fake.fault = fail_first(1, Fault(status=409, code="ConditionalRequestConflict"))
    assert await upload(originals(fake), CONTENT)


async def test_create_that_always_meets_another_is_unsettled(fake: FakeS3) -> None:
    fake.objects.clear()
    fake.fault = lambda request: Fault(status=409) if request.method == "PUT" else None
    for replaces in (False, True):
        with pytest.raises(Unsettled):
            await upload(originals(fake), CONTENT, replaces=replaces)


@pytest.mark.parametrize("replaces", [False, True])
async def test_key_that_cannot_be_held_at_first_is_retried(fake: FakeS3, *, replaces: bool) -> None:
    """Servers that store objects as files (versitygw) answer this while they remove an empty folder."""
    fake.objects.clear()
    fake.fault = fail_first(1, Fault(status=409, code="ExistingObjectIsDirectory"))
    assert await upload(originals(fake), CONTENT, replaces=replaces)


async def test_key_that_cannot_be_held_is_refused(fake: FakeS3) -> None:
    fake.objects.clear()
    fake.fault = lambda _request: Fault(status=409, code="ExistingObjectIsDirectory")
    with pytest.raises(KeyNotHeld):
        await upload(originals(fake), CONTENT)


async def test_put_into_a_deleted_bucket_is_refused(fake: FakeS3) -> None:
    fake.fault = lambda _request: Fault(status=404, code="NoSuchBucket")
    with pytest.raises(StoreRefused):
        await upload(originals(fake), CONTENT)
    with pytest.raises(StoreRefused):
        await renditions(fake).put(make_rendition("a"))


# circuit breaker


def test_breaker_opens_after_consecutive_failures_and_allows_one_probe_a_second() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock)
    for _ in range(4):
        breaker.record_failure()
    breaker.record_success()
    for _ in range(4):
        breaker.record_failure()
        assert breaker.allows_request()
    breaker.record_failure()
    assert breaker.is_open
    assert not breaker.allows_request()
    for _ in range(60):
        clock.now_s += 1.0
        assert [breaker.allows_request() for _ in range(10)] == [True] + [False] * 9
    breaker.record_failure()
    assert not breaker.allows_request()
    breaker.record_success()
    assert [breaker.allows_request() for _ in range(10)] == [True] * 10


async def test_failing_store_gets_no_requests_and_is_used_again_within_a_second(fake: FakeS3) -> None:
    clock = Clock()
    store = originals(fake, clock)
    fake.fault = lambda _request: Fault(status=503, code="SlowDown")
    for _ in range(5):
        with pytest.raises(StoreUnreachable):
            await store.head("a")
    before = len(fake.requests)
    answers = await asyncio.gather(*(store.head("a") for _ in range(500)), return_exceptions=True)
    assert {type(one) for one in answers} == {StoreBusy}
    assert len(fake.requests) == before
    for second in range(1, 61):
        clock.now_s += 1.0
        await asyncio.gather(*(store.open(f"{number}") for number in range(100)), return_exceptions=True)
        assert len(fake.requests) == before + TRIES * second
    fake.fault = lambda _request: None
    clock.now_s += 1.0
    assert await content_of(store) == CONTENT


async def test_responses_404_and_403_do_not_open_the_breaker(fake: FakeS3) -> None:
    store = originals(fake)
    for _ in range(20):
        with pytest.raises(NoSuchOriginal):
            await store.head("none")
    fake.fault = lambda _request: Fault(status=403)
    for _ in range(20):
        with pytest.raises(StoreRefused):
            await store.head("a")


# clocks

DATE, DATE_S = "Tue, 01 Dec 2026 00:00:00 GMT", 1_796_083_200


@pytest.mark.parametrize(
    ("date", "ahead_s", "text"),
    [
        (DATE, 1200, "this machine's clock is 20 minutes ahead of the store's"),
        (DATE, -1200, "this machine's clock is 20 minutes behind the store's"),
        (DATE, 0, ""),
        (DATE, 299, ""),
        (DATE, -299, ""),
        ("", 1200, ""),
        ("yesterday", 1200, ""),
    ],
)
async def test_refusal_names_the_clock_if_the_stores_date_shows_it(
    fake: FakeS3, caplog: pytest.LogCaptureFixture, date: str, ahead_s: float, text: str
) -> None:
    fake.fault = lambda _request: Fault(status=403, code="AccessDenied", date=date)
    bucket = Bucket(
        "s3://bucket/originals", fake.settings(), lambda: 0.0, Counted(), lambda: DATE_S + ahead_s
    )
    for _ in range(3):
        with pytest.raises(StoreRefused) as caught:
            await bucket.head("a")
        assert isinstance(caught.value, ClockSkewed) == bool(text)
        assert text in caught.value.detail
    warnings = [one.getMessage() for one in caplog.records if one.name.startswith("galerly_cdn")]
    assert len(warnings) == bool(text)
    assert all(text in one for one in warnings)
    assert len(fake.requests) == 4  # the store is asked for its time once a minute


# check at the start


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=404, code="NoSuchBucket"), "s3://bucket/originals: there is no such bucket"),
        (Fault(status=404, code="ContainerNotFound"), "there is no such bucket"),
        (Fault(status=403, code="AccessDenied"), "AccessDenied"),
        (Fault(status=403, code="SignatureDoesNotMatch"), "SignatureDoesNotMatch"),
        (Fault(status=301, code="PermanentRedirect"), "incorrectly configured region"),
    ],
)
async def test_lasting_fault_at_the_start_is_a_settings_error(
    fake: FakeS3, fault: Fault, message: str
) -> None:
    fake.fault = lambda _request: fault
    bucket = Bucket("s3://bucket/originals", fake.settings(), lambda: 0.0, Counted())
    with pytest.raises(SettingsError, match=message) as caught:
        await bucket.check()
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]


async def test_check_passes_for_a_reachable_store_and_is_unreachable_for_a_failing_one(fake: FakeS3) -> None:
    bucket = Bucket("s3://bucket/originals", fake.settings(), lambda: 0.0, Counted())
    await bucket.check()
    fake.fault = lambda _request: Fault(status=503)
    with pytest.raises(StoreUnreachable):
        await bucket.check()


@pytest.mark.parametrize("address", ["az://container", "az://account/container"])
def test_incomplete_address_is_a_settings_error(address: str) -> None:
    with pytest.raises(SettingsError, match="Account must be specified"):
        Bucket(address, FakeS3().settings(), lambda: 0.0, Counted())


# redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_to_http_is_not_followed(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The clouds' metadata services and other machines' ports are reached by http."""
    files = tls_certificates.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
    async with fake_s3(files) as redirecting:
        redirecting.put("originals/a", CONTENT, md5=MD5)
        store = originals(redirecting)
        assert await content_of(store) == CONTENT
        target = f"http://127.0.0.1:{fake.port}/bucket/originals/a"
        redirecting.fault = lambda _request: Fault(status=status, location=target)
        for request in (store.head("a"), store.open("a"), store.delete("a"), upload(store, b"new")):
            with pytest.raises(StoreRefused):
                await request
    assert fake.connections == 0
