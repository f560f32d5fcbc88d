"""CloudFront's cache: lifetimes, revalidation, invalidation, ranges and conditional requests."""

from __future__ import annotations

import asyncio

import pytest

from galerly_cdn.aws_local.cloudfront import ranges
from galerly_cdn.aws_local.cloudfront.cache import Cache
from galerly_cdn.aws_local.cloudfront.cache_policies import CacheKey, CachePolicyConfig
from galerly_cdn.aws_local.cloudfront.cache_ttl import ttl_s
from galerly_cdn.aws_local.cloudfront.invalidations import Invalidation, parse_tags
from galerly_cdn.aws_local.http.origin_exchange import OriginResponse
from galerly_cdn.aws_local.http.viewer_exchange import Outcome, ViewerRequest, ViewerResponse
from galerly_cdn.serialization import replaced
from tests.support import local_cloudfront

DISTRIBUTION = local_cloudfront.read_plan().distribution
POLICY = DISTRIBUTION.behaviors[0].cache_policy
ERRORS = DISTRIBUTION.error_ttls_s
ONE_SECOND = replaced(POLICY, min_ttl_s=1.0)
ONE_DAY = replaced(POLICY, default_ttl_s=86_400.0)
NOW_S = 1_800_000_000.0
KEY = CacheKey("/resized/800x600/a.jpg", "", ())
HEAD = replaced(KEY, method="HEAD")


@pytest.mark.parametrize(
    ("status", "headers", "policy", "fresh_s"),
    [
        (200, {"cache-control": local_cloudfront.IMMUTABLE}, POLICY, 31_536_000),
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
def test_ttl_s_is_cloudfronts_lifetime(
    status: int, headers: dict[str, str], policy: CachePolicyConfig, fresh_s: float | None
) -> None:
    assert ttl_s(status, headers, policy, ERRORS, NOW_S) == fresh_s


def response(body: str = "a", cache: str = "max-age=60", status: int = 200, **headers: str) -> OriginResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OriginResponse(status, {"cache-control": cache, **named}, body.encode())


class CacheWithOrigin:
    """A cache whose origin sends the given responses, one after the other."""

    def __init__(self, *responses: OriginResponse, policy: CachePolicyConfig = POLICY) -> None:
        self.clock = local_cloudfront.Clock(NOW_S)
        self.cache = Cache(self.clock, "x-amz-meta-cache-tag", ERRORS)
        self.responses = list(responses)
        self.conditions: list[dict[str, str]] = []
        self._policy = policy

    async def __call__(self, key: CacheKey = KEY, after_s: float = 0.0) -> Outcome:
        """The response to a request `after_s` seconds after the previous one."""
        self.clock.now_s += after_s
        return await self.cache.respond(key, self._policy, self.fetch)

    async def fetch(self, conditions: dict[str, str]) -> OriginResponse:
        self.conditions.append(conditions)
        return self.responses.pop(0)


async def results(cached: CacheWithOrigin, *after_s: float) -> list[str]:
    """Result type, status and body of requests with these seconds in between."""
    outcomes = [await cached(after_s=seconds) for seconds in after_s]
    return [
        f"{outcome.result} {outcome.response.status} {outcome.response.body.decode()}" for outcome in outcomes
    ]


async def test_a_miss_is_followed_by_hits_with_an_age() -> None:
    cached = CacheWithOrigin(response())
    assert (await cached()).result == "Miss"
    outcome = await cached(after_s=7)
    assert (outcome.result, outcome.response.headers["age"]) == ("Hit", "7")


async def test_a_response_with_no_store_is_not_cached() -> None:
    cached = CacheWithOrigin(response(cache="no-store"), response("b"))
    assert await results(cached, 0, 0) == ["Miss 200 a", "Miss 200 b"]


async def test_a_minimum_ttl_caches_a_redirect_with_no_store() -> None:
    redirect = response(status=302, cache="private, no-store", location="/same?stored=1")
    with_minimum_ttl = CacheWithOrigin(redirect, response("b"), policy=ONE_SECOND)
    assert await results(with_minimum_ttl, 0, 0.5) == ["Miss 302 a", "Hit 302 a"]
    without = CacheWithOrigin(redirect, response("b"))
    assert await results(without, 0, 0.5) == ["Miss 302 a", "Miss 200 b"]


async def test_an_error_is_cached_as_an_error_until_it_expires() -> None:
    cached = CacheWithOrigin(response(status=404, cache="max-age=5"), response("b"))
    assert await results(cached, 0, 4, 2) == ["Error 404 a", "Error 404 a", "Miss 200 b"]


async def test_a_stale_object_is_renewed_by_a_304() -> None:
    cached = CacheWithOrigin(response(etag='"1"'), response(status=304, body=""))
    assert await results(cached, 0, 61, 59) == ["Miss 200 a", "RefreshHit 200 a", "Hit 200 a"]
    assert cached.conditions == [{}, {"if-none-match": '"1"'}]


async def test_a_revalidated_object_keeps_its_length_and_tags() -> None:
    tagged = response(etag='"1"', content_length="1", x_amz_meta_cache_tag="o-1")
    cached = CacheWithOrigin(tagged, response(status=304, body="", content_length="0"), response("b"))
    await cached()
    assert (await cached(after_s=61)).response.headers["content-length"] == "1"
    cached.cache.invalidate("#o-1")
    assert (await cached()).response.body == b"b"


async def test_a_stale_object_is_replaced_by_a_new_response() -> None:
    cached = CacheWithOrigin(response(etag='"1"'), response("b"))
    assert await results(cached, 0, 61, 0) == ["Miss 200 a", "Miss 200 b", "Hit 200 b"]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_stale_object_is_served_while_the_origin_fails(status: int) -> None:
    cached = CacheWithOrigin(response(), response(status=status, cache="no-store"), response("b"))
    assert await results(cached, 0, 61, 0.5, 61) == ["Miss 200 a", "Hit 200 a", "Hit 200 a", "Miss 200 b"]


async def test_a_stale_object_is_not_served_after_a_404() -> None:
    cached = CacheWithOrigin(response(), response("gone", status=404), response("b"))
    assert (await results(cached, 0, 61))[1] == "Error 404 gone"


async def test_head_is_served_from_a_cached_get_but_not_the_reverse() -> None:
    cached = CacheWithOrigin(response(""), response("a"))
    assert (await cached(HEAD)).result == "Miss"
    assert (await cached(HEAD)).result == "Hit"
    assert (await cached()).result == "Miss"
    assert (await cached(HEAD)).response.body == b"a"


async def test_concurrent_misses_make_one_origin_request() -> None:
    cached, fetching, release = CacheWithOrigin(), asyncio.Event(), asyncio.Event()
    calls = []

    async def fetch(conditions: dict[str, str]) -> OriginResponse:
        calls.append(conditions)
        fetching.set()
        await release.wait()
        return response()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cached.cache.respond(KEY, POLICY, fetch)) for _ in range(5)]
        await fetching.wait()
        release.set()
    assert sorted(task.result().result for task in tasks) == ["Hit", "Hit", "Hit", "Hit", "Miss"]
    assert len(calls) == 1


