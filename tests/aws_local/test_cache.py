"""What the local CloudFront keeps, for how long, and what ends it."""

from __future__ import annotations

import asyncio

import pytest

from galerly_cdn.aws_local.cloudfront import ranges
from galerly_cdn.aws_local.cloudfront.cache import Cache
from galerly_cdn.aws_local.cloudfront.cache_policies import CacheKey, CachePolicyConfig
from galerly_cdn.aws_local.cloudfront.cache_ttl import ttl_s
from galerly_cdn.aws_local.cloudfront.invalidations import Invalidation, read_tags
from galerly_cdn.aws_local.http.origin_exchange import OriginResponse
from galerly_cdn.aws_local.http.viewer_exchange import Outcome, ViewerRequest, ViewerResponse
from galerly_cdn.serialization import replaced
from tests.support import local_cloudfront

DISTRIBUTION = local_cloudfront.planned().distribution
POLICY = DISTRIBUTION.behaviors[0].cache
ERRORS = DISTRIBUTION.error_ttls_s
ONE_SECOND = replaced(POLICY, min_ttl_s=1.0)
ONE_DAY = replaced(POLICY, default_ttl_s=86_400.0)
NOW_S = 1_800_000_000.0
KEY = CacheKey("/resized/800x600/a.jpg", "", ())
HEAD = replaced(KEY, method="HEAD")


@pytest.mark.parametrize(
    ("status", "headers", "policy", "kept_s"),
    [
        (200, {"cache-control": local_cloudfront.YEAR}, POLICY, 31_536_000),
        (200, {"cache-control": "max-age=60"}, POLICY, 60),
        (200, {"cache-control": "max-age=60, s-maxage=5"}, POLICY, 5),
        (200, {"cache-control": "MAX-AGE=60"}, POLICY, 60),
        (200, {"cache-control": "max-age=99999999"}, POLICY, 31_536_000),
        (200, {}, POLICY, 0),
        (200, {}, ONE_DAY, 86_400),
        (200, {"expires": "Fri, 15 Jan 2027 08:01:00 GMT"}, POLICY, 60),
        (200, {"expires": "Fri, 15 Jan 2027 07:00:00 GMT"}, POLICY, 0),
        (200, {"expires": "0"}, POLICY, 0),
        (200, {"cache-control": "max-age=0"}, POLICY, 0),
        (200, {"cache-control": "max-age=0"}, ONE_SECOND, 1),
        (200, {"cache-control": "no-cache"}, POLICY, 0),
        (302, {"cache-control": "private, no-store"}, POLICY, None),
        (302, {"cache-control": "private, no-store"}, ONE_SECOND, 1),
        (404, {}, POLICY, 0),
        (404, {"cache-control": "max-age=5"}, POLICY, 5),
        (405, {}, POLICY, 10),
        (414, {"cache-control": "max-age=60"}, POLICY, 60),
        (500, {"cache-control": "no-store"}, POLICY, 5),
        (501, {}, POLICY, 10),
        (502, {}, POLICY, 5),
        (503, {}, POLICY, 1),
        (503, {"cache-control": "max-age=60"}, POLICY, 60),
        (504, {}, POLICY, 5),
        (400, {}, POLICY, None),
        (400, {"cache-control": "max-age=60"}, POLICY, 60),
        (403, {}, POLICY, None),
        (403, {"cache-control": "max-age=1"}, POLICY, 5),
        (412, {}, POLICY, None),
        (415, {}, POLICY, None),
        (415, {"cache-control": "max-age=300"}, POLICY, 300),
        (413, {"cache-control": "max-age=60"}, POLICY, None),
        (416, {"cache-control": "max-age=60"}, POLICY, None),
        (422, {"cache-control": "max-age=60"}, POLICY, None),
        (429, {"cache-control": "max-age=60"}, POLICY, None),
    ],
)
def test_an_answer_is_kept_as_long_as_cloudfront_keeps_it(
    status: int, headers: dict[str, str], policy: CachePolicyConfig, kept_s: float | None
) -> None:
    assert ttl_s(status, headers, policy, ERRORS, NOW_S) == kept_s


def response(body: str = "a", cache: str = "max-age=60", status: int = 200, **headers: str) -> OriginResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OriginResponse(status, {"cache-control": cache, **named}, body.encode())


class Asking:
    """A cache, and origins that answer what they are told to."""

    def __init__(self, *answers: OriginResponse, policy: CachePolicyConfig = POLICY) -> None:
        self.clock = local_cloudfront.Clock(NOW_S)
        self.cache = Cache(self.clock, "x-amz-meta-cache-tag", ERRORS)
        self.answers = list(answers)
        self.conditions: list[dict[str, str]] = []
        self._policy = policy

    async def __call__(self, key: CacheKey = KEY, after_s: float = 0.0) -> Outcome:
        self.clock.now_s += after_s
        return await self.cache.respond(key, self._policy, self.ask)

    async def ask(self, conditions: dict[str, str]) -> OriginResponse:
        self.conditions.append(conditions)
        return self.answers.pop(0)


