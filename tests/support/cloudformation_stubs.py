"""A stack as AWS tells of it: what is asked when it is deployed, looked at, deleted."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.deploy import http_viewer
from galerly_cdn.aws.deploy.http_viewer import ViewerResponse
from tests.support.fake_aws import ANY, Amazon

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
}
NOW = dt.datetime(2026, 11, 25, 12, 30, 45, tzinfo=dt.UTC)


def told(status: str, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A stack, as DescribeStacks tells it."""
    one: dict[str, Any] = {"StackName": "photos", "StackId": ARN, "StackStatus": status, "CreationTime": NOW}
    one["Parameters"] = [
        {"ParameterKey": name, "ParameterValue": value} for name, value in (parameters or {}).items()
    ]
    one["Outputs"] = [{"OutputKey": name, "OutputValue": value} for name, value in OUTPUTS.items()]
    return {"Stacks": [one]}


def is_known(amazon: Amazon, status: str = "", parameters: Mapping[str, str] | None = None) -> None:
    """The account, and the stack of that status; none without one."""
    amazon.expects("sts", "get_caller_identity", {}, Account=ACCOUNT)
    if status:
        amazon.expects(
            "cloudformation", "describe_stacks", {"StackName": "photos"}, **told(status, parameters)
        )
    else:
        message = "Stack with id photos does not exist"
        amazon.refuses("cloudformation", "describe_stacks", "ValidationError", message)


def has_code(amazon: Amazon) -> None:
    amazon.expects("s3", "head_bucket", OWNED)
    amazon.expects("s3", "head_object", None)


def lacks(amazon: Amazon, bucket: str) -> None:
    asked = {"Bucket": bucket, "ExpectedBucketOwner": ACCOUNT}
    amazon.refuses("s3", "head_bucket", "404", "Not Found", asked, status=404)


def has_no_buckets(amazon: Amazon) -> None:
    lacks(amazon, BUCKET)
    lacks(amazon, f"{BUCKET}-logs")


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


def proposes(
    amazon: Amazon,
    kind: str,
    found: Sequence[Mapping[str, Any]] = CHANGES,
    reason: str = "",
    **asked: object,
) -> None:
    """A change set is made: of those changes, or failed for that reason."""
    request = {
        "StackName": "photos",
        "ChangeSetName": ANY,
        "ChangeSetType": kind,
        "TemplateBody": ANY,
        "Parameters": ANY,
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        **asked,
    }
    amazon.expects("cloudformation", "create_change_set", request, Id=CHANGE_SET, StackId=ARN)
    described(amazon, found, reason)


def described(amazon: Amazon, found: Sequence[Mapping[str, Any]] = CHANGES, reason: str = "") -> None:
    amazon.expects(
        "cloudformation",
        "describe_change_set",
        {"ChangeSetName": CHANGE_SET},
        Status="FAILED" if reason else "CREATE_COMPLETE",
        StatusReason=reason,
        ChangeSetId=CHANGE_SET,
        StackId=ARN,
        Changes=[{"Type": "Resource", "ResourceChange": dict(one)} for one in found],
    )


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


def follows(amazon: Amazon, asked: str, *steps: tuple[str, list[dict[str, Any]]]) -> None:
    """The stack is changed, as `asked` says; at every look it has a status and these events."""
    amazon.expects("cloudformation", "describe_stack_events", None, StackEvents=[event(0, "photos", "OLD")])
    amazon.expects("cloudformation", asked, None)
    for status, events in steps:
        amazon.expects("cloudformation", "describe_stacks", {"StackName": ARN}, **told(status))
        listed = [*reversed(events), event(0, "photos", "OLD")]
        amazon.expects("cloudformation", "describe_stack_events", {"StackName": ARN}, StackEvents=listed)


def is_tried(amazon: Amazon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photograph is put and taken away; viewers see what they should."""
    amazon.expects("s3", "put_object", None)
    amazon.expects("s3", "delete_objects", None)
    monkeypatch.setattr(http_viewer, "fetch", Cdn())


class Cdn:
    """What viewers get of a CDN that is well; `instead` is what some beginnings of addresses get."""

    def __init__(self, **instead: ViewerResponse) -> None:
        self._instead = instead
        self._seen: set[str] = set()

    def __call__(self, address: str) -> ViewerResponse:
        for word, seen in self._instead.items():
            if word in address:
                return seen
        if address.startswith("http://"):
            return ViewerResponse(301, {"location": address.replace("http://", "https://", 1)})
        if "801x600" in address or "cloudfront.net/" not in address:
            return ViewerResponse(403, {"x-cache": "Error from cloudfront"})
        if "absent" in address:
            return ViewerResponse(404, {"x-cache": "Error from cloudfront"})
        cache = "Hit" if address in self._seen else "Miss"
        self._seen.add(address)
        return ViewerResponse(200, {"x-cache": f"{cache} from cloudfront"})
