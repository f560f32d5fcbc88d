"""The janitor's Lambda handler. Lambda's runtime provides boto3; it is imported when it is first used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import composition
from galerly_cdn.aws.functions.janitor import Janitor

if TYPE_CHECKING:
    from collections.abc import Mapping


def _invalidate(key: str) -> None:
    from galerly_cdn.aws.deploy.invalidation import invalidate  # noqa: PLC0415 - boto3's import time

    invalidate(_stores.settings.distribution, [key], _stores.settings.all_targets)


def _is_overwritten(key: str) -> bool:
    """Whether the bucket keeps an older version or a delete marker of an original.

    Versions are listed in the order of keys, so the versions of this key come before those of keys that
    begin with it (Amazon S3 API Reference, ListObjectVersions).
    """
    import boto3  # noqa: PLC0415 - boto3's import time

    client = boto3.client("s3", endpoint_url=_stores.settings.store_endpoint or None)
    name = _stores.folder + key
    page = client.list_object_versions(Bucket=_stores.bucket, Prefix=name, MaxKeys=2)
    versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    return [version["Key"] for version in versions].count(name) > 1


_runner = asyncio.Runner()
_stores = composition.open_stores()
_janitor = Janitor(
    _stores, invalidate=_invalidate, is_overwritten=_is_overwritten, log=composition.write_log_line
)


def handler(event: Mapping[str, Any], context: Any) -> None:  # noqa: ANN401, ARG001 - Lambda's context is untyped
    """Handle the messages of one event. Raises for the queue to deliver them again."""
    _runner.run(_janitor.handle(event))