async def results(asking: Asking, *after_s: float) -> list[str]:
    found = [await asking(after_s=one) for one in after_s]
    return [f"{one.result} {one.response.status} {one.response.body.decode()}" for one in found]


async def test_a_miss_is_followed_by_hits_that_say_how_old_they_are() -> None:
    asking = Asking(response())
    assert (await asking()).result == "Miss"
    found = await asking(after_s=7)
    assert (found.result, found.response.headers["age"]) == ("Hit", "7")


async def test_what_says_no_store_is_asked_for_again() -> None:
    asking = Asking(response(cache="no-store"), response("b"))
    assert await results(asking, 0, 0) == ["Miss 200 a", "Miss 200 b"]


async def test_a_minimum_ttl_keeps_a_redirect_that_says_no_store_and_so_makes_a_loop() -> None:
    redirect = response(status=302, cache="private, no-store", location="/same?stored=1")
    looping = Asking(redirect, response("b"), policy=ONE_SECOND)
    assert await results(looping, 0, 0.5) == ["Miss 302 a", "Hit 302 a"]
    ours = Asking(redirect, response("b"))
    assert await results(ours, 0, 0.5) == ["Miss 302 a", "Miss 200 b"]


async def test_an_error_is_kept_as_an_error_and_then_asked_again() -> None:
    asking = Asking(response(status=404, cache="max-age=5"), response("b"))
    assert await results(asking, 0, 4, 2) == ["Error 404 a", "Error 404 a", "Miss 200 b"]


async def test_a_stale_object_is_asked_about_and_kept_if_it_still_holds() -> None:
    asking = Asking(response(etag='"1"'), response(status=304, body=""))
    assert await results(asking, 0, 61, 59) == ["Miss 200 a", "RefreshHit 200 a", "Hit 200 a"]
    assert asking.conditions == [{}, {"if-none-match": '"1"'}]


async def test_a_revalidated_object_keeps_its_length_and_its_tags() -> None:
    tagged = response(etag='"1"', content_length="1", x_amz_meta_cache_tag="o-1")
    asking = Asking(tagged, response(status=304, body="", content_length="0"), response("b"))
    await asking()
    assert (await asking(after_s=61)).response.headers["content-length"] == "1"
    asking.cache.invalidate("#o-1")
    assert (await asking()).response.body == b"b"


async def test_a_stale_object_gives_way_to_a_new_one() -> None:
    asking = Asking(response(etag='"1"'), response("b"))
    assert await results(asking, 0, 61, 0) == ["Miss 200 a", "Miss 200 b", "Hit 200 b"]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_stale_object_is_handed_out_while_its_origin_fails(status: int) -> None:
    asking = Asking(response(), response(status=status, cache="no-store"), response("b"))
    assert await results(asking, 0, 61, 0.5, 61) == ["Miss 200 a", "Hit 200 a", "Hit 200 a", "Miss 200 b"]


async def test_a_stale_object_that_is_gone_is_not_handed_out() -> None:
    asking = Asking(response(), response("gone", status=404), response("b"))
    assert (await results(asking, 0, 61))[1] == "Error 404 gone"


async def test_a_head_is_answered_of_what_a_get_has_left_and_never_the_other_way() -> None:
    asking = Asking(response(""), response("a"))
    assert (await asking(HEAD)).result == "Miss"
    assert (await asking(HEAD)).result == "Hit"
    assert (await asking()).result == "Miss"
    assert (await asking(HEAD)).response.body == b"a"


async def test_misses_that_come_together_ask_once() -> None:
    asking, asked, go = Asking(), asyncio.Event(), asyncio.Event()
    calls = []

    async def ask(conditions: dict[str, str]) -> OriginResponse:
        calls.append(conditions)
        asked.set()
        await go.wait()
        return response()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asking.cache.respond(KEY, POLICY, ask)) for _ in range(5)]
        await asked.wait()
        go.set()
    assert sorted(task.result().result for task in tasks) == ["Hit", "Hit", "Hit", "Hit", "Miss"]
    assert len(calls) == 1


async def test_those_who_waited_for_what_is_not_kept_ask_themselves() -> None:
    asking = Asking(*[response(cache="no-store")] * 3)
    found = await asyncio.gather(*(asking() for _ in range(3)))
    assert [one.result for one in found] == ["Miss"] * 3


async def test_an_origin_that_raises_leaves_nobody_waiting() -> None:
    asking = Asking()
    for _ in range(2):
        with pytest.raises(IndexError):
            await asking()


