"""The S3 buckets of a deployment: the code bucket, and the buckets that stay when the stack is deleted."""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.deploy import boto
from galerly_cdn.aws.errors import AwsRefused
from galerly_cdn.insight.prices import packaged_prices
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

_ERASING_THREADS = 8
"""S3 allows 3500 deletions a second for a prefix, which three requests of 1000 objects reach."""
_MAX_ERASURES = 5
_TLS_ONLY = {
    "Sid": "TlsOnly",
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


def account_id() -> str:
    """The account of the credentials in use. Raises `AwsRefused`."""
    with boto.aws_errors():
        return str(boto.client("sts").get_caller_identity()["Account"])


class CodeBucket:
    """The bucket from which CloudFormation fetches code and large templates, stored under their hashes.

    Every request names the account as the expected owner: the bucket's name can be guessed, and code from a
    bucket of another account would run in this one. Methods raise `AwsRefused`.
    """

    def __init__(self, name: str, account: str) -> None:
        self.name = name
        self._owner = {"Bucket": name, "ExpectedBucketOwner": account}
        self._s3 = boto.client("s3")

    def exists(self) -> bool:
        """Whether the account has this bucket. Raises `AwsRefused` for one of another account."""
        return self._exists("head_bucket")

    def has_object(self, key: str) -> bool:
        return self._exists("head_object", Key=key)

    def create(self) -> None:
        """Create it private and for TLS only. Its objects never expire: a rollback needs older code."""
        arns = [f"arn:aws:s3:::{self.name}", f"arn:aws:s3:::{self.name}/*"]
        policy = {"Version": "2012-10-17", "Statement": [{**_TLS_ONLY, "Resource": arns}]}
        blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
        with boto.aws_errors():
            self._s3.create_bucket(Bucket=self.name, ObjectOwnership="BucketOwnerEnforced")
            self._s3.put_public_access_block(
                **self._owner, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True)
            )
            self._s3.put_bucket_policy(**self._owner, Policy=json.dumps(policy))

    def put(self, key: str, file: Path) -> None:
        with boto.aws_errors(), file.open("rb") as body:
            self._s3.put_object(**self._owner, Key=key, Body=body)

    def url(self, key: str) -> str:
        """An object's URL, as CloudFormation takes it for a template."""
        return f"https://{self.name}.s3.{boto.REGION}.amazonaws.com/{key}"

    def _exists(self, method: str, **parameters: str) -> bool:
        with boto.aws_errors():
            try:
                getattr(self._s3, method)(**self._owner, **parameters)
            except self._s3.exceptions.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == 404:
                    return False
                if status == 403:
                    raise AwsRefused(
                        f"the bucket {self.name} is not this account's, or these credentials may not read it"
                    ) from error
                raise
        return True


class RetainedBucket(Value, frozen=True):
    """A bucket that stays when its stack is deleted; objects and bytes include older versions."""

    bucket: str
    objects: int
    length_bytes: int

    @property
    def month_dollars(self) -> float:
        """The price of storing it for a month at S3's list price."""
        return packaged_prices()["s3-storage"].amount_usd(0, self.length_bytes / 1e9)


def measure(bucket: str) -> RetainedBucket | None:
    """Count a bucket's objects and bytes; None if there is no such bucket. Raises `AwsRefused`."""
    s3 = boto.client("s3")
    objects = length_bytes = 0
    with boto.aws_errors():
        try:
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                versions = page.get("Versions", [])
                objects += len(versions)
                length_bytes += sum(version["Size"] for version in versions)
        except s3.exceptions.NoSuchBucket:
            return None
    return RetainedBucket(bucket, objects, length_bytes)


def erase(bucket: str, on_erased: Callable[[int], object] = lambda _count: None) -> None:
    """Delete every version of every object, then the bucket.

    Several requests run at once; `on_erased` is called with the number of versions deleted so far. Access
    logs are delivered late: a bucket that is filled again is erased again. Raises `AwsRefused`.
    """
    s3 = boto.client("s3")
    erased = 0
    for attempt in range(_MAX_ERASURES):
        for count in _erase_versions(s3, bucket):
            erased += count
            on_erased(erased)
        with boto.aws_errors():
            try:
                s3.delete_bucket(Bucket=bucket)
            except s3.exceptions.ClientError as error:
                if boto.error_code(error) != "BucketNotEmpty" or attempt + 1 == _MAX_ERASURES:
                    raise
            else:
                return


def _erase_versions(s3: Any, bucket: str) -> Iterator[int]:  # noqa: ANN401 - boto3's client
    """Delete the versions page by page; the number of each page. Raises `AwsRefused`."""
    with boto.aws_errors(), ThreadPoolExecutor(_ERASING_THREADS) as threads:
        deletions: deque[Future[int]] = deque()
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            versions: list[dict[str, Any]] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if versions:
                deletions.append(threads.submit(_erase_page, s3, bucket, versions))
            if len(deletions) > 2 * _ERASING_THREADS:
                yield deletions.popleft().result()
        for deletion in deletions:
            yield deletion.result()


def _erase_page(s3: Any, bucket: str, versions: Sequence[Mapping[str, Any]]) -> int:  # noqa: ANN401 - boto3's client
    objects = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]
    result = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    for failed in result.get("Errors", []):
        raise AwsRefused(f"{bucket}/{failed.get('Key')}: {failed.get('Message')}")
    return len(objects)
