"""Compares a CDN with a dictionary under random events: no picture is ever wrong or outdated.

The stores are real. The renderer puts the bytes that it read into the picture, so that a picture shows which
original it was made from. Add a new store to `STORES`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from unittest import mock
from urllib.parse import quote

import obstore
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from obstore.exceptions import GenericError, PermissionDeniedError

from galerly_cdn.app.renderer import RenderingStores
from galerly_cdn.app.server import Cdn
from galerly_cdn.app.stores import Stores
from galerly_cdn.clock import Clock
from galerly_cdn.errors import (
    NoSuchOriginal,
    OriginalExists,
    StoreRefused,
    StoreUnreachable,
    Undecodable,
    Unsettled,
    WorkerDied,
)
from galerly_cdn.http.urls import checked_key
from galerly_cdn.model import Format, Job, Rendered, Target, ignore_facts
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.uploads import WritableFolderOriginals
from galerly_cdn.telemetry import Counters, Telemetry
from tests.support import exhaustive
from tests.support.folder_library import ask, stream
from tests.support.in_memory_cdn import FACTS
from tests.support.rendition_folders import open_folder
from tests.support.s3_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from galerly_cdn.library import StoreLibrary
    from galerly_cdn.model import FactRecord, Facts, Learn
    from galerly_cdn.render.pool.pool import WorkerPool
    from galerly_cdn.store.interfaces import Renditions, WritableOriginals
    from tests.support.in_memory_cdn import Answer
    from tests.support.s3_servers import Objects, S3Server

KEYS = st.sampled_from(["g/a.jpg", "h/é #1.jpg"])
PHOTOGRAPHS = st.sampled_from(
    [b"photograph %d" % number for number in range(4)] + [b"photograph, a longer one"]
)
WANTED = st.sampled_from(["tiny", "tiny.webp", "small.jpeg"])
STEPS = 40
SIZES = ("tiny 150x150 jpeg=85 webp=86", "small 400x400 jpeg=85")


class StoreUnderTest(Protocol):
    """The stores of originals and renditions, their faults, and changes by other programs."""

    visible_after_s: float
    """How long a change by another program may go unnoticed."""

    def open(
        self, clock: Callable[[], float]
    ) -> AbstractAsyncContextManager[tuple[WritableOriginals, Renditions]]:
        """Opens the stores, as a server does at its start. `clock` is its monotonic clock."""
        ...

    def failing(self, fault: int) -> AbstractContextManager[None]:
        """Applies one of the store's faults during the context."""
        ...

    async def change(self, key: str, content: bytes | None) -> None:
        """Another program stores an original, or deletes it if `content` is None."""
        ...


class FolderUnderTest:
    visible_after_s = 0.0
    FAULTS = (
        ("open", errno.EIO),
        ("fsync", errno.EIO),
        ("write", errno.ENOSPC),
        ("link", errno.ENOSPC),
        ("rename", errno.EIO),
        ("unlink", errno.EACCES),
        ("mkdir", errno.ENOSPC),
        ("lstat", errno.EIO),
    )

    def __init__(self, root: Path) -> None:
        self.root = root / "originals"
        self.renditions = root / "resized"
        self.root.mkdir()

    @asynccontextmanager
    async def open(self, clock: Callable[[], float]) -> AsyncIterator[tuple[WritableOriginals, Renditions]]:
        del clock  # a folder caches nothing for a time
        async with open_folder(self.renditions, now_s=0) as renditions:
            yield WritableFolderOriginals(self.root, checked_key, now=time.time), renditions

    @contextmanager
    def failing(self, fault: int) -> Iterator[None]:
        name, number = self.FAULTS[fault % len(self.FAULTS)]
        with mock.patch.object(os, name, side_effect=OSError(number, os.strerror(number))):
            yield

    async def change(self, key: str, content: bytes | None) -> None:
        """Written in place, as by an editor that does not rename."""
        path = self.root / key
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


