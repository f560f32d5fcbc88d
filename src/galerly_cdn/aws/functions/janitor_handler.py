"""Lambda's entry to the janitor. boto3 is the runtime's own there, and loaded when it is needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import composition
from galerly_cdn.aws.functions.janitor import Janitor

if TYPE_CHECKING:
    from collections.abc import Mapping


def _invalidate(key: str) -> None:
    from galerly_cdn.aws.deploy.invalidation import invalidate  # noqa: PLC0415 - boto3's time

    invalidate(_stores.settings.distribution, [key], _stores.settings.all_targets)


def _is_overwritten(key: str) -> bool:
    """Whether the bucket has kept an older version of an original, or a deletion of one.

    Versions are listed in the order of keys, and this key's stand before those that begin with it
    (Amazon S3 API Reference, ListObjectVersions).
    """
    import boto3  # noqa: PLC0415 - likewise

    client = boto3.client("s3", endpoint_url=_stores.settings.store_endpoint or None)
    name = _stores.folder + key
    page = client.list_object_versions(Bucket=_stores.bucket, Prefix=name, MaxKeys=2)
    kept = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    return [one["Key"] for one in kept].count(name) > 1


_runner = asyncio.Runner()
_stores = composition.open_stores()
_janitor = Janitor(
    _stores, invalidate=_invalidate, is_overwritten=_is_overwritten, tell=composition.write_log_line
)


def handler(event: Mapping[str, Any], context: Any) -> None:  # noqa: ANN401, ARG001 - Lambda's has no types
    """Take the messages of one event. Raises for the queue to bring them again."""
    _runner.run(_janitor.take(event))
