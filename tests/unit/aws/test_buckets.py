"""Tests of the code bucket and the retained buckets, on moto's S3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from galerly_cdn.aws.deploy import buckets
from galerly_cdn.aws.errors import AwsRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "galerly-cdn-code-1"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")


def test_code_bucket_create_is_private_and_stores_objects(s3: Any, tmp_path: Path) -> None:  # noqa: ANN401 - boto3's client
    (tmp_path / "resizer.zip").write_bytes(b"code")
    bucket = buckets.CodeBucket(NAME, buckets.account_id())
    assert not bucket.exists()
    bucket.create()
    assert bucket.exists()
    blocked = s3.get_public_access_block(Bucket=NAME)["PublicAccessBlockConfiguration"]
    assert all(blocked.values())
    assert len(blocked) == 4
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=NAME)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
    assert statement["Resource"] == [f"arn:aws:s3:::{NAME}", f"arn:aws:s3:::{NAME}/*"]
    s3.delete_bucket_policy(Bucket=NAME)  # moto ignores conditions and would deny every request
    assert not bucket.has_object("code/1.zip")
    bucket.put("code/1.zip", tmp_path / "resizer.zip")
    assert bucket.has_object("code/1.zip")
    assert s3.get_object(Bucket=NAME, Key="code/1.zip")["Body"].read() == b"code"
    assert bucket.url("template/1.yaml") == f"https://{NAME}.s3.us-east-1.amazonaws.com/template/1.yaml"


@pytest.mark.usefixtures("s3")
def test_code_bucket_error_has_s3_message(tmp_path: Path) -> None:
    (tmp_path / "resizer.zip").touch()
    with pytest.raises(AwsRefused, match="PutObject: NoSuchBucket: The specified bucket does not exist"):
        buckets.CodeBucket("none", "1").put("code/1.zip", tmp_path / "resizer.zip")


def test_measure_and_erase_include_every_version(s3: Any) -> None:  # noqa: ANN401 - boto3's client
    assert buckets.measure(NAME) is None
    s3.create_bucket(Bucket=NAME)
    s3.put_bucket_versioning(Bucket=NAME, VersioningConfiguration={"Status": "Enabled"})
    for content in (b"old", b"newer"):
        s3.put_object(Bucket=NAME, Key="originals/g/1.jpg", Body=content)
    s3.put_object(Bucket=NAME, Key="originals/g/2.jpg", Body=b"x")
    s3.delete_object(Bucket=NAME, Key="originals/g/2.jpg")
    assert buckets.measure(NAME) == buckets.RetainedBucket(NAME, objects=3, length_bytes=9)
    buckets.erase(NAME)
    assert buckets.measure(NAME) is None


def test_retained_bucket_month_dollars() -> None:
    assert buckets.RetainedBucket(NAME, 1, 100 * 10**9).month_dollars == pytest.approx(2.30)