class RemoteUnderTest:
    """A bucket. Requests wait for a late response here; other tests cover that."""

    visible_after_s = 1.0
    FAULTS = (
        ("head_async", GenericError("503 Service Unavailable"), False),
        ("get_async", GenericError("503 Service Unavailable"), False),
        ("get_async", PermissionDeniedError("403 Forbidden"), False),
        ("put_async", GenericError("503 SlowDown"), False),
        ("put_async", GenericError("connection reset"), True),
        ("put_async", PermissionDeniedError("403 Forbidden"), False),
        ("delete_async", GenericError("503 Service Unavailable"), False),
        ("delete_async", GenericError("connection reset"), True),
    )
    """The call that fails, its error, and whether the request is executed although its response is lost."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    @asynccontextmanager
    async def open(self, clock: Callable[[], float]) -> AsyncIterator[tuple[WritableOriginals, Renditions]]:
        originals = self.objects.originals(clock, store_fresh_s=self.visible_after_s)
        yield originals, self.objects.renditions(clock)

    @contextmanager
    def failing(self, fault: int) -> Iterator[None]:
        name, error, is_done = self.FAULTS[fault % len(self.FAULTS)]
        real = getattr(obstore, name)

        async def fail(*arguments: object, **options: object) -> None:
            if is_done:
                await real(*arguments, **options)
            raise error

        with mock.patch.object(obstore, name, fail):
            yield

    async def change(self, key: str, content: bytes | None) -> None:
        if content is None:
            self.objects.remove(f"originals/{key}")
        else:
            self.objects.put(f"originals/{key}", content)


STORES = ["folder", *SERVERS]
EXAMPLES = {
    "folder": exhaustive.count(40, sample=10),
    "moto": exhaustive.count(12, sample=3),
    "versitygw": exhaustive.count(12, sample=3),
}
"""Fewer for the remote stores, which are far slower."""


class Renderer:
    """Fakes worker processes that put the bytes they read into the picture, and that may die."""

    def __init__(self) -> None:
        self.deaths = 0

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        del token
        self._read(fd, length_bytes)
        return FACTS

    @asynccontextmanager
    async def admit(self, length_bytes: int, job: Job, token: str) -> AsyncIterator[Renderer]:
        del length_bytes, job, token
        yield self

    async def render(
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
    ) -> tuple[Rendered, bytes]:
        del token, known
        content = self._read(fd, length_bytes)
        learn(FACTS)
        self._maybe_die()
        return rendered(content, job.pictures[0].target)

    async def warm(
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        del token, known
        content = self._read(fd, length_bytes)
        learn(FACTS)
        for one in job.pictures:
            self._maybe_die()
            yield rendered(content, one.target)

    def _maybe_die(self) -> None:
        if self.deaths:
            self.deaths -= 1
            raise WorkerDied

    @staticmethod
    def _read(fd: int, length_bytes: int) -> bytes:
        content = os.pread(fd, 1000, 0)
        if len(content) != length_bytes:
            raise Unsettled
        if not content.startswith(b"photograph"):
            raise Undecodable
        return content


def picture(content: bytes, target: Target) -> bytes:
    """The picture; every original's own format is JPEG, so the two targets of it have one picture."""
    return b"%b at %b" % (content, str(Target(target.size, target.format or Format.JPEG)).encode())


def rendered(content: bytes, target: Target) -> tuple[Rendered, bytes]:
    body = picture(content, target)
    form = target.format or Format.JPEG
    return Rendered(target, form, 60, 40, len(body), hashlib.md5(body).hexdigest()), body


