"""Tests of the janitor: which renditions it deletes, and when it invalidates CloudFront."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.aws.deploy import invalidation
from galerly_cdn.aws.functions.composition import Stores
from galerly_cdn.aws.functions.janitor import Janitor
from galerly_cdn.aws_local.functions.runtime import TimedOut
from galerly_cdn.errors import NotInvalidated, StoreBusy
from galerly_cdn.http.urls import cache_tag, format_stored, gallery_tag
from galerly_cdn.model import Format, facts_key
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.fake_s3 import Fault, fake_s3
from tests.support.in_memory_cdn import MemoryOriginals, MemoryRenditions, rendition
from tests.support.lambda_functions import CHANGED, Functions, change, function, request, running
from tests.support.render_jobs import target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from tests.support.fake_s3 import Request
    from tests.support.s3_servers import Objects, S3Server

KEY = "g/a b.jpg"
OTHER = "g/a b.jpg.2"
AGAIN = "g/again.jpg"
PICTURES = [target("800x600"), target("800x600", Format.WEBP), target("150x150", Format.PNG)]


DAY_S = 86_400.0
CHANGED_S = datetime.fromisoformat(CHANGED).timestamp()


class JanitorRun:
    """A janitor that records the keys it would invalidate, over a bucket with these older originals.

    `previous_s` is when the older original of each key was put, `tags_s` when tags were invalidated.
    """

    def __init__(
        self,
        functions: Functions,
        *,
        previous_s: float | None = None,
        tags_s: Mapping[str, float] | None = None,
    ) -> None:
        self.functions = functions
        self.invalidated: list[str] = []
        self.refusal: NotInvalidated | None = None
        self.invalidations = 0
        self._previous_s = previous_s
        self._tags_s = tags_s or {}
        self.janitor = Janitor(
            functions.stores,
            self,
            rendition_days=180,
            wall=lambda: CHANGED_S + 90,
            log=functions.log,
        )

    def previous_s(self, _key: str) -> float | None:
        return self._previous_s

    def invalidated_s(self, _since_s: float) -> Mapping[str, float]:
        return self._tags_s

    def invalidate(self, keys: Sequence[str]) -> None:
        self.invalidations += 1
        if self.refusal:
            raise self.refusal
        self.invalidated += keys

    async def fill(self, key: str) -> None:
        for one in PICTURES:
            assert (await self.functions.ask(format_stored(one, key))).status == 200
        self.functions.lines.clear()

    async def handle(self, key: str, what: str = "Object Created", received: int = 1) -> list[str]:
        """The messages that failed."""
        result = await self.janitor.handle(change(f"originals/{key}", what=what, received=received))
        return [one["itemIdentifier"] for one in result["batchItemFailures"]]


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


YOUNG_S, OLD_S = CHANGED_S - 179 * DAY_S, CHANGED_S - 181 * DAY_S
PUT, DELETED = "Object Created", "Object Deleted"
OWN, GALLERY, OTHERS = cache_tag(KEY), gallery_tag("g"), cache_tag(OTHER)


@pytest.mark.parametrize(
    ("is_there", "what", "previous_s", "tags_s", "is_invalidated"),
    [
        # The usual upload: an invalidation would cost money.
        (True, PUT, None, {}, False),
        # Overwritten, and nothing is left to remove: purged without an invalidation, or expired.
        (True, PUT, YOUNG_S, {}, True),
        (True, PUT, OLD_S, {}, True),
        # Overwritten by a client that has invalidated the photograph, or its gallery, since.
        (True, PUT, YOUNG_S, {OWN: CHANGED_S + 2}, False),
        (True, PUT, OLD_S, {GALLERY: CHANGED_S}, False),
        (True, PUT, YOUNG_S, {OWN: CHANGED_S - 1, OTHERS: CHANGED_S + 2}, True),
        # An old version was deleted, or the original was uploaded again, which is another event.
        (True, DELETED, OLD_S, {}, False),
        # Deleted, and no rendition was stored; one that has expired may still be cached.
        (False, DELETED, None, {}, False),
        (False, DELETED, YOUNG_S, {}, False),
        (False, DELETED, OLD_S, {}, True),
        (False, DELETED, OLD_S, {GALLERY: CHANGED_S + 2}, False),
        (False, PUT, YOUNG_S, {}, False),  # deleted after the upload
    ],
)
async def test_janitor_without_rendition_to_remove_invalidates_what_may_be_cached(
    *, is_there: bool, what: str, previous_s: float | None, tags_s: dict[str, float], is_invalidated: bool
) -> None:
    for received in (1, 2):  # the first attempt may have deleted, and then failed
        async with fake_s3() as fake:
            run = JanitorRun(Functions(fake.settings()), previous_s=previous_s, tags_s=tags_s)
            if is_there:
                fake.put(f"originals/{KEY}", b"an original")
                await run.fill(KEY)
            assert await run.handle(KEY, what, received) == []
            assert run.invalidated == [KEY] * (is_invalidated or received > 1)
            assert len(fake.rendition_names()) == len(names_of(KEY)) * is_there


async def test_janitor_many_changes_of_a_batch_are_one_invalidation() -> None:
    async with fake_s3() as fake:
        run = JanitorRun(Functions(fake.settings()), previous_s=OLD_S)
        keys = [f"g/{number}.jpg" for number in range(30)]
        records = [
            change(f"originals/{key}", what=DELETED, message_id=f"{key} {number}")["Records"][0]
            for number in range(2)
            for key in keys
        ]
        assert await run.janitor.handle({"Records": records}) == {"batchItemFailures": []}
        assert (run.invalidations, run.invalidated) == (1, keys)


async def test_janitor_failed_delete_fails_its_message_alone() -> None:
    async with fake_s3() as fake:
        run = JanitorRun(Functions(fake.settings(store_deadline_s=2)))
        for key in (KEY, AGAIN):
            fake.put(f"originals/{key}", b"an original")
            await run.fill(key)
            del fake.objects[f"bucket/originals/{key}"]
        fake.fault = lambda one: Fault(status=503) if one.method == "DELETE" and "again" in one.key else None
        records = [
            change(f"originals/{key}", what=DELETED, message_id=key)["Records"][0] for key in (KEY, AGAIN)
        ]
        assert await run.janitor.handle({"Records": records}) == {
            "batchItemFailures": [{"itemIdentifier": AGAIN}]
        }
        assert run.invalidated == [KEY]
        failure = next(line for line in run.functions.lines if line["key"] == AGAIN)
        assert failure["reason"] == StoreBusy.code


async def test_janitor_refused_invalidation_fails_the_messages() -> None:
    async with fake_s3() as fake:
        run = JanitorRun(Functions(fake.settings()), previous_s=OLD_S)
        run.refusal = NotInvalidated("no")
        assert await run.handle(KEY, DELETED) == ["1"]
        assert [line.get("reason") for line in run.functions.lines] == [NotInvalidated.code]


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
    caches = JanitorRun(Functions(Settings(store="s3://unused")))
    janitor = Janitor(stores, caches, rendition_days=180, wall=lambda: 0.0, log=lambda _: None)
    await janitor.handle(change(f"originals/{KEY}", what="Object Deleted"))
    assert await renditions.head(KEY, stored.record.target) is None
    assert caches.invalidated == [KEY]


@contextmanager
def started_handler(
    bucket: Objects, patch: pytest.MonkeyPatch
) -> Iterator[tuple[Callable[[dict[str, Any]], object], list[Any]]]:
    """The handler as Lambda calls it, and the arguments of its invalidations."""
    invalidations: list[Any] = []
    patch.setattr(
        invalidation,
        "invalidate",
        lambda distribution, keys, targets, cache_tags: invalidations.append(
            (distribution, keys, targets, cache_tags)
        ),
    )
    patch.setattr(invalidation, "invalidated_s", lambda _distribution, _since_s: {})
    patch.delitem(sys.modules, "galerly_cdn.aws.functions.janitor_handler", raising=False)
    variables = {
        "GALERLY_STORE": f"s3://{bucket.name}",
        "GALERLY_STORE_ENDPOINT": bucket.server.endpoint,
        "GALERLY_DISTRIBUTION": "E1ABCDEF",
        "AWS_DEFAULT_REGION": "us-east-1",
        "RENDITION_DAYS": "180",
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
    assert invalidations == [("E1ABCDEF", [key], targets, [cache_tag(key)]) for key in (OTHER, AGAIN)]


def test_janitor_handler_unversioned_bucket_is_not_invalidated(
    bucket: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        bucket.put(f"originals/{KEY}", b"an original")
    with started_handler(bucket, monkeypatch) as (handler, invalidations):
        handler(change(f"originals/{KEY}"))
    assert invalidations == []
