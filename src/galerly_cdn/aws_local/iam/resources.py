"""What lies behind the origins: the bucket and the function, as the template describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from galerly_cdn.aws_local.cloudformation.properties import Property, UnmodelledProperty
from galerly_cdn.aws_local.cloudfront.distribution_properties import FunctionUrl
from galerly_cdn.aws_local.iam import policies as policy
from galerly_cdn.aws_local.iam.policies import BucketPolicy, Permission, PolicyDocument
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.aws_local.cloudformation.stack import Stack


class ByDefault(Property, frozen=True, rename={"sse_algorithm": "SSEAlgorithm"}):
    """With a key of KMS CloudFront would need a permission more, which is not modelled."""

    sse_algorithm: Literal["AES256"]


class EncryptionRule(Property, frozen=True):
    server_side_encryption_by_default: ByDefault


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
    """A bucket: who may do what in it, whether it keeps versions, and tells EventBridge of changes."""

    name: str
    policy: PolicyDocument
    keeps_versions: bool
    tells: bool


class FunctionWithPolicy(Value, frozen=True):
    """A function with a URL that asks for signatures, who may call it, and the distribution that does."""

    arn: str
    function: LambdaFunction
    permissions: tuple[Permission, ...]
    caller_arn: str

    @property
    def name(self) -> str:
        """What Lambda calls it."""
        return self.arn.rpartition(":")[2]


def read_bucket(stack: Stack, domain: str) -> BucketWithPolicy:
    """The bucket of this domain. Raises `UnmodelledProperty`."""
    policies = stack.all(BucketPolicy, "AWS::S3::BucketPolicy")
    for name, told in stack.all(BucketResource, "AWS::S3::Bucket").items():
        if stack.refer(name, "RegionalDomainName") == domain:
            own = stack.identity(name)
            bridge = told.notification_configuration.event_bridge_configuration
            return BucketWithPolicy(
                name=own,
                policy=policy.of_bucket(policies, own),
                keeps_versions=told.versioning_configuration is not None,
                tells=bridge is not None and bridge.event_bridge_enabled,
            )
    raise UnmodelledProperty("Resources", "AWS::S3::Bucket", f"none has the domain {domain}")


def read_function(stack: Stack, caller_arn: str) -> FunctionWithPolicy:
    """The one function that has a URL. Raises `UnmodelledProperty`."""
    urls = list(stack.all(FunctionUrl, "AWS::Lambda::Url").values())
    if len(urls) != 1:
        raise UnmodelledProperty("Resources", "AWS::Lambda::Url", f"one is modelled, not {len(urls)}")
    arn = urls[0].target_function_arn
    functions = stack.all(LambdaFunction, "AWS::Lambda::Function")
    named = {str(stack.refer(name, "Arn")): one for name, one in functions.items()}
    if arn not in named:
        raise UnmodelledProperty("Resources", "AWS::Lambda::Url", f"there is no function {arn}")
    permissions = stack.all(Permission, "AWS::Lambda::Permission").values()
    allowed = tuple(one for one in permissions if one.function_name in {arn, arn.rpartition(":")[2]})
    return FunctionWithPolicy(arn, named[arn], allowed, caller_arn)