@pytest.mark.parametrize(
    ("text", "is_gone"),
    [
        ("/resized/800x600/a.jpg", True),
        ("resized/800x600/a.jpg", True),
        ("/resized/800x600/*", True),
        ("/*", True),
        ("*", True),
        ("/resized/800x600/A.jpg", False),
        ("/resized/800x600/a", False),
        ("/resized/400x400/*", False),
        ("#o-1", True),
        ("#O-1", True),
        ("#o-2", True),
        ("#o-", False),
    ],
)
async def test_an_invalidation_ends_what_it_names(text: str, *, is_gone: bool) -> None:
    asking = Asking(response(x_amz_meta_cache_tag="o-1, O-2"), response("b"))
    await asking()
    asking.cache.invalidate(text)
    assert (await asking()).result == ("Miss" if is_gone else "Hit")


async def test_a_missing_pictures_404_is_invalidated_by_its_tag() -> None:
    asking = Asking(response(status=404, cache="max-age=60", x_amz_meta_cache_tag="o-1"), response("b"))
    await asking()
    asking.cache.invalidate("#o-1")
    assert (await asking()).result == "Miss"


async def test_what_was_asked_for_before_an_invalidation_is_not_kept_after_it() -> None:
    asking = Asking(response("b"))

    async def ask(_: dict[str, str]) -> OriginResponse:
        asking.cache.invalidate("#o-1")
        return response(x_amz_meta_cache_tag="o-1")

    await asking.cache.respond(KEY, POLICY, ask)
    assert (await asking()).response.body == b"b"


@pytest.mark.parametrize("text", ["/a*b", "#", "#a*", "/*/x*"])
def test_what_cloudfront_would_not_invalidate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"tag|\*"):
        Invalidation.read(text)


def test_fifty_tags_of_an_object_count() -> None:
    assert len(read_tags(",".join(f"t{number}" for number in range(60)))) == 50


WHOLE = ViewerResponse(
    200,
    {"etag": '"1"', "content-length": "10", "last-modified": "Fri, 15 Jan 2027 08:00:00 GMT"},
    b"0123456789",
)


@pytest.mark.parametrize(
    ("headers", "status", "body", "told"),
    [
        ({}, 200, b"0123456789", None),
        ({"range": "bytes=0-0"}, 206, b"0", "bytes 0-0/10"),
        ({"range": "bytes=7-"}, 206, b"789", "bytes 7-9/10"),
        ({"range": "bytes=7-99"}, 206, b"789", "bytes 7-9/10"),
        ({"range": "bytes=-2"}, 206, b"89", "bytes 8-9/10"),
        ({"range": "bytes=-99"}, 206, b"0123456789", "bytes 0-9/10"),
        ({"range": "bytes=10-"}, 416, b"", "bytes */10"),
        ({"range": "bytes=-0"}, 416, b"", "bytes */10"),
        ({"range": "bytes=-"}, 200, b"0123456789", None),
        ({"range": "bytes=5-2"}, 200, b"0123456789", None),
        ({"range": "bytes=0-1,3-4"}, 200, b"0123456789", None),
        ({"range": "bytes=0-0", "if-range": '"1"'}, 206, b"0", "bytes 0-0/10"),
        ({"range": "bytes=0-0", "if-range": '"2"'}, 200, b"0123456789", None),
        ({"if-none-match": '"1"'}, 304, b"", None),
        ({"if-none-match": 'W/"1"'}, 304, b"", None),
        ({"if-none-match": '"0", "1"'}, 304, b"", None),
        ({"if-none-match": "*"}, 304, b"", None),
        ({"if-none-match": '"2"'}, 200, b"0123456789", None),
        ({"if-modified-since": "Fri, 15 Jan 2027 08:00:00 GMT"}, 304, b"", None),
        (
            {"if-none-match": '"2"', "if-modified-since": "Fri, 15 Jan 2027 08:00:00 GMT"},
            200,
            b"0123456789",
            None,
        ),
    ],
)
def test_ranges_and_conditions_are_answered_of_the_object(
    headers: dict[str, str], status: int, body: bytes, told: str | None
) -> None:
    request = ViewerRequest(
        method="GET", scheme="https", host=local_cloudfront.HOST, raw_path="/", headers=headers
    )
    found = ranges.apply_conditions(WHOLE, request)
    assert (found.status, found.body, found.headers.get("content-range")) == (status, body, told)


def test_a_304_says_nothing_of_content() -> None:
    told = {"content-type": "image/jpeg", "content-disposition": "inline", "vary": "Accept"}
    request = ViewerRequest(
        method="GET",
        scheme="https",
        host=local_cloudfront.HOST,
        raw_path="/",
        headers={"if-none-match": '"1"'},
    )
    found = ranges.apply_conditions(replaced(WHOLE, headers=WHOLE.headers | told), request)
    assert set(found.headers) == {"etag", "last-modified", "vary"}


def test_an_error_has_no_ranges() -> None:
    request = ViewerRequest(
        method="GET", scheme="https", host=local_cloudfront.HOST, raw_path="/", headers={"range": "bytes=0-0"}
    )
    assert ranges.apply_conditions(replaced(WHOLE, status=404), request).status == 404
