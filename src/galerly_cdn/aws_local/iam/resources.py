"""Reads the bucket and the Lambda function behind the origins, with their resource policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from galerly_cdn.aws_local.cloudformation.properties import Property, UnmodelledProperty
from galerly_cdn.aws_local.cloudfront.distribution_properties import FunctionUrl
from galerly_cdn.aws_local.iam import policies as policy
from galerly_cdn.aws_local.iam.policies import BucketPolicy, Permission, PolicyDocument
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.aws_local.cloudformation.stack import Stack


class ServerSideEncryptionByDefault(Property, frozen=True, rename={"sse_algorithm": "SSEAlgorithm"}):
    """Encryption with a KMS key would need another permission for CloudFront, which is not modelled."""

    sse_algorithm: Literal["AES256"]


class EncryptionRule(Property, frozen=True):
    server_side_encryption_by_default: ServerSideEncryptionByDefault


class BucketEncryption(Property, frozen=True):
    server_side_encryption_configuration: tuple[EncryptionRule, ...]


class Versioning(Property, frozen=True):
    status: Literal["Enabled"]


class EventBridgeConfiguration(Property, frozen=True):
    event_bridge_enabled: bool


class NotificationConfiguration(Property, frozen=True):
    event_bridge_configuration: EventBridgeConfiguration | None = None


class BucketResource(Property, frozen=True):
    """AWS::S3::Bucket."""

    bucket_name: str = ""
    bucket_encryption: BucketEncryption | None = None
    versioning_configuration: Versioning | None = None
    notification_configuration: NotificationConfiguration = NotificationConfiguration()


class Environment(Property, frozen=True):
    variables: dict[str, str]


class LoggingConfig(Property, frozen=True):
    log_group: str


class LambdaFunction(Property, frozen=True, kw_only=True):
    """AWS::Lambda::Function."""

    handler: str
    role: str
    logging_config: LoggingConfig
    memory_size_mb: int
    timeout_s: float
    environment: Environment
    reserved_concurrent_executions: int | None = None


class BucketWithPolicy(Value, frozen=True):
    """A bucket: its policy, whether it keeps versions, and whether it sends events to EventBridge."""

    name: str
    policy: PolicyDocument
    is_versioned: bool
    sends_events: bool


class FunctionWithPolicy(Value, frozen=True):
    """A function with a URL that requires signatures, its permissions, and the ARN of the distribution."""

    arn: str
    function: LambdaFunction
    permissions: tuple[Permission, ...]
    caller_arn: str

    @property
    def name(self) -> str:
        """The function's name in Lambda."""
        return self.arn.rpartition(":")[2]


def read_bucket(stack: Stack, domain: str) -> BucketWithPolicy:
    """The bucket with this domain. Raises `UnmodelledProperty`."""
    policies = stack.all(BucketPolicy, "AWS::S3::BucketPolicy")
    for name, properties in stack.all(BucketResource, "AWS::S3::Bucket").items():
        if stack.refer(name, "RegionalDomainName") == domain:
            bucket_name = stack.identity(name)
            bridge = properties.notification_configuration.event_bridge_configuration
            return BucketWithPolicy(
                name=bucket_name,
                policy=policy.bucket_policy(policies, bucket_name),
                is_versioned=properties.versioning_configuration is not None,
                sends_events=bridge is not None and bridge.event_bridge_enabled,
            )
    raise UnmodelledProperty("Resources", "AWS::S3::Bucket", f"none has the domain {domain}")


def read_function(stack: Stack, caller_arn: str) -> FunctionWithPolicy:
    """The function that has a URL. Raises `UnmodelledProperty` unless there is exactly one."""
    urls = list(stack.all(FunctionUrl, "AWS::Lambda::Url").values())
    if len(urls) != 1:
        raise UnmodelledProperty("Resources", "AWS::Lambda::Url", f"one is modelled, not {len(urls)}")
    arn = urls[0].target_function_arn
    functions = stack.all(LambdaFunction, "AWS::Lambda::Function")
    by_arn = {str(stack.refer(name, "Arn")): function for name, function in functions.items()}
    if arn not in by_arn:
        raise UnmodelledProperty("Resources", "AWS::Lambda::Url", f"there is no function {arn}")
    permissions = stack.all(Permission, "AWS::Lambda::Permission").values()
    names = {arn, arn.rpartition(":")[2]}
    granted = tuple(permission for permission in permissions if permission.function_name in names)
    return FunctionWithPolicy(arn, by_arn[arn], granted, caller_arn)
