"""Invalidates photographs in CloudFront's caches by cache tag, or by path where tags are refused.

Every rendition of an original and every error about it has the same two tags, whatever the size and format:
the photograph's, and its gallery's (CloudFront Developer Guide, "Invalidating content by cache tags"). AWS
bills a tag like one path, so that many photographs of a gallery are one item.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from galerly_cdn.aws.deploy import boto
from galerly_cdn.aws.deploy.invalidation_batches import InvalidationBatches
from galerly_cdn.errors import NotInvalidated
from galerly_cdn.http.urls import cache_tag, format_stored, gallery_name, gallery_tag
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from galerly_cdn.model import Target
    from galerly_cdn.settings.table import Settings

DEADLINE_S = 300
"""How long a command waits. AWS documents 25 s (P95) until all edge locations have finished."""
_MAX_ITEMS = 1000
"""Items in one request. CloudFront allows 3000 in progress ("Concurrent invalidation request maximum")."""
MAX_PHOTOGRAPHS = 100
"""More photographs of one gallery than these are invalidated by the gallery's tag."""
_POLL_S = 2


class Invalidated(Value, frozen=True):
    """The result of `invalidate`: the IDs of the invalidations, and whether all edge locations finished."""

    distribution: str
    keys: int
    by: Literal["tag", "path"]
    ids: tuple[str, ...]
    is_completed: bool


def tags(
    keys: Iterable[str], sent: Mapping[str, int] | None = None, max_photographs: int = MAX_PHOTOGRAPHS
) -> list[str]:
    """The tags that invalidate these keys: their own, or their gallery's for more than `max_photographs`.

    `sent` counts, for each gallery, the photographs whose own tags were sent shortly before.
    """
    counts = Counter(sent or {})
    counts.update(map(gallery_name, keys := dict.fromkeys(keys)))
    return list(
        dict.fromkeys(
            gallery_tag(gallery_name(key)) if counts[gallery_name(key)] > max_photographs else cache_tag(key)
            for key in keys
        )
    )


def invalidate(
    distribution_id: str,
    keys: Sequence[str],
    targets: Iterable[Target] = (),
    *,
    cache_tags: Sequence[str] = (),
    deadline_s: int = 0,
) -> Invalidated:
    """Drop everything that belongs to `keys` from CloudFront's caches; wait at most `deadline_s` for it.

    `targets` are all targets of the allow-list; they allow an invalidation by path where CloudFront refuses
    tags. `cache_tags` are by default those of `tags`. A `deadline_s` of 0 does not wait.

    Raises `AwsMissing`, and `NotInvalidated` if CloudFront refused, is unreachable or did not finish in time.
    """
    cloudfront = boto.client("cloudfront")
    by: Literal["tag", "path"] = "tag"
    with boto.aws_errors(NotInvalidated):
        try:
            items = [f"#{tag}" for tag in cache_tags or tags(keys)]
            ids = _send(cloudfront, distribution_id, items, deadline_s)
        except cloudfront.exceptions.InvalidArgument:
            paths = list(_paths(keys, targets))
            if not paths:
                raise
            by, ids = "path", _send(cloudfront, distribution_id, paths, deadline_s)
    return Invalidated(distribution_id, len(keys), by, tuple(ids), is_completed=deadline_s > 0)


def invalidated_s(distribution_id: str, since_s: float) -> dict[str, float]:
    """The tags that were invalidated since then, with the time of their last invalidation; both in epoch s.

    It reads the newest 100 invalidations. Raises `AwsMissing`, `NotInvalidated`.
    """
    cloudfront = boto.client("cloudfront")
    found: dict[str, float] = {}
    with boto.aws_errors(NotInvalidated):
        listed = cloudfront.list_invalidations(DistributionId=distribution_id, MaxItems="100")
        for summary in listed["InvalidationList"].get("Items", []):
            created_s = summary["CreateTime"].timestamp()
            if created_s < since_s:
                continue
            one = cloudfront.get_invalidation(DistributionId=distribution_id, Id=summary["Id"])
            for item in one["Invalidation"]["InvalidationBatch"]["Paths"].get("Items", []):
                tag = item.removeprefix("#")
                found[tag] = max(created_s, found.get(tag, 0.0))
    return found


def sender(settings: Settings) -> Callable[[str], Awaitable[None]]:
    """A function for a running CDN that invalidates one key at the settings' distribution.

    It collects the keys of other calls for a moment (`InvalidationBatches`), and does not wait for CloudFront
    to finish. Raises `AwsMissing` now rather than when the first photograph is purged.
    """
    boto.client("cloudfront")
    targets = settings.all_targets

    async def send(keys: Sequence[str], sent: Mapping[str, int]) -> None:
        await asyncio.to_thread(invalidate, settings.distribution, keys, targets, cache_tags=tags(keys, sent))

    return InvalidationBatches(send, clock=time.monotonic, pause=asyncio.sleep).add  # noqa: TID251 - the composition's clock


def _send(cloudfront: Any, distribution_id: str, items: Sequence[str], deadline_s: int) -> Iterable[str]:  # noqa: ANN401 - boto3's client
    ids = []
    for start in range(0, len(items), _MAX_ITEMS):
        batch = items[start : start + _MAX_ITEMS]
        paths = {"Quantity": len(batch), "Items": batch}
        request = {"Paths": paths, "CallerReference": f"galerly-cdn-{uuid.uuid4()}"}
        response = cloudfront.create_invalidation(DistributionId=distribution_id, InvalidationBatch=request)
        ids.append(response["Invalidation"]["Id"])
        if deadline_s:
            cloudfront.get_waiter("invalidation_completed").wait(
                DistributionId=distribution_id,
                Id=ids[-1],
                WaiterConfig={"Delay": _POLL_S, "MaxAttempts": -(-deadline_s // _POLL_S)},
            )
    return ids


def _paths(keys: Iterable[str], targets: Iterable[Target]) -> Iterator[str]:
    """The keys of CloudFront's cache: the paths that the viewer function writes, in its spelling.

    A wildcard does not help: CloudFront takes `*` only at the end of a path, and here the key is at the end.
    """
    targets = tuple(targets)
    for key in keys:
        yield from (format_stored(target, key) for target in targets)
        if targets:
            yield quote(f"/originals/{key}", safe="/")
