"""After a replace or a delete nothing is left of the old original, and CloudFront is told when it must be."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from galerly_cdn import jobs
from galerly_cdn.aws.deploy import invalidation
from galerly_cdn.aws.functions.janitor import Janitor
from galerly_cdn.aws_local.functions.runtime import TimedOut
from galerly_cdn.errors import StoreUnreachable
from galerly_cdn.http.urls import format_stored
from galerly_cdn.model import Format, replaced
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.fake_s3 import Fault, fake_s3
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


class Cleaning:
    """A bucket, and a janitor that notes what it would invalidate."""

    def __init__(self, functions: Functions, *, is_overwritten: bool = False) -> None:
        self.functions = functions
        self.invalidated: list[str] = []
        self.janitor = Janitor(
            functions.stores,
            invalidate=self.invalidated.append,
            is_overwritten=lambda _: is_overwritten,
            tell=functions.tell,
        )

    async def fill(self, key: str) -> None:
        for one in PICTURES:
            assert (await self.functions.ask(format_stored(one, key))).status == 200
        self.functions.lines.clear()

    async def take(self, key: str, what: str = "Object Created", received: int = 1) -> None:
        await self.janitor.take(change(f"originals/{key}", what=what, received=received))


def left(bucket: Objects) -> set[str]:
    return {name for name in bucket.names() if name.startswith("resized/")}


def of(key: str) -> set[str]:
    return {f"resized/{one.rendition_key(key)}" for one in PICTURES}


async def test_what_was_made_of_a_replaced_original_goes_and_nothing_else(bucket: Objects) -> None:
    cleaning = Cleaning(Functions(bucket.settings()))
    for key in (KEY, OTHER):
        bucket.put(f"originals/{key}", b"an original")
        await cleaning.fill(key)
    bucket.put(f"originals/{KEY}", b"another original")
    current = (await cleaning.functions.ask(format_stored(PICTURES[0], KEY))).body
    cleaning.functions.lines.clear()
    await cleaning.take(KEY)
    kept = f"resized/{PICTURES[0].rendition_key(KEY)}"
    assert left(bucket) == of(OTHER) | {kept}
    assert bucket.get(kept) == current
    assert cleaning.invalidated == [KEY]
    assert cleaning.functions.lines == [{"key": KEY, "deleted": 2, "invalidated": True}]


async def test_what_was_made_of_a_deleted_original_goes_and_the_caches_are_told(bucket: Objects) -> None:
    cleaning = Cleaning(Functions(bucket.settings()))
    bucket.put(f"originals/{KEY}", b"an original")
    await cleaning.fill(KEY)
    bucket.remove(f"originals/{KEY}")
    await cleaning.take(KEY, what="Object Deleted")
    assert left(bucket) == set()
    assert cleaning.invalidated == [KEY]


async def test_an_object_that_is_no_rendition_of_ours_goes(bucket: Objects) -> None:
    cleaning = Cleaning(Functions(bucket.settings()))
    bucket.put(f"originals/{KEY}", b"an original")
    bucket.put(f"resized/{PICTURES[0].rendition_key(KEY)}", b"somebody else's")
    await cleaning.take(KEY)
    assert left(bucket) == set()
    assert cleaning.invalidated == [KEY]


@pytest.mark.parametrize(
    ("is_there", "what", "received", "is_overwritten", "is_told"),
    [
        (True, "Object Created", 1, False, False),  # the usual upload: an invalidation would cost
        (True, "Object Created", 1, True, True),  # what S3 let expire, a cache may still have
        (True, "Object Created", 2, False, True),  # begun before: it may have deleted, and then failed
        (
            True,
            "Object Deleted",
            1,
            False,
            False,
        ),  # of an old version, or uploaded again: an event of its own
        (True, "Object Deleted", 2, False, True),
        (False, "Object Created", 1, False, True),  # deleted since
        (False, "Object Deleted", 1, False, True),
    ],
)
async def test_the_caches_are_told_when_they_may_have_something_old(
    *, is_there: bool, what: str, received: int, is_overwritten: bool, is_told: bool
) -> None:
    async with fake_s3() as fake:
        cleaning = Cleaning(Functions(fake.settings()), is_overwritten=is_overwritten)
        if is_there:
            fake.put(f"originals/{KEY}", b"an original")
            await cleaning.fill(KEY)
        await cleaning.take(KEY, what=what, received=received)
        assert cleaning.invalidated == [KEY] * is_told
        assert len([name for name in fake.objects if "/resized/" in name]) == len(PICTURES) * is_there


async def test_what_cannot_be_deleted_now_is_given_back_and_not_invalidated_too_early() -> None:
    async with fake_s3() as fake:
        cleaning = Cleaning(Functions(fake.settings(store_deadline_s=2)))
        fake.put(f"originals/{KEY}", b"an original")
        await cleaning.fill(KEY)
        del fake.objects[f"bucket/originals/{KEY}"]
        fake.fault = lambda one: Fault(status=503) if one.method == "DELETE" else None
        with pytest.raises(StoreUnreachable):
            await cleaning.take(KEY, what="Object Deleted")
        assert cleaning.invalidated == []


async def test_what_a_function_that_died_left_of_the_old_original_goes() -> None:
    """Between its put and its second head: the one moment in which it can leave something wrong."""
    async with fake_s3() as fake:
        fake.put(f"originals/{KEY}", pictures.jpeg(300, 200))

        def dying(one: Request) -> Fault | None:
            if one.method == "PUT":  # replaced while the rendition of the old one is being stored
                fake.put(f"originals/{KEY}", pictures.jpeg(200, 300))
            is_second_head = one.method == "HEAD" and "originals/" in one.key and fake.request_count("PUT")
            return Fault(hangs=True) if is_second_head else None

        fake.fault = dying
        resizer = replaced(function("resizer", fake.settings()), timeout_s=2)
        async with running(resizer) as runtime:
            with pytest.raises(TimedOut):
                await runtime.invoke(request(format_stored(PICTURES[0], KEY)))
        stored = f"bucket/resized/{PICTURES[0].rendition_key(KEY)}"
        assert stored in fake.objects
        fake.fault = lambda _: None
        cleaning = Cleaning(Functions(fake.settings()))
        await cleaning.take(KEY)
        assert stored not in fake.objects
        assert cleaning.invalidated == [KEY]


@contextmanager
def started(
    bucket: Objects, patch: pytest.MonkeyPatch
) -> Iterator[tuple[Callable[[dict[str, Any]], None], list[Any]]]:
    """The entry as Lambda calls it, and what it tells CloudFront, whose side is another module's."""
    told: list[Any] = []
    patch.setattr(invalidation, "invalidate", lambda *arguments: told.append(arguments))
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
        yield lambda event: lambda_janitor.handler(event, SimpleNamespace(function_name="janitor")), told


def test_the_function_asks_the_bucket_for_older_versions(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto.bucket()
    moto.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    for key in (KEY, OTHER, OTHER, AGAIN):
        bucket.put(f"originals/{key}", b"an original")
    bucket.remove(f"originals/{AGAIN}")
    bucket.put(f"originals/{AGAIN}", b"an original")
    with started(bucket, monkeypatch) as (handler, told):
        for key in (KEY, OTHER, AGAIN):
            handler(change(f"originals/{key}"))
    targets = jobs.all_targets(Settings())
    assert told == [("E1ABCDEF", [OTHER], targets), ("E1ABCDEF", [AGAIN], targets)]


def test_a_bucket_that_keeps_no_versions_had_none(bucket: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        bucket.put(f"originals/{KEY}", b"an original")
    with started(bucket, monkeypatch) as (handler, told):
        handler(change(f"originals/{KEY}"))
    assert told == []
