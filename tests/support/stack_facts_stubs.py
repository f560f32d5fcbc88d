"""The AWS calls by which `doctor --stack` reads a stack, with the responses of one that works."""

from __future__ import annotations

import copy
import datetime as dt
import io
import json
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.response import StreamingBody

from tests.support.cloudformation_stubs import ACCOUNT, BUCKET, NOW, described_stack

if TYPE_CHECKING:
    from tests.support.fake_aws import FakeAws

DISTRIBUTION_ARN = f"arn:aws:cloudfront::{ACCOUNT}:distribution/E2EXAMPLE0000"
VIEWER = f"arn:aws:cloudfront::{ACCOUNT}:function/photos-viewer"
DOMAIN = "cdn.example.com"
RESOURCES = {
    "Distribution": "E2EXAMPLE0000",
    "PathOnly": "policy-1",
    "Resizer": "photos-Resizer-1",
    "ResizerLogs": "photos-ResizerLogs-1",
    "Bucket": BUCKET,
    "JanitorFailed": f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/photos-JanitorFailed-1",
}
_FILLERS = {"string": "x", "integer": 1, "long": 1, "boolean": False, "timestamp": NOW}


def _allows(action: str, **more: object) -> dict[str, object]:
    return {
        "Effect": "Allow",
        "Principal": {"Service": "cloudfront.amazonaws.com"},
        "Action": action,
        "Condition": {"ArnLike": {"AWS:SourceArn": DISTRIBUTION_ARN}},
        **more,
    }


