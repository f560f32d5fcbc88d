"""A remote store that fails: what is answered, and what it costs the store."""

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
    GalerlyError,
    KeyNotHeld,
    NoSuchOriginal,
    OriginalExists,
    SettingsError,
    StoreCorrupt,
    StoreRefused,
    StoreUnreachable,
    TooManyBytes,
    Unsettled,
)
from galerly_cdn.store.remote import bucket as bucket_module
from galerly_cdn.store.remote import resilience
from galerly_cdn.store.remote.bucket import Bucket
from galerly_cdn.store.remote.originals import RemoteOriginals
from galerly_cdn.store.remote.renditions import RemoteRenditions
from galerly_cdn.store.remote.resilience import CircuitBreaker, RetryBudget
from tests.support import tls_certificates
from tests.support.fake_s3 import FakeS3, Fault, Request, fake_s3
from tests.support.rendition_folders import TARGET, Counted, made

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.store.interfaces import WritableOriginals

CONTENT = os.urandom(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
TRIES = 4
"""How often a question is asked before it has failed."""


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(resilience, "_BACKOFF_S", 0.001)


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with fake_s3() as server:
        server.put("originals/a", CONTENT, md5=MD5)
        yield server


def originals(fake: FakeS3, clock: Callable[[], float] = lambda: 0.0, **settings: object) -> RemoteOriginals:
    told = fake.settings(store_fresh_s=0, **settings)
    return RemoteOriginals(Bucket("s3://bucket/originals", told, clock, Counted()), told, clock)


def renditions(fake: FakeS3) -> RemoteRenditions:
    count = Counted()
    return RemoteRenditions(Bucket("s3://bucket/resized", fake.settings(), lambda: 0.0, count), count)


def first(times: int, fault: Fault) -> Callable[[Request], Fault | None]:
    """The first requests go wrong, the others do not."""
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


# what passes

PASSING = {
    "internal error": Fault(status=500),
    "slow down": Fault(status=503, code="SlowDown"),
    "too many requests": Fault(status=429, code="TooManyRequests"),
    "reset": Fault(resets=True),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_what_passes_is_tried_again(fake: FakeS3, fault: Fault) -> None:
    fake.fault = first(TRIES - 1, fault)
    assert (await originals(fake).head("a")).length_bytes == len(CONTENT)
    fake.fault = first(TRIES - 1, fault)
    assert await content_of(originals(fake)) == CONTENT


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_what_does_not_pass_is_unreachable_after_a_few_tries(fake: FakeS3, fault: Fault) -> None:
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
        await renditions(fake).put(made("a"))


async def test_a_store_that_fails_half_the_time_is_asked_a_tenth_more_and_no_further(fake: FakeS3) -> None:
    """Beyond a reserve of fifty, that a few bad seconds may use up."""
    store = originals(fake)
    bad = itertools.cycle([Fault(status=503, code="SlowDown"), None])
    fake.fault = lambda _request: next(bad)
    for number in range(200):
        with contextlib.suppress(StoreUnreachable, NoSuchOriginal):
            await store.head(f"{number}")
        if number == 99:
            fake.requests.clear()
    assert 100 < len(fake.requests) <= 100 * 1.1 + 1


async def test_a_head_that_one_can_do_without_is_asked_once(fake: FakeS3) -> None:
    store = originals(fake)
    known = await store.head("a")
    fake.requests.clear()
    fake.fault = lambda _request: Fault(status=503, code="SlowDown")
    for _ in range(20):
        assert (await store.head("a")).version == known.version
    with pytest.raises(StoreUnreachable):
        await store.head("another")  # and the twenty failures are none of the breaker's
    asked = collections.Counter(one.key for one in fake.requests)
    assert 1 <= asked["bucket/originals/a"] <= 20
    assert asked["bucket/originals/another"] == TRIES


async def test_a_store_that_says_nothing_is_given_up_at_the_deadline(fake: FakeS3) -> None:
    fake.fault = lambda _request: Fault(hangs=True)
    store = originals(fake, store_deadline_s=0.1)
    for question in (store.head("a"), store.delete("a"), upload(store, b"new")):
        with pytest.raises(StoreUnreachable, match="late"):
            await question


async def test_a_store_that_is_not_there_is_unreachable(fake: FakeS3) -> None:
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
async def test_what_is_refused_is_not_asked_again(fake: FakeS3, fault: Fault) -> None:
    fake.fault = lambda _request: fault
    store = originals(fake)
    for question in (store.head("a"), store.open("a"), upload(store, b"new")):
        before = len(fake.requests)
        with pytest.raises(StoreRefused):
            await question
        assert len(fake.requests) == before + 1


# whole and unaltered


async def test_what_breaks_off_is_fetched_from_there_on(fake: FakeS3) -> None:
    fake.fault = first(1, Fault(cut=0.5))
    assert await content_of(originals(fake)) == CONTENT
    assert [one.headers.get("range") for one in fake.requests] == [None, "bytes=150000-299999"]


async def test_what_always_breaks_off_is_never_handed_out(fake: FakeS3) -> None:
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
async def test_an_altered_original_is_fetched_again(fake: FakeS3, altered: Callable[[bytes], bytes]) -> None:
    fake.fault = first(1, Fault(altered=altered))
    assert await content_of(originals(fake)) == CONTENT


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize("altered", ALTERATIONS.values(), ids=ALTERATIONS)
async def test_an_altered_original_is_never_handed_out(
    fake: FakeS3, altered: Callable[[bytes], bytes], *, is_ours: bool
) -> None:
    """Also if somebody else uploaded it, and its ETag alone says what it was."""
    if not is_ours:
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


async def test_what_is_cut_short_twice_alike_is_still_short(fake: FakeS3) -> None:
    fake.put("originals/a", CONTENT)
    fake.fault = lambda request: Fault(altered=ALTERATIONS["short"]) if request.method == "GET" else None
    with pytest.raises(StoreCorrupt):
        await originals(fake).open("a")


def nameless_files() -> int:
    """How many files are open that have no name any more."""
    count = 0
    for one in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):
            status = os.fstat(int(one.name))
            count += stat.S_ISREG(status.st_mode) and not status.st_nlink
    return count


async def test_what_is_not_handed_out_is_not_kept_open(fake: FakeS3) -> None:
    fake.put("originals/a", CONTENT)
    gc.collect()  # of the tests before
    before = nameless_files()
    store = originals(fake)
    for fault in (
        lambda request: Fault(altered=ALTERATIONS["short"]) if request.method == "GET" else None,
        lambda request: Fault(altered=ALTERATIONS["short"]) if request.method == "GET" else Fault(status=403),
        lambda _request: Fault(cut=0.5),
    ):
        fake.fault = fault
        with pytest.raises(GalerlyError):
            await store.open("a")
        assert nameless_files() == before
    fake.fault = lambda _request: None
    with await store.open("a"):
        assert nameless_files() == before + 1
    assert nameless_files() == before


async def test_a_question_that_failed_keeps_nothing_alive() -> None:
    """Not until the next garbage collection either: what is to be stored is an open file."""

    class Content:
        """What can be known to be gone."""

    content = Content()
    known = weakref.ref(content)

    async def ask(content: Content = content) -> None:
        raise StoreUnreachable(str(content))

    gc.disable()
    try:
        with pytest.raises(StoreUnreachable) as raised:
            await RetryBudget().run(ask)
        del ask, content, raised
        assert known() is None
    finally:
        gc.enable()


async def test_an_etag_that_is_no_md5_is_no_objection(fake: FakeS3) -> None:
    """SSE-KMS and SSE-C make such ETags, and nobody tells: the same bytes twice will do."""
    fake.put("originals/a", CONTENT)
    fake.objects["bucket/originals/a"].headers["etag"] = f'"{"0" * 32}"'
    assert await content_of(originals(fake)) == CONTENT
    assert fake.asked("GET") == 2
    fake.objects["bucket/originals/a"].headers["etag"] = f'"{"0" * 32}-3"'  # uploaded in parts
    assert await content_of(originals(fake)) == CONTENT
    assert fake.asked("GET") == 3


async def test_an_original_that_is_too_large_is_not_downloaded(fake: FakeS3) -> None:
    with pytest.raises(TooManyBytes):
        await originals(fake, max_original_bytes=len(CONTENT) - 1).open("a")
    assert await content_of(originals(fake, max_original_bytes=len(CONTENT))) == CONTENT


async def test_a_part_of_an_original_is_of_the_version_that_was_named(fake: FakeS3) -> None:
    store = originals(fake)
    head = await store.head("a")
    got = b"".join([chunk async for chunk in store.read("a", head.version, 1000, 250_000)])
    assert got == CONTENT[1000:251_000]
    fake.put("originals/a", CONTENT[::-1])
    with pytest.raises(Unsettled):
        await anext(store.read("a", head.version, 1000, 250_000))


async def test_a_large_part_comes_in_pieces_and_stops_where_it_changes(fake: FakeS3) -> None:
    content = os.urandom(9 << 20)
    fake.put("originals/a", content)
    store = originals(fake)
    version = (await store.head("a")).version
    pieces = [piece async for piece in store.read("a", version, 0, len(content))]
    assert b"".join(pieces) == content
    assert len(pieces) == 3
    reading = store.read("a", version, 0, len(content))
    assert await anext(reading) == pieces[0]
    fake.put("originals/a", content[::-1])
    with pytest.raises(Unsettled):
        await anext(reading)


@pytest.mark.parametrize("altered", ALTERATIONS.values(), ids=ALTERATIONS)
async def test_an_altered_rendition_is_a_miss(fake: FakeS3, altered: Callable[[bytes], bytes]) -> None:
    store = renditions(fake)
    await store.put(made("a"))
    fake.fault = lambda _request: Fault(altered=altered)
    assert await store.get("a", TARGET) is None
    fake.fault = lambda _request: None
    assert await store.get("a", TARGET) == made("a")


async def test_what_a_rendition_is_costs_no_body(fake: FakeS3) -> None:
    store = renditions(fake)
    await store.put(made("a", CONTENT))
    assert await store.record("a", TARGET) == made("a", CONTENT).record
    assert (fake.asked("HEAD"), fake.asked("GET")) == (1, 0)


# puts that conflict


async def test_a_create_that_was_tried_again_finds_its_own_first_try(fake: FakeS3) -> None:
    fake.objects.clear()
    fake.fault = first(1, Fault(status=500, done=True))
    assert not await upload(originals(fake), CONTENT)
    assert fake.objects["bucket/originals/a"].body == CONTENT
    assert fake.asked("PUT") == 2


async def test_a_create_that_meets_another_is_refused_and_changes_nothing(fake: FakeS3) -> None:
    with pytest.raises(OriginalExists):
        await upload(originals(fake), b"another")
    assert fake.objects["bucket/originals/a"].body == CONTENT


async def test_a_create_beside_one_under_way_is_tried_again(fake: FakeS3) -> None:
    fake.objects.clear()
    fake.fault = first(1, Fault(status=409, code="ConditionalRequestConflict"))
    assert await upload(originals(fake), CONTENT)


async def test_a_create_that_always_meets_one_under_way_is_unsettled(fake: FakeS3) -> None:
    fake.objects.clear()
    fake.fault = lambda request: Fault(status=409) if request.method == "PUT" else None
    for replaces in (False, True):
        with pytest.raises(Unsettled):
            await upload(originals(fake), CONTENT, replaces=replaces)


@pytest.mark.parametrize("replaces", [False, True])
async def test_a_key_that_cannot_be_held_for_a_moment_is_put_all_the_same(
    fake: FakeS3, *, replaces: bool
) -> None:
    """versitygw says so of a gallery that somebody is just emptying."""
    fake.objects.clear()
    fake.fault = first(1, Fault(status=409, code="ExistingObjectIsDirectory"))
    assert await upload(originals(fake), CONTENT, replaces=replaces)


async def test_a_key_that_cannot_be_held_is_refused(fake: FakeS3) -> None:
    fake.objects.clear()
    fake.fault = lambda _request: Fault(status=409, code="ExistingObjectIsDirectory")
    with pytest.raises(KeyNotHeld):
        await upload(originals(fake), CONTENT)


async def test_a_put_into_a_bucket_that_has_gone_is_refused(fake: FakeS3) -> None:
    fake.fault = lambda _request: Fault(status=404, code="NoSuchBucket")
    with pytest.raises(StoreRefused):
        await upload(originals(fake), CONTENT)
    with pytest.raises(StoreRefused):
        await renditions(fake).put(made("a"))


# a store that is down


def test_a_breaker_opens_after_failures_in_a_row_and_lets_a_probe_through_each_second() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock)
    for _ in range(4):
        breaker.failed()
    breaker.succeeded()
    for _ in range(4):
        breaker.failed()
        assert breaker.admits()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.admits()
    for _ in range(60):
        clock.now_s += 1.0
        assert [breaker.admits() for _ in range(10)] == [True] + [False] * 9
    breaker.failed()
    assert not breaker.admits()
    breaker.succeeded()
    assert [breaker.admits() for _ in range(10)] == [True] * 10


