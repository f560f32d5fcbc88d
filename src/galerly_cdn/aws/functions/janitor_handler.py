"""The janitor's Lambda handler. Lambda's runtime provides boto3; it is imported when it is first used."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import composition
from galerly_cdn.aws.functions.janitor import Janitor
from galerly_cdn.settings import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_PHOTOGRAPHS = 20
"""More photographs of one gallery in a batch are invalidated by the gallery's tag.

Fewer than for a command: Lambda reads a queue by several pollers, each of which fills a batch of its own.
"""


class _AwsCaches:
    """`Caches` over the bucket's versions and CloudFront's API."""

    def previous_s(self, key: str) -> float | None:
        """Versions are listed by key, the newest first, so those of keys that begin with it come later.

        A deleted version counts by its delete marker (Amazon S3 API Reference, ListObjectVersions).
        """
        import boto3  # noqa: PLC0415 - boto3's import time

        client = boto3.client("s3", endpoint_url=_stores.settings.store_endpoint or None)
        name = _stores.folder + key
        page = client.list_object_versions(Bucket=_stores.bucket, Prefix=name, MaxKeys=3)
        older = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        times = (one["LastModified"] for one in older if one["Key"] == name and not one["IsLatest"])
        return next((one.timestamp() for one in times), None)

    def invalidated_s(self, since_s: float) -> Mapping[str, float]:
        from galerly_cdn.aws.deploy import invalidation  # noqa: PLC0415 - boto3's import time

        return invalidation.invalidated_s(_stores.settings.distribution, since_s)

    def invalidate(self, keys: Sequence[str]) -> None:
        from galerly_cdn.aws.deploy import invalidation  # noqa: PLC0415 - boto3's import time

        tags = invalidation.tags(keys, max_photographs=MAX_PHOTOGRAPHS)
        invalidation.invalidate(
            _stores.settings.distribution, keys, _stores.settings.all_targets, cache_tags=tags
        )


_runner = asyncio.Runner()
_stores = composition.open_stores()
_janitor = Janitor(
    _stores,
    _AwsCaches(),
    rendition_days=load.rendition_days(),
    wall=time.time,  # noqa: TID251 - the composition chooses the clock
    log=composition.write_log_line,
)


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401, ARG001 - Lambda's context is untyped
    """Handle the messages of one event; the result names those that the queue has to deliver again."""
    return _runner.run(_janitor.handle(event))
