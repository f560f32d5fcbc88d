"""Starts a whole stack: CloudFront, the Lambda functions with their roles, and the events of the bucket.

`cloudfront_stack` starts CloudFront. This module adds the functions, which AWS's runtime client runs in
processes of their own. A function reaches S3 and CloudFront's API only by addresses that check its role. The
bucket's events reach the functions by rules and queues.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from galerly_cdn.aws_local import cloudfront_stack
from galerly_cdn.aws_local.cloudformation.stack import REGION
from galerly_cdn.aws_local.cloudfront.invalidation_api import InvalidationApi
from galerly_cdn.aws_local.functions import event_rules
from galerly_cdn.aws_local.functions.function_url import FunctionUrl
from galerly_cdn.aws_local.functions.runtime import Function, Runtime
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.http_client import HttpClient
from galerly_cdn.aws_local.s3 import versitygw
from galerly_cdn.aws_local.s3.role_check import RoleCheck
from galerly_cdn.errors import SettingsError
from galerly_cdn.render.pool import fork_server_process
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from galerly_cdn.aws_local.cloudfront_stack import Deployment, LocalCloudFront, Plan
    from galerly_cdn.aws_local.functions.event_rules import EventBus
    from galerly_cdn.aws_local.functions.function_url import Invocable
    from galerly_cdn.aws_local.http.origin_exchange import Responder
    from galerly_cdn.aws_local.iam.resources import BucketWithPolicy, FunctionWithPolicy
    from galerly_cdn.aws_local.iam.roles import FunctionWithRole
    from galerly_cdn.aws_local.s3.notifications import Notifications

_CONNECTION_TIMEOUT_S = 5.0


class FunctionCode(Value, frozen=True):
    """The folder with the functions' code: the unpacked package, or the sources of a checkout."""

    root: str


@dataclass(frozen=True)
class RunningStack:
    """A running stack. Functions and role checks are by logical name."""

    cloudfront: LocalCloudFront
    api_address: str
    """The address of CloudFront's API, for the account's owner."""
    functions: Mapping[str, Runtime]
    role_checks: Mapping[str, RoleCheck]
    event_bus: EventBus

    @property
    def resizer(self) -> Runtime:
        """The function with the URL."""
        return _function_named(self.functions, self.cloudfront.plan.function.name)


@asynccontextmanager
async def start(
    deployment: Deployment,
    code: FunctionCode,
    *,
    notifications: Notifications | None = None,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the default clock
    record: Callable[[dict[str, str]], None] = lambda _: None,
) -> AsyncIterator[RunningStack]:
    """Runs a stack until the block ends.

    Events come from `notifications`, or from calls of `event_bus.publish`. The caller delivers them by
    `event_bus.deliver_due` or `event_bus.run`. Raises what `cloudfront_stack.start` raises, and
    `SettingsError` if the S3 server does not support versioning.
    """
    functions: dict[str, Runtime] = {}

    def function_url(function: FunctionWithPolicy) -> Responder:
        return _function_url(function, _LateFunction(functions, function.name), deployment)

    async with (
        cloudfront_stack.start(deployment, function_url, clock=clock, record=record) as cloudfront,
        AsyncExitStack() as servers,
    ):
        plan = cloudfront.plan
        (bucket,) = plan.buckets.values()
        await asyncio.to_thread(_enable_versioning, bucket, deployment)
        api = InvalidationApi(cloudfront.cache, plan.distribution, deployment.identity, clock)
        address = await servers.enter_async_context(api_server.listen(api.endpoint()))
        role_checks = _make_role_checks(plan, bucket, deployment)
        for name, function in plan.functions.items():
            s3 = await servers.enter_async_context(api_server.listen(role_checks[name]))
            endpoint = api.endpoint(function.role.allows)
            cloudfront_api = await servers.enter_async_context(api_server.listen(endpoint))
            configured = configure_function(function, deployment, code, s3=s3, cloudfront_api=cloudfront_api)
            functions[name] = Runtime(configured)
            servers.push_async_callback(functions[name].close)
        event_bus = event_rules.start(plan.event_flow, functions, plan.event_buckets, clock)
        if notifications:
            notifications.publish = event_bus.publish
        yield RunningStack(cloudfront, address, functions, role_checks, event_bus)


def _make_role_checks(plan: Plan, bucket: BucketWithPolicy, deployment: Deployment) -> dict[str, RoleCheck]:
    """The role check of each function by logical name, each with an S3 client of its own."""
    return {
        name: RoleCheck(bucket, function.role, HttpClient(deployment.s3_endpoint, _CONNECTION_TIMEOUT_S))
        for name, function in plan.functions.items()
    }


def _function_url(function: FunctionWithPolicy, runtime: Invocable, deployment: Deployment) -> FunctionUrl:
    """The resizer's URL, which CloudFront calls."""
    identity = deployment.identity
    return FunctionUrl(
        runtime,
        permissions=function.permissions,
        credentials=Credentials(identity.access_key, identity.secret_key),
        region=REGION,
        caller_arn=function.caller_arn,
    )


@dataclass(frozen=True)
class _LateFunction:
    """A function by its name, looked up when it is invoked: CloudFront starts before the functions."""

    functions: Mapping[str, Runtime]
    name: str

    async def invoke(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Raises what `Runtime.invoke` raises."""
        return await _function_named(self.functions, self.name).invoke(event)


def _function_named(functions: Mapping[str, Runtime], name: str) -> Runtime:
    """The function with this name in Lambda."""
    return next(runtime for runtime in functions.values() if runtime.function.name == name)


def configure_function(
    function: FunctionWithRole,
    deployment: Deployment,
    code: FunctionCode,
    *,
    s3: str,
    cloudfront_api: str,
) -> Function:
    """The function's configuration, with the addresses of its S3 (or the folder) and of CloudFront's API."""
    folder = deployment.folder
    store = {"GALERLY_STORE": folder} if folder else {"GALERLY_STORE_ENDPOINT": s3}
    return Function(
        name=function.name,
        handler=function.properties.handler,
        root=code.root,
        environment={
            **fork_server_process.ENVIRONMENT,
            **function.properties.environment.variables,
            **store,
            "AWS_ENDPOINT_URL_CLOUDFRONT": cloudfront_api,
            "AWS_ACCESS_KEY_ID": deployment.identity.access_key,
            "AWS_SECRET_ACCESS_KEY": deployment.identity.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        },
        timeout_s=function.properties.timeout_s,
        memory_mb=function.properties.memory_size_mb,
        concurrency=function.properties.reserved_concurrent_executions or 10,
        may_log=function.may_log,
    )


def _enable_versioning(bucket: BucketWithPolicy, deployment: Deployment) -> None:
    """Enables versioning in the S3 server's bucket if the template does. A folder has no versions.

    Raises `SettingsError` if the server does not support it.
    """
    if deployment.folder or not bucket.is_versioned:
        return
    client = versitygw.s3_client(deployment.s3_endpoint, deployment.identity)
    try:
        client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    except (BotoCoreError, ClientError) as error:
        raise SettingsError(
            [f"the S3 server cannot enable versioning of the bucket {bucket.name}: {error}"]
        ) from error
    finally:
        client.close()