async def test_a_store_that_is_down_is_spared_and_found_again_within_a_second(fake: FakeS3) -> None:
    clock = Clock()
    store = originals(fake, clock)
    fake.fault = lambda _request: Fault(status=503, code="SlowDown")
    for _ in range(5):
        with pytest.raises(StoreUnreachable):
            await store.head("a")
    before = len(fake.requests)
    answers = await asyncio.gather(*(store.head("a") for _ in range(500)), return_exceptions=True)
    assert {type(one) for one in answers} == {StoreUnreachable}
    assert len(fake.requests) == before
    for second in range(1, 61):
        clock.now_s += 1.0
        await asyncio.gather(*(store.open(f"{number}") for number in range(100)), return_exceptions=True)
        assert len(fake.requests) == before + TRIES * second
    fake.fault = lambda _request: None
    clock.now_s += 1.0
    assert await content_of(store) == CONTENT


async def test_a_store_that_answers_404_or_403_is_not_down(fake: FakeS3) -> None:
    store = originals(fake)
    for _ in range(20):
        with pytest.raises(NoSuchOriginal):
            await store.head("none")
    fake.fault = lambda _request: Fault(status=403)
    for _ in range(20):
        with pytest.raises(StoreRefused):
            await store.head("a")


# at the start


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault(status=404, code="NoSuchBucket"), "s3://bucket/originals: there is no such bucket"),
        (Fault(status=404, code="ContainerNotFound"), "there is no such bucket"),
        (Fault(status=403, code="AccessDenied"), "AccessDenied"),
        (Fault(status=403, code="SignatureDoesNotMatch"), "SignatureDoesNotMatch"),
        (Fault(status=301, code="PermanentRedirect"), "incorrectly configured region"),
    ],
)
async def test_what_waiting_does_not_mend_is_told_at_the_start(
    fake: FakeS3, fault: Fault, sentence: str
) -> None:
    fake.fault = lambda _request: fault
    told = Bucket("s3://bucket/originals", fake.settings(), lambda: 0.0, Counted())
    with pytest.raises(SettingsError, match=sentence) as caught:
        await told.check()
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]


