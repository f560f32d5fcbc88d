"""How does CloudFront forget a photograph's pictures? By its cache tag, and where tags are refused by path.

One tag is on everything that was made of an original, whatever its size and format, and on its errors
(CloudFront Developer Guide, "Invalidating content by cache tags"); it is billed as one path.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from galerly_cdn.aws.deploy import boto
from galerly_cdn.errors import NotInvalidated
from galerly_cdn.http.urls import cache_tag
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from galerly_cdn.model import Target
    from galerly_cdn.settings.table import Settings

DEADLINE_S = 300
"""How long a command waits. By AWS's word 25 s (P95) pass until all locations have reported."""
_AT_ONCE = 1000
"""In one request. CloudFront has at most 3000 in progress ("Concurrent invalidation request maximum")."""
_POLL_S = 2


class Invalidated(Value, frozen=True):
    """What CloudFront was told to forget: the IDs of its invalidations, and whether all locations have."""

    distribution: str
    keys: int
    by: Literal["tag", "path"]
    ids: tuple[str, ...]
    is_completed: bool


def invalidate(
    distribution_id: str, keys: Sequence[str], targets: Iterable[Target] = (), *, deadline_s: int = 0
) -> Invalidated:
    """Drop what was made of `keys` from CloudFront's caches; wait at most `deadline_s` for it, 0 not at all.

    `targets` are all that addresses may ask for: with them, CloudFront is told by path where it refuses
    tags. Raises `AwsMissing`, and `NotInvalidated`: refused, unreachable, or not completed in time.
    """
    cloudfront = boto.client("cloudfront")
    by: Literal["tag", "path"] = "tag"
    with boto.aws_errors(NotInvalidated):
        try:
            ids = _send(cloudfront, distribution_id, [f"#{cache_tag(key)}" for key in keys], deadline_s)
        except cloudfront.exceptions.InvalidArgument:
            paths = list(_paths(keys, targets))
            if not paths:
                raise
            by, ids = "path", _send(cloudfront, distribution_id, paths, deadline_s)
    return Invalidated(distribution_id, len(keys), by, tuple(ids), is_completed=deadline_s > 0)


def sender(settings: Settings) -> Callable[[str], Awaitable[None]]:
    """For a CDN that runs: drops one key from the settings' distribution, and does not wait for it.

    Raises `AwsMissing` at once, not when the first photograph is purged.
    """
    boto.client("cloudfront")
    targets = settings.all_targets

    async def send(key: str) -> None:
        await asyncio.to_thread(invalidate, settings.distribution, [key], targets)

    return send


def _send(cloudfront: Any, distribution_id: str, items: Sequence[str], deadline_s: int) -> Iterable[str]:  # noqa: ANN401 - boto3's
    ids = []
    for start in range(0, len(items), _AT_ONCE):
        batch = items[start : start + _AT_ONCE]
        paths = {"Quantity": len(batch), "Items": batch}
        asked = {"Paths": paths, "CallerReference": f"galerly-cdn-{uuid.uuid4()}"}
        made = cloudfront.create_invalidation(DistributionId=distribution_id, InvalidationBatch=asked)
        ids.append(made["Invalidation"]["Id"])
        if deadline_s:
            cloudfront.get_waiter("invalidation_completed").wait(
                DistributionId=distribution_id,
                Id=ids[-1],
                WaiterConfig={"Delay": _POLL_S, "MaxAttempts": -(-deadline_s // _POLL_S)},
            )
    return ids


def _paths(keys: Iterable[str], targets: Iterable[Target]) -> Iterator[str]:
    """The cache's own keys: the paths that the viewer function writes, spelt as it spells them.

    No `*` will do: it may only end a path, and a key ends it here.
    """
    targets = tuple(targets)
    for key in keys:
        yield from (quote(f"/resized/{target.rendition_key(key)}", safe="/") for target in targets)
        if targets:
            yield quote(f"/originals/{key}", safe="/")
