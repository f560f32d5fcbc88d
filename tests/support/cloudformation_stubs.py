"""Expected AWS calls of a stack that is read, deployed or deleted, and a fake deployed CDN."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.deploy import http_viewer
from galerly_cdn.aws.deploy.http_viewer import ViewerResponse
from tests.support.fake_aws import ANY, FakeAws

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

ACCOUNT = "123456789012"
ARN = f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/photos/1"
CHANGE_SET = f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:changeSet/galerly-1/1"
CODE_BUCKET = f"galerly-cdn-code-{ACCOUNT}"
BUCKET = f"photos-{ACCOUNT}"
OWNED = {"Bucket": CODE_BUCKET, "ExpectedBucketOwner": ACCOUNT}
OUTPUTS = {
    "Address": "https://cdn.example.com",
    "CloudFrontAddress": "d1.cloudfront.net",
    "DistributionId": "E2EXAMPLE0000",
    "Store": f"s3://{BUCKET}",
    "FunctionUrl": "https://x.lambda-url.us-east-1.on.aws/",
    "WarmFunction": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:photos-PrewarmFunction-1",
    "WarmRole": f"arn:aws:iam::{ACCOUNT}:role/photos-WarmRole-1",
    "WarmBucket": f"{BUCKET}-logs",
}
NOW = dt.datetime(2026, 11, 25, 12, 30, 45, tzinfo=dt.UTC)


def described_stack(
    status: str, parameters: Mapping[str, str] | None = None, *, is_protected: bool = False
) -> dict[str, Any]:
    """The response of DescribeStacks for a stack of this status."""
    stack: dict[str, Any] = {
        "StackName": "photos",
        "StackId": ARN,
        "StackStatus": status,
        "CreationTime": NOW,
        "EnableTerminationProtection": is_protected,
    }
    stack["Parameters"] = [
        {"ParameterKey": name, "ParameterValue": value} for name, value in (parameters or {}).items()
    ]
    stack["Outputs"] = [{"OutputKey": name, "OutputValue": value} for name, value in OUTPUTS.items()]
    return {"Stacks": [stack]}


def expect_stack(aws: FakeAws, status: str = "", parameters: Mapping[str, str] | None = None) -> None:
    """The account and its stack are read; without a status there is no stack."""
    aws.expect("sts", "get_caller_identity", {}, Account=ACCOUNT)
    if status:
        aws.expect(
            "cloudformation",
            "describe_stacks",
            {"StackName": "photos"},
            **described_stack(status, parameters),
        )
    else:
        message = "Stack with id photos does not exist"
        aws.expect_error("cloudformation", "describe_stacks", "ValidationError", message)


def expect_code(aws: FakeAws, files: int = 2) -> None:
    """The code bucket exists, and has the code and the templates."""
    aws.expect("s3", "head_bucket", OWNED)
    for _ in range(files):
        aws.expect("s3", "head_object", None)


def expect_missing_bucket(aws: FakeAws, bucket: str) -> None:
    parameters = {"Bucket": bucket, "ExpectedBucketOwner": ACCOUNT}
    aws.expect_error("s3", "head_bucket", "404", "Not Found", parameters, status=404)


def expect_no_buckets(aws: FakeAws) -> None:
    expect_missing_bucket(aws, BUCKET)
    expect_missing_bucket(aws, f"{BUCKET}-logs")


CHANGES: list[Mapping[str, Any]] = [
    {"Action": "Add", "LogicalResourceId": "Alarms", "ResourceType": "AWS::SNS::Topic"},
    {
        "Action": "Modify",
        "Replacement": "True",
        "LogicalResourceId": "Viewer",
        "ResourceType": "AWS::CloudFront::Function",
        "Details": [{"Target": {"Attribute": "Properties", "Name": "Name"}}],
    },
]


def expect_change_set(
    aws: FakeAws,
    kind: str,
    changes: Sequence[Mapping[str, Any]] = CHANGES,
    reason: str = "",
    **parameters: object,
) -> None:
    """A change set is created with these changes, or fails for this reason."""
    request = {
        "StackName": "photos",
        "ChangeSetName": ANY,
        "ChangeSetType": kind,
        "TemplateURL": ANY,
        "Parameters": ANY,
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        **parameters,
    }
    aws.expect("cloudformation", "create_change_set", request, Id=CHANGE_SET, StackId=ARN)
    expect_described_change_set(aws, changes, reason)


def expect_described_change_set(
    aws: FakeAws, changes: Sequence[Mapping[str, Any]] = CHANGES, reason: str = ""
) -> None:
    aws.expect(
        "cloudformation",
        "describe_change_set",
        {"ChangeSetName": CHANGE_SET},
        Status="FAILED" if reason else "CREATE_COMPLETE",
        StatusReason=reason,
        ChangeSetId=CHANGE_SET,
        StackId=ARN,
        Changes=[{"Type": "Resource", "ResourceChange": dict(change)} for change in changes],
    )


def expect_declined(aws: FakeAws, status: str, *others: str, is_protected: bool = False) -> None:
    """A change set is deleted; then the stack has this status, and `others` are its change sets."""
    aws.expect("cloudformation", "delete_change_set", {"ChangeSetName": CHANGE_SET})
    aws.expect(
        "cloudformation",
        "describe_stacks",
        {"StackName": ARN},
        **described_stack(status, is_protected=is_protected),
    )
    if status == "REVIEW_IN_PROGRESS" and not is_protected:
        listed = [{"ChangeSetId": arn} for arn in (CHANGE_SET, *others)]
        aws.expect("cloudformation", "list_change_sets", {"StackName": ARN}, Summaries=listed)


def expect_protection(aws: FakeAws, *, is_protected: bool) -> None:
    request = {"StackName": ARN, "EnableTerminationProtection": is_protected}
    aws.expect("cloudformation", "update_termination_protection", request)


def drift(bucket: str, drifted: str = "") -> dict[str, Any]:
    """CloudFormation's comparison of a bucket that has no versioning, if it is `drifted`."""
    property_difference = {
        "PropertyPath": "/VersioningConfiguration",
        "ExpectedValue": "Enabled",
        "ActualValue": "null",
        "DifferenceType": "REMOVE",
    }
    return {
        "StackId": "1",
        "LogicalResourceId": bucket,
        "ResourceType": "AWS::S3::Bucket",
        "StackResourceDriftStatus": "MODIFIED" if bucket == drifted else "IN_SYNC",
        "Timestamp": 0,
        "PropertyDifferences": [property_difference] if bucket == drifted else [],
    }