async def test_a_store_that_is_there_passes_the_check_and_one_that_is_down_may_come(fake: FakeS3) -> None:
    told = Bucket("s3://bucket/originals", fake.settings(), lambda: 0.0, Counted())
    await told.check()
    fake.fault = lambda _request: Fault(status=503)
    with pytest.raises(StoreUnreachable):
        await told.check()


@pytest.mark.parametrize("address", ["az://container", "az://account/container"])
def test_an_address_that_lacks_something_is_told_at_the_start(address: str) -> None:
    with pytest.raises(SettingsError, match="Account must be specified"):
        Bucket(address, FakeS3().settings(), lambda: 0.0, Counted())


# redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_store_does_not_lead_elsewhere(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """To where metadata services and other machines' ports answer: they speak http."""
    files = tls_certificates.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
    async with fake_s3(files) as leading:
        leading.put("originals/a", CONTENT, md5=MD5)
        store = originals(leading)
        assert await content_of(store) == CONTENT
        elsewhere = f"http://127.0.0.1:{fake.port}/bucket/originals/a"
        leading.fault = lambda _request: Fault(status=status, location=elsewhere)
        for question in (store.head("a"), store.open("a"), store.delete("a"), upload(store, b"new")):
            with pytest.raises(StoreRefused):
                await question
    assert fake.connections == 0