class Photographs(RuleBasedStateMachine):
    """`model` holds the originals; `late` the former ones that may still be seen, and until when."""

    tested: StoreUnderTest

    def __init__(self, tested: StoreUnderTest) -> None:
        super().__init__()
        self.tested = tested
        self.now_s = 1000.0
        self.model: dict[str, bytes | None] = {}
        self.late: list[tuple[str, bytes | None, float]] = []
        self.runner = asyncio.Runner()
        self.parts = AsyncExitStack()
        self.renderer = Renderer()

    def clock(self) -> float:
        """A clock on which no two events have the same time."""
        self.now_s += 1e-6
        return self.now_s

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - any result
        return self.runner.run(work)

    @initialize(memory_cache_bytes=st.sampled_from([0, 1 << 20]))
    def start_cdn(self, memory_cache_bytes: int) -> None:
        self.settings = Settings(
            sizes=SIZES,
            access_log=False,
            memory_cache_bytes=memory_cache_bytes,
            misses_per_minute=0,
            misses_per_minute_per_client=0,
        )
        self.run(self.start())

    async def start(self) -> None:
        self.originals, self.renditions = await self.parts.enter_async_context(self.tested.open(self.clock))
        stores = Stores(
            self.settings,
            Telemetry(Counters(), None),
            clock=Clock(wall=time.time, monotonic=self.clock),
            originals=self.originals,
            renditions=self.renditions,
        )
        self.cdn = Cdn(RenderingStores(stores, cast("WorkerPool", self.renderer), libvips="8.18", formats=()))

    @property
    def targets(self) -> dict[str, Target]:
        return {str(one): one for one in self.cdn.rendering.listed.recipes}

    @property
    def archive(self) -> StoreLibrary:
        return self.cdn.library

    def teardown(self) -> None:
        self.run(self.parts.aclose())
        self.runner.close()

    # the application's calls

    async def upload(self, key: str, content: bytes, *, replaces: bool) -> str:
        accepted = await self.archive.upload(key, stream([content[:4], content[4:]]), replaces=replaces)
        return accepted.outcome

    @rule(key=KEYS, content=PHOTOGRAPHS, wanted=WANTED)
    def create(self, key: str, content: bytes, wanted: str) -> None:
        existing = self.model.get(key)
        try:
            outcome = self.run(self.upload(key, content, replaces=False))
        except OriginalExists:
            assert existing not in {None, content}
        else:
            assert outcome == ("created" if existing is None else "unchanged")
            assert existing in {None, content}
            self.record_change(key, content)
        self.get_picture(key, wanted)

    @rule(key=KEYS, content=PHOTOGRAPHS, wanted=WANTED)
    def replace(self, key: str, content: bytes, wanted: str) -> None:
        self.get_picture(key, wanted)
        outcome = self.run(self.upload(key, content, replaces=True))
        assert outcome == ("created" if self.model.get(key) is None else "replaced")
        self.record_change(key, content)
        self.get_picture(key, wanted)

    @rule(key=KEYS, replaces=st.booleans())
    def upload_a_file_that_is_not_a_photograph(self, key: str, *, replaces: bool) -> None:
        with pytest.raises(Undecodable):
            self.run(self.upload(key, b"a letter", replaces=replaces))

    @rule(key=KEYS, wanted=WANTED)
    def delete(self, key: str, wanted: str) -> None:
        deleted = self.run(self.archive.delete(key))
        assert deleted.existed == (self.model.get(key) is not None)
        self.record_change(key, None)
        self.get_picture(key, wanted)

    @rule(key=KEYS)
    def purge(self, key: str) -> None:
        self.run(self.archive.purge(key))
        assert self.run(self.archive.purge(key)).removed == ()

    def record_change(self, key: str, content: bytes | None) -> None:
        """Record a change that this server made: it is visible at once."""
        self.model[key] = content
        self.late = [one for one in self.late if one[0] != key]

    # the viewers' requests

    def allowed_contents(self, key: str, *, is_stale: bool = False) -> set[bytes | None]:
        """The original that there is, and former ones that a response may still show.

        Those are the ones whose change may still go unnoticed; for a response marked as stale, all of them.
        """
        late = {
            content
            for name, content, until_s in self.late
            if name == key and (is_stale or self.now_s < until_s)
        }
        return {self.model.get(key)} | late

    async def get(self, key: str, wanted: str) -> Answer:
        return await ask(self.cdn, f"/resize/{wanted}/{quote(key)}")

    def check_answer(self, key: str, wanted: str, answer: Answer, *failures: int) -> None:
        """Asserts that it is a picture of an allowed original, a correct 404 or one of `failures`."""
        if answer.status in failures:
            return
        allowed_contents = self.allowed_contents(
            key, is_stale="ttl=-" in answer.headers.get("cache-status", "")
        )
        if answer.status == 404:
            assert None in allowed_contents, "the original exists"
            return
        assert answer.status == 200, answer
        expected = {
            picture(content, self.target_of(wanted)) for content in allowed_contents if content is not None
        }
        assert answer.body in expected, f"{answer.body!r} is not in {expected}"

    def target_of(self, wanted: str) -> Target:
        name, _, form = wanted.partition(".")
        size = next(one.size for one in self.settings.size_rules if one.name == name)
        return Target(size, Format(form) if form else None)

    @rule(key=KEYS, wanted=WANTED)
    def get_picture(self, key: str, wanted: str) -> None:
        self.check_answer(key, wanted, self.run(self.get(key, wanted)))

    @rule(key=KEYS, several=st.lists(WANTED, min_size=1, max_size=6), content=PHOTOGRAPHS)
    def get_pictures_during_a_replace(self, key: str, several: list[str], content: bytes) -> None:
        """During the replace either original is correct, afterwards only the new one."""

        async def both() -> list[Answer]:
            requests = [asyncio.create_task(self.get(key, wanted)) for wanted in several]
            await self.upload(key, content, replaces=True)
            return await asyncio.gather(*requests)

        self.late.append((key, self.model.get(key), self.now_s + 1))
        self.model[key] = content
        answers = self.run(both())
        for wanted, answer in zip(several, answers, strict=True):
            self.check_answer(key, wanted, answer)
        self.record_change(key, content)
        for wanted in several:
            self.check_answer(key, wanted, self.run(self.get(key, wanted)))

    @rule(key=KEYS)
    def inspect(self, key: str) -> None:
        """An inspection reads the store itself, not a cache."""
        content = self.model.get(key)
        if content is None:
            with pytest.raises(NoSuchOriginal):
                self.run(self.archive.inspect(key))
            return
        inspection = self.run(self.archive.inspect(key))
        assert inspection.length_bytes == len(content)
        for one in inspection.renditions:
            found = self.run(self.renditions.get(key, self.targets[one.target]))
            assert (found.body == picture(content, found.record.target)) or not one.is_current

    @rule(key=KEYS)
    def warm(self, key: str) -> None:
        """Afterwards every picture of the warmed sizes is stored and current."""
        content = self.model.get(key)

        async def warm() -> list[str]:
            return [str(one.target) async for one in self.archive.warm(key)]

        if content is None:
            with pytest.raises(NoSuchOriginal):
                self.run(warm())
            return
        warmed = self.run(warm())
        assert sorted(warmed) == sorted(map(str, self.settings.warm_targets))
        inspection = self.run(self.archive.inspect(key))
        assert set(warmed) <= {one.target for one in inspection.renditions if one.is_current}

    @invariant()
    def list_equals_the_model(self) -> None:
        page = self.run(self.archive.list())
        assert [one.key for one in page.originals] == sorted(
            (key for key, content in self.model.items() if content is not None), key=str.encode
        )

    # faults, restarts and changes by other programs

    @rule(key=KEYS, wanted=WANTED)
    def worker_dies_during_a_render(self, key: str, wanted: str) -> None:
        self.renderer.deaths = 1
        self.check_answer(key, wanted, self.run(self.get(key, wanted)), 504)
        self.renderer.deaths = 0
        self.check_answer(key, wanted, self.run(self.get(key, wanted)))

    @rule(key=KEYS, content=PHOTOGRAPHS)
    def worker_dies_during_an_upload(self, key: str, content: bytes) -> None:
        self.renderer.deaths = 1
        with pytest.raises(WorkerDied):
            self.run(self.upload(key, content, replaces=True))

    @rule(is_graceful=st.booleans())
    def restart(self, *, is_graceful: bool) -> None:
        if is_graceful:
            self.run(self.parts.aclose())
        self.run(self.start())

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(
        key=KEYS,
        content=PHOTOGRAPHS | st.none(),
        wanted=WANTED,
        later_s=st.sampled_from([0.0, 0.5, 0.99, 1.0, 3.0]),
    )
    def change_by_another_program(self, key: str, content: bytes | None, wanted: str, later_s: float) -> None:
        self.get_picture(key, wanted)
        self.run(self.tested.change(key, content))
        self.late.append((key, self.model.get(key), self.now_s + self.tested.visible_after_s))
        self.model[key] = content
        self.get_picture(key, wanted)
        self.now_s += later_s
        self.get_picture(key, wanted)

    @rule(key=KEYS, wanted=WANTED, fault=st.integers(0, 7))
    def get_picture_while_the_store_fails(self, key: str, wanted: str, fault: int) -> None:
        with self.tested.failing(fault):
            answer = self.run(self.get(key, wanted))
        self.check_answer(key, wanted, answer, 502, 503)
        self.recover()

    @rule(key=KEYS, content=PHOTOGRAPHS | st.none(), fault=st.integers(0, 7), replaces=st.booleans())
    def change_while_the_store_fails(
        self, key: str, content: bytes | None, fault: int, *, replaces: bool
    ) -> None:
        """An acknowledged change is durable. One that failed was made or not; a later read shows which."""
        try:
            with self.tested.failing(fault):
                if content is None:
                    self.run(self.archive.delete(key))
                else:
                    self.run(self.upload(key, content, replaces=replaces))
        except OriginalExists:
            assert not replaces
            assert self.model.get(key) not in {None, content}
        except (StoreUnreachable, StoreRefused):
            self.recover()
            found = self.run(self.read(key))
            assert found in {content, self.model.get(key)}
            self.record_change(key, found)
        else:
            self.record_change(key, content)
        self.recover()

    def recover(self) -> None:
        """Let the circuit breaker close and the head cache wait for responses again."""
        self.now_s += 10
        self.run(self.read("g/none"))
        self.run(self.renditions.get("g/none", self.target_of("tiny")))

    async def read(self, key: str) -> bytes | None:
        """The original that the store holds now."""
        try:
            await self.originals.head(key, remembered=False)
            with await self.originals.open(key) as original:
                return os.pread(original.fd, 1000, 0)
        except NoSuchOriginal:
            return None


@pytest.mark.exhaustive
@pytest.mark.timeout(600)  # Hypothesis shortens a failing sequence before it reports it
@pytest.mark.parametrize("name", STORES)
def test_any_sequence_of_events_serves_no_wrong_and_no_outdated_picture(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("galerly_cdn.store.remote.head_cache._MAX_WAIT_S", 600.0)

    def tested() -> StoreUnderTest:
        if name == "folder":
            return FolderUnderTest(Path(tempfile.mkdtemp(dir=tmp_path)))
        server: S3Server = request.getfixturevalue(name)
        return RemoteUnderTest(server.bucket())

    class Machine(Photographs):
        def __init__(self) -> None:
            super().__init__(tested())

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=EXAMPLES[name], stateful_step_count=STEPS, deadline=None)
    )