def event(number: int, resource: str, status: str, reason: str = "") -> dict[str, Any]:
    return {
        "StackId": ARN,
        "StackName": "photos",
        "EventId": f"{number}",
        "Timestamp": NOW,
        "ResourceStatus": status,
        "ResourceType": "AWS::S3::Bucket",
        "LogicalResourceId": resource,
        "ResourceStatusReason": reason,
    }


def expect_operation(
    aws: FakeAws, method: str, *steps: tuple[str, list[dict[str, Any]]], before: str = "UPDATE_COMPLETE"
) -> None:
    """The stack is changed by `method`; each step is the status and the events of one poll.

    `before` is its status before a change set is executed; a new stack is protected then.
    """
    if method == "execute_change_set":
        aws.expect("cloudformation", "describe_stacks", {"StackName": ARN}, **described_stack(before))
        if before == "REVIEW_IN_PROGRESS":
            expect_protection(aws, is_protected=True)
    aws.expect("cloudformation", "describe_stack_events", None, StackEvents=[event(0, "photos", "OLD")])
    aws.expect("cloudformation", method, None)
    for status, events in steps:
        aws.expect("cloudformation", "describe_stacks", {"StackName": ARN}, **described_stack(status))
        listed = [*reversed(events), event(0, "photos", "OLD")]
        aws.expect("cloudformation", "describe_stack_events", {"StackName": ARN}, StackEvents=listed)


def expect_smoke_test(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoke test uploads and deletes a photograph; all its requests succeed."""
    aws.expect("s3", "put_object", None)
    aws.expect("s3", "delete_objects", None)
    monkeypatch.setattr(http_viewer, "fetch", FakeCdn())


class FakeCdn:
    """The responses of a working CDN; `instead` are other responses, by a part of the address."""

    def __init__(self, **instead: ViewerResponse) -> None:
        self._instead = instead
        self._requested: set[str] = set()

    def __call__(self, address: str) -> ViewerResponse:
        for part, response in self._instead.items():
            if part in address:
                return response
        if address.startswith("http://"):
            return ViewerResponse(301, {"location": address.replace("http://", "https://", 1)})
        if "801x600" in address or "cloudfront.net/" not in address:
            return ViewerResponse(403, {"x-cache": "Error from cloudfront"})
        if "absent" in address:
            return ViewerResponse(404, {"x-cache": "Error from cloudfront"})
        cache = "Hit" if address in self._requested else "Miss"
        self._requested.add(address)
        return ViewerResponse(200, {"x-cache": f"{cache} from cloudfront"})
