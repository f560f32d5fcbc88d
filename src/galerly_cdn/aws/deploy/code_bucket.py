"""Where does CloudFormation fetch code and large templates from? A bucket of the account, by their hashes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from galerly_cdn.aws.deploy import boto
from galerly_cdn.errors import AwsRefused

if TYPE_CHECKING:
    from pathlib import Path

_POLICY = {
    "Sid": "TlsOnly",
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


def account_id() -> str:
    """The account of the credentials at hand. Raises `AwsRefused`."""
    with boto.aws_errors():
        return str(boto.client("sts").get_caller_identity()["Account"])


class CodeBucket:
    """A bucket that has to be the account's own: one of that name of somebody else would run here.

    Methods raise `AwsRefused`.
    """

    def __init__(self, name: str, account: str) -> None:
        self.name = name
        self._owner = {"Bucket": name, "ExpectedBucketOwner": account}
        self._s3 = boto.client("s3")

    def is_there(self) -> bool:
        """Raises `AwsRefused` for somebody else's."""
        return self._finds("head_bucket")

    def has(self, key: str) -> bool:
        return self._finds("head_object", Key=key)

    def make(self) -> None:
        """Private, and for TLS alone. What lies in it is kept: a rollback asks for the code of before."""
        arns = [f"arn:aws:s3:::{self.name}", f"arn:aws:s3:::{self.name}/*"]
        policy = {"Version": "2012-10-17", "Statement": [{**_POLICY, "Resource": arns}]}
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

    def address(self, key: str) -> str:
        """As CloudFormation takes it for a template."""
        return f"https://{self.name}.s3.{boto.REGION}.amazonaws.com/{key}"

    def _finds(self, method: str, **asked: str) -> bool:
        with boto.aws_errors():
            try:
                getattr(self._s3, method)(**self._owner, **asked)
            except self._s3.exceptions.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == 404:
                    return False
                if status == 403:
                    raise AwsRefused(f"{self.name} is not this account's, or may not be read") from error
                raise
        return True
