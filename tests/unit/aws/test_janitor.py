"""Tests of the janitor: which renditions it deletes, and when it invalidates CloudFront."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.aws.deploy import invalidation
from galerly_cdn.aws.functions.composition import Stores
from galerly_cdn.aws.functions.janitor import Janitor
from galerly_cdn.aws_local.functions.runtime import TimedOut
from galerly_cdn.errors import StoreUnreachable
from galerly_cdn.http.urls import format_stored
from galerly_cdn.model import Format, facts_key
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.fake_s3 import Fault, fake_s3
from tests.support.in_memory_cdn import MemoryOriginals, MemoryRenditions, rendition
from tests.support.lambda_functions import Functions, change, function, request, running
from tests.support.render_jobs import target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tests.support.fake_s3 import Request
    from tests.support.s3_servers import Objects, S3Server

KEY = "g/a b.jpg"
OTHER = "g/a b.jpg.2"
AGAIN = "g/again.jpg"
PICTURES = [target("800x600"), target("800x600", Format.WEBP), target("150x150", Format.PNG)]


class JanitorRun:
    """A janitor that records the keys it would invalidate."""

    def __init__(self, functions: Functions, *, is_overwritten: bool = False) -> None:
        self.functions = functions
        self.invalidated: list[str] = []
        self.janitor = Janitor(
            functions.stores,
            invalidate=self.invalidated.append,
            is_overwritten=lambda _: is_overwritten,
            log=functions.log,
        )

    async def fill(self, key: str) -> None:
        for one in PICTURES:
            assert (await self.functions.ask(format_stored(one, key))).status == 200
        self.functions.lines.clear()

    async def handle(self, key: str, what: str = "Object Created", received: int = 1) -> None:
        await self.janitor.handle(change(f"originals/{key}", what=what, received=received))


def stored_names(bucket: Objects) -> set[str]:
    """The names of stored renditions and fact records."""
    return set(bucket.rendition_names())


def names_of(key: str) -> set[str]:
    return {f"resized/{facts_key(key)}", *(f"resized/{one.rendition_key(key)}" for one in PICTURES)}


async def test_janitor_after_replace_deletes_only_what_is_stale(bucket: Objects) -> None:
    run = JanitorRun(Functions(bucket.settings()))
    for key in (KEY, OTHER):
        bucket.put(f"originals/{key}", b"an original")
        await run.fill(key)
    bucket.put(f"originals/{KEY}", b"another original")
    current = (await run.functions.ask(format_stored(PICTURES[0], KEY))).body
    run.functions.lines.clear()
    await run.handle(KEY)
    kept = f"resized/{PICTURES[0].rendition_key(KEY)}"
    assert stored_names(bucket) == names_of(OTHER) | {kept, f"resized/{facts_key(KEY)}"}
    assert bucket.get(kept) == current
    assert run.invalidated == [KEY]
    assert run.functions.lines == [{"key": KEY, "deleted": 2, "invalidated": True}]


async def test_janitor_after_delete_deletes_renditions_and_record_and_invalidates(bucket: Objects) -> None:
    run = JanitorRun(Functions(bucket.settings()))
    bucket.put(f"originals/{KEY}", b"an original")
    await run.fill(KEY)
    bucket.remove(f"originals/{KEY}")
    await run.handle(KEY, what="Object Deleted")
    assert stored_names(bucket) == set()
    assert run.invalidated == [KEY]


async def test_janitor_foreign_object_is_deleted(bucket: Objects) -> None:
    run = JanitorRun(Functions(bucket.settings()))
    bucket.put(f"originals/{KEY}", b"an original")
    bucket.put(f"resized/{PICTURES[0].rendition_key(KEY)}", b"a foreign object")
    await run.handle(KEY)
    assert stored_names(bucket) == set()
    assert run.invalidated == [KEY]


@pytest.mark.parametrize(
    ("is_there", "what", "received", "is_overwritten", "is_invalidated"),
    [
        (True, "Object Created", 1, False, False),  # the usual upload: an invalidation would cost money
        (True, "Object Created", 1, True, True),  # a cache may still hold a rendition that S3 expired
        (True, "Object Created", 2, False, True),  # the first attempt may have deleted, and then failed
        (
            True,
            "Object Deleted",
            1,
            False,
            False,
        ),  # of an old version, or uploaded again, which is another event
        (True, "Object Deleted", 2, False, True),
        (False, "Object Created", 1, False, True),  # deleted after the upload
        (False, "Object Deleted", 1, False, True),
    ],
)
async def test_janitor_invalidates_only_if_caches_may_be_stale(
    *, is_there: bool, what: str, received: int, is_overwritten: bool, is_invalidated: bool
) -> None:
    async with fake_s3() as fake:
        run = JanitorRun(Functions(fake.settings()), is_overwritten=is_overwritten)
        if is_there:
            fake.put(f"originals/{KEY}", b"an original")
            await run.fill(KEY)
        await run.handle(KEY, what=what, received=received)
        assert run.invalidated == [KEY] * is_invalidated
        assert len(fake.rendition_names()) == len(names_of(KEY)) * is_there


async def test_janitor_failed_delete_raises_and_does_not_invalidate() -> None:
    async with fake_s3() as fake:
        run = JanitorRun(Functions(fake.settings(store_deadline_s=2)))
        fake.put(f"originals/{KEY}", b"an original")
        await run.fill(KEY)
        del fake.objects[f"bucket/originals/{KEY}"]
        fake.fault = lambda one: Fault(status=503) if one.method == "DELETE" else None
        with pytest.raises(StoreUnreachable):
            await run.handle(KEY, what="Object Deleted")
        assert run.invalidated == []


async def test_janitor_rendition_stored_by_dying_function_is_deleted() -> None:
    """A function that dies between its put and its second head leaves a rendition of the old original."""
    async with fake_s3() as fake:
        fake.put(f"originals/{KEY}", pictures.jpeg(300, 200))
        stored = f"bucket/resized/{PICTURES[0].rendition_key(KEY)}"

        def dying(one: Request) -> Fault | None:
            if (
                one.method == "PUT" and one.key == stored
            ):  # the original is replaced while the old one's rendition is being stored
                fake.put(f"originals/{KEY}", pictures.jpeg(200, 300))
            is_second_head = (
                one.method == "HEAD" and "originals/" in one.key and fake.request_count("PUT", stored)
            )
            return Fault(hangs=True) if is_second_head else None

        fake.fault = dying
        resizer = replaced(function("resizer", fake.settings()), timeout_s=2)
        async with running(resizer) as runtime:
            with pytest.raises(TimedOut):
                await runtime.invoke(request(format_stored(PICTURES[0], KEY)))
        assert stored in fake.objects
        fake.fault = lambda _: None
        run = JanitorRun(Functions(fake.settings()))
        await run.handle(KEY)
        assert stored not in fake.objects
        assert run.invalidated == [KEY]


async def test_janitor_needs_only_the_store_protocols() -> None:
    stores = Stores(
        settings=Settings(),
        originals=MemoryOriginals(),
        renditions=(renditions := MemoryRenditions()),
        bucket="",
        folder="originals/",
    )
    stored = await renditions.put(rendition(KEY))
    invalidated: list[str] = []
    janitor = Janitor(
        stores, invalidate=invalidated.append, is_overwritten=lambda _: False, log=lambda _: None
    )
    await janitor.handle(change(f"originals/{KEY}", what="Object Deleted"))
    assert await renditions.head(KEY, stored.record.target) is None
    assert invalidated == [KEY]


@contextmanager
def started_handler(
    bucket: Objects, patch: pytest.MonkeyPatch
) -> Iterator[tuple[Callable[[dict[str, Any]], None], list[Any]]]:
    """The handler as Lambda calls it, and the arguments of its invalidations."""
    invalidations: list[Any] = []
    patch.setattr(invalidation, "invalidate", lambda *arguments: invalidations.append(arguments))
    patch.delitem(sys.modules, "galerly_cdn.aws.functions.janitor_handler", raising=False)
    variables = {
        "GALERLY_STORE": f"s3://{bucket.name}",
        "GALERLY_STORE_ENDPOINT": bucket.server.endpoint,
        "GALERLY_DISTRIBUTION": "E1ABCDEF",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in variables.items():
        patch.setenv(name, value)
    lambda_janitor = importlib.import_module("galerly_cdn.aws.functions.janitor_handler")
    with lambda_janitor._runner:
        yield (
            lambda event: lambda_janitor.handler(event, SimpleNamespace(function_name="janitor")),
            invalidations,
        )


def test_janitor_handler_key_with_older_versions_is_invalidated(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto.bucket()
    moto.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    for key in (KEY, OTHER, OTHER, AGAIN):
        bucket.put(f"originals/{key}", b"an original")
    bucket.remove(f"originals/{AGAIN}")
    bucket.put(f"originals/{AGAIN}", b"an original")
    with started_handler(bucket, monkeypatch) as (handler, invalidations):
        for key in (KEY, OTHER, AGAIN):
            handler(change(f"originals/{key}"))
    targets = Settings().all_targets
    assert invalidations == [("E1ABCDEF", [OTHER], targets), ("E1ABCDEF", [AGAIN], targets)]


def test_janitor_handler_unversioned_bucket_is_not_invalidated(
    bucket: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        bucket.put(f"originals/{KEY}", b"an original")
    with started_handler(bucket, monkeypatch) as (handler, invalidations):
        handler(change(f"originals/{KEY}"))
    assert invalidations == []