async def test_concurrent_misses_of_an_uncacheable_object_each_make_an_origin_request() -> None:
    cached = CacheWithOrigin(*[response(cache="no-store")] * 3)
    outcomes = await asyncio.gather(*(cached() for _ in range(3)))
    assert [outcome.result for outcome in outcomes] == ["Miss"] * 3


async def test_an_exception_of_the_origin_does_not_block_later_requests() -> None:
    cached = CacheWithOrigin()
    for _ in range(2):
        with pytest.raises(IndexError):
            await cached()


@pytest.mark.parametrize(
    ("text", "is_invalidated"),
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
async def test_invalidate_removes_matching_objects(text: str, *, is_invalidated: bool) -> None:
    cached = CacheWithOrigin(response(x_amz_meta_cache_tag="o-1, O-2"), response("b"))
    await cached()
    cached.cache.invalidate(text)
    assert (await cached()).result == ("Miss" if is_invalidated else "Hit")


async def test_invalidate_removes_a_tagged_404() -> None:
    cached = CacheWithOrigin(
        response(status=404, cache="max-age=60", x_amz_meta_cache_tag="o-1"), response("b")
    )
    await cached()
    cached.cache.invalidate("#o-1")
    assert (await cached()).result == "Miss"


async def test_a_response_fetched_before_an_invalidation_is_not_cached() -> None:
    cached = CacheWithOrigin(response("b"))

    async def fetch(_: dict[str, str]) -> OriginResponse:
        cached.cache.invalidate("#o-1")
        return response(x_amz_meta_cache_tag="o-1")

    await cached.cache.respond(KEY, POLICY, fetch)
    assert (await cached()).response.body == b"b"


@pytest.mark.parametrize("text", ["/a*b", "#", "#a*", "/*/x*"])
def test_invalid_invalidation_text_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"tag|\*"):
        Invalidation.parse(text)


def test_parse_tags_returns_at_most_fifty_tags() -> None:
    assert len(parse_tags(",".join(f"t{number}" for number in range(60)))) == 50


OK = ViewerResponse(
    200,
    {"etag": '"1"', "content-length": "10", "last-modified": "Fri, 15 Jan 2027 08:00:00 GMT"},
    b"0123456789",
)


@pytest.mark.parametrize(
    ("headers", "status", "body", "content_range"),
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
def test_apply_conditions_returns_a_part_or_a_304(
    headers: dict[str, str], status: int, body: bytes, content_range: str | None
) -> None:
    request = ViewerRequest(
        method="GET", scheme="https", host=local_cloudfront.HOST, raw_path="/", headers=headers
    )
    result = ranges.apply_conditions(OK, request)
    assert (result.status, result.body, result.headers.get("content-range")) == (status, body, content_range)


def test_a_304_has_no_content_headers() -> None:
    more = {"content-type": "image/jpeg", "content-disposition": "inline", "vary": "Accept"}
    request = ViewerRequest(
        method="GET",
        scheme="https",
        host=local_cloudfront.HOST,
        raw_path="/",
        headers={"if-none-match": '"1"'},
    )
    result = ranges.apply_conditions(replaced(OK, headers=OK.headers | more), request)
    assert set(result.headers) == {"etag", "last-modified", "vary"}


def test_an_error_ignores_range() -> None:
    request = ViewerRequest(
        method="GET", scheme="https", host=local_cloudfront.HOST, raw_path="/", headers={"range": "bytes=0-0"}
    )
    assert ranges.apply_conditions(replaced(OK, status=404), request).status == 404