class StackResponses:
    """What AWS responds about a stack. A test changes one part of it."""

    def __init__(self) -> None:
        behavior = {
            "FunctionAssociations": {
                "Quantity": 1,
                "Items": [{"EventType": "viewer-request", "FunctionARN": VIEWER}],
            }
        }
        self.status = "UPDATE_COMPLETE"
        self.domain = DOMAIN
        self.distribution: dict[str, Any] = {
            "ARN": DISTRIBUTION_ARN,
            "Status": "Deployed",
            "DistributionConfig": {
                "Enabled": True,
                "PriceClass": "PriceClass_All",
                "Aliases": {"Quantity": 1, "Items": [DOMAIN]},
                "Origins": {
                    "Quantity": 2,
                    "Items": [
                        {"Id": "s3", "S3OriginConfig": {}},
                        {
                            "Id": "resizer",
                            "ConnectionAttempts": 1,
                            "CustomOriginConfig": {"OriginReadTimeout": 30},
                        },
                    ],
                },
                "DefaultCacheBehavior": copy.deepcopy(behavior),
                "CacheBehaviors": {
                    "Quantity": 1,
                    "Items": [{"PathPattern": "/resize/*", **copy.deepcopy(behavior)}],
                },
            },
        }
        self.codes: dict[str, bytes | None] = {"LIVE": b"code", "DEVELOPMENT": b"code"}
        self.function_policy: list[dict[str, object]] | None = [
            _allows("lambda:InvokeFunctionUrl"),
            _allows("lambda:InvokeFunction"),
        ]
        self.bucket_policy = [
            _allows("s3:GetObject", Resource=f"arn:aws:s3:::{BUCKET}/resized/*"),
            _allows("s3:ListBucket", Resource=f"arn:aws:s3:::{BUCKET}"),
        ]
        self.lifetimes = {"MinTTL": 0, "MaxTTL": 31536000}
        self.memory_used_mb: int | None = 800
        self.metrics = {
            "requests": [50_000.0, 10_000.0],
            "ratio": [98.0, 80.0],
            "rate5xx": [0.0, 0.05],
            "rate4xx": [1.0, 2.0],
            "errors": [0.0, 0.0],
            "throttles": [0.0, 0.0],
            "rendered": [1e9, 2e9],
            "queue0": [0.0, 0.0],
        }

    @property
    def config(self) -> dict[str, Any]:
        """The distribution's configuration."""
        config: dict[str, Any] = self.distribution["DistributionConfig"]
        return config

    def expect(self, aws: FakeAws) -> None:
        """Expect every call."""
        self.expect_stack(aws)
        resource = {"ResourceType": "x", "Timestamp": NOW, "ResourceStatus": "CREATE_COMPLETE"}
        listed = [
            {"LogicalResourceId": name, "PhysicalResourceId": value, **resource}
            for name, value in RESOURCES.items()
        ]
        aws.expect(
            "cloudformation", "describe_stack_resources", {"StackName": "photos"}, StackResources=listed
        )
        self._expect_cloudfront(aws)
        self._expect_functions(aws)
        self._expect_metrics(aws)

    def expect_stack(self, aws: FakeAws) -> None:
        """Expect the call that describes the stack."""
        parameters = {"Domain": self.domain, "RenditionGigabytesPerDay": "20"}
        described = described_stack(self.status, parameters)
        aws.expect("cloudformation", "describe_stacks", {"StackName": "photos"}, **described)

    def _expect_cloudfront(self, aws: FakeAws) -> None:
        model: Any = botocore.session.get_session().get_service_model("cloudfront")
        shape = model.operation_model("GetDistribution").output_shape.members["Distribution"]
        described = _completed(shape, self.distribution)
        aws.expect("cloudfront", "get_distribution", {"Id": "E2EXAMPLE0000"}, Distribution=described)
        policy = {
            "Id": "policy-1",
            "LastModifiedTime": NOW,
            "CachePolicyConfig": {"Name": "x", **self.lifetimes},
        }
        aws.expect("cloudfront", "get_cache_policy", {"Id": "policy-1"}, CachePolicy=policy)
        for stage, code in self.codes.items():
            parameters = {"Name": "photos-viewer", "Stage": stage}
            if code is None:
                error = "NoSuchFunctionExists"
                aws.expect_error("cloudfront", "get_function", error, parameters=parameters, status=404)
            else:
                body = StreamingBody(io.BytesIO(code), len(code))
                aws.expect("cloudfront", "get_function", parameters, FunctionCode=body)

    def _expect_functions(self, aws: FakeAws) -> None:
        named = {"FunctionName": "photos-Resizer-1"}
        aws.expect("lambda", "get_function_configuration", named, Timeout=25, MemorySize=1769)
        if self.function_policy is None:
            aws.expect_error(
                "lambda", "get_policy", "ResourceNotFoundException", parameters=named, status=404
            )
        else:
            policy = json.dumps({"Statement": self.function_policy})
            aws.expect("lambda", "get_policy", named, Policy=policy)
        policy = json.dumps({"Statement": self.bucket_policy})
        aws.expect("s3", "get_bucket_policy", {"Bucket": BUCKET}, Policy=policy)
        used = [] if self.memory_used_mb is None else [self.memory_used_mb]
        reports = [f"REPORT RequestId: 1\tMemory Size: 1769 MB\tMax Memory Used: {one} MB\t" for one in used]
        aws.expect("logs", "filter_log_events", None, events=[{"message": one} for one in reports])

    def _expect_metrics(self, aws: FakeAws) -> None:
        times = [NOW, NOW + dt.timedelta(hours=1)]
        results = [
            {"Id": name, "Timestamps": times[: len(values)], "Values": values}
            for name, values in self.metrics.items()
        ]
        aws.expect("cloudwatch", "get_metric_data", None, MetricDataResults=results)


def _completed(shape: Any, given: Any) -> Any:  # noqa: ANN401 - botocore has no types
    """A response with a value for each member that the service's model requires."""
    if shape.type_name == "structure":
        required: dict[str, Any] = {name: {} for name in shape.required_members}
        return {name: _completed(shape.members[name], value) for name, value in {**required, **given}.items()}
    if shape.type_name == "list":
        return [_completed(shape.member, one) for one in given]
    return _FILLERS[shape.type_name] if given == {} else given
