"""What does a stack leave behind, what does it cost, and how is it erased? Its two buckets."""

from __future__ import annotations

from typing import Any

from galerly_cdn.aws.deploy import boto
from galerly_cdn.errors import AwsRefused
from galerly_cdn.serialization import Value

GIGABYTE_MONTH_DOLLARS = 0.023
"""S3 Standard in us-east-1, first 50 TB, as listed on 2026-11-23."""


class RetainedBucket(Value, frozen=True):
    """A bucket that stays: its objects and bytes, older versions among them."""

    bucket: str
    objects: int
    length_bytes: int

    @property
    def month_dollars(self) -> float:
        return self.length_bytes / 1e9 * GIGABYTE_MONTH_DOLLARS


def measure(bucket: str) -> RetainedBucket | None:
    """None if there is no such bucket. Raises `AwsRefused`."""
    s3 = boto.client("s3")
    objects = length_bytes = 0
    with boto.aws_errors():
        try:
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                found = page.get("Versions", [])
                objects += len(found)
                length_bytes += sum(one["Size"] for one in found)
        except s3.exceptions.NoSuchBucket:
            return None
    return RetainedBucket(bucket, objects, length_bytes)


def erase(bucket: str) -> None:
    """Delete every version of every object, then the bucket. Raises `AwsRefused`."""
    s3 = boto.client("s3")
    with boto.aws_errors():
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            found: list[dict[str, Any]] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            listed = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
            if not listed:
                continue
            told = s3.delete_objects(Bucket=bucket, Delete={"Objects": listed, "Quiet": True})
            for failed in told.get("Errors", []):
                raise AwsRefused(f"{bucket}/{failed.get('Key')}: {failed.get('Message')}")
        s3.delete_bucket(Bucket=bucket)
