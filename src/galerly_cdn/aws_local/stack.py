"""The whole of a deployed stack on one machine: CloudFront, bucket, functions, and what leads to them.

`app` has CloudFront; this adds the functions, run by AWS's own runtime client in processes of their own, each
behind a guard that lets it do what its role may, and the way from a change in the bucket to them.
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
from galerly_cdn.aws_local.functions import event_rules as events
from galerly_cdn.aws_local.functions.function_url import FunctionUrl
from galerly_cdn.aws_local.functions.runtime import Function, Runtime
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.http_client import HttpClient
from galerly_cdn.aws_local.s3 import versitygw
from galerly_cdn.aws_local.s3.role_check import RoleCheck
from galerly_cdn.errors import SettingsError
from galerly_cdn.render.pool import process
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from galerly_cdn.aws_local.cloudfront_stack import Deployment, LocalCloudFront
    from galerly_cdn.aws_local.functions.event_rules import Deliveries
    from galerly_cdn.aws_local.functions.function_url import Invocable
    from galerly_cdn.aws_local.http.origin_exchange import Responder
    from galerly_cdn.aws_local.iam.resources import BucketWithPolicy, FunctionWithPolicy
    from galerly_cdn.aws_local.iam.roles import FunctionWithRole
    from galerly_cdn.aws_local.s3.notifications import Notifications

_CONNECT_S = 5.0


class FunctionCode(Value, frozen=True):
    """Where the functions' code lies: the unpacked package, or the sources."""

    root: str


@dataclass(frozen=True)
class RunningStack:
    """What runs: CloudFront, the functions with their guards by logical names, and the way to them.

    `control` is the address of CloudFront's own API.
    """

    cloud: LocalCloudFront
    control: str
    functions: Mapping[str, Runtime]
    guards: Mapping[str, RoleCheck]
    events: Deliveries

    @property
    def resizer(self) -> Runtime:
        """The function behind the URL."""
        return _named(self.functions, self.cloud.plan.function.name)


@asynccontextmanager
async def start(
    deployment: Deployment,
    code: FunctionCode,
    *,
    notifications: Notifications | None = None,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the rim
    record: Callable[[dict[str, str]], None] = lambda _: None,
) -> AsyncIterator[RunningStack]:
    """A chain, until the block ends. Raises as `app.start` does.

    `notifications` are what the S3 server posts; without them changes are told by `events.publish`. What is
    due by the clock is brought by `events.settle`, or by `events.run` as long as that runs.
    """
    functions: dict[str, Runtime] = {}

    def resizer(guarded: FunctionWithPolicy) -> Responder:
        return _url(guarded, _Named(functions, guarded.name), deployment)

    async with (
        cloudfront_stack.start(deployment, resizer, clock=clock, record=record) as cloud,
        AsyncExitStack() as rest,
    ):
        plan = cloud.plan
        (own,) = plan.buckets.values()
        await asyncio.to_thread(_prepare, own, deployment)
        control = InvalidationApi(cloud.cache, plan.distribution, deployment.identity, clock)
        address = await rest.enter_async_context(api_server.listen(control.door()))
        guards = {
            name: RoleCheck(own, one.role, HttpClient(deployment.s3_endpoint, _CONNECT_S))
            for name, one in plan.functions.items()
        }
        for name, one in plan.functions.items():
            store = await rest.enter_async_context(api_server.listen(guards[name]))
            api = await rest.enter_async_context(api_server.listen(control.door(one.role.may)))
            functions[name] = Runtime(function(one, deployment, code, store=store, api=api))
            rest.push_async_callback(functions[name].close)
        deliveries = events.start(plan.flow, functions, frozenset({own.name} if own.tells else ()), clock)
        if notifications:
            notifications.publish = deliveries.publish
        yield RunningStack(cloud, address, functions, guards, deliveries)


def _url(guarded: FunctionWithPolicy, invoked: Invocable, deployment: Deployment) -> FunctionUrl:
    """The URL of the function that renders, asked by CloudFront."""
    identity = deployment.identity
    return FunctionUrl(
        invoked,
        permissions=guarded.permissions,
        credentials=Credentials(identity.access_key, identity.secret_key),
        region=REGION,
        caller_arn=guarded.caller_arn,
    )


@dataclass(frozen=True)
class _Named:
    """A function that is there when it is invoked: it starts after what asks it."""

    functions: Mapping[str, Runtime]
    name: str

    async def invoke(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Raises as `Runtime.invoke` does."""
        return await _named(self.functions, self.name).invoke(event)


def _named(functions: Mapping[str, Runtime], name: str) -> Runtime:
    """The function that Lambda calls so."""
    return next(one for one in functions.values() if one.function.name == name)


def function(
    one: FunctionWithRole, deployment: Deployment, code: FunctionCode, *, store: str, api: str
) -> Function:
    """The function as the template tells it, led to CloudFront's API, and its guard or the folder."""
    folder = deployment.folder
    place = {"GALERLY_STORE": folder} if folder else {"GALERLY_STORE_ENDPOINT": store}
    return Function(
        name=one.name,
        handler=one.told.handler,
        root=code.root,
        environment={
            **process.ENVIRONMENT,
            **one.told.environment.variables,
            **place,
            "AWS_ENDPOINT_URL_CLOUDFRONT": api,
            "AWS_ACCESS_KEY_ID": deployment.identity.access_key,
            "AWS_SECRET_ACCESS_KEY": deployment.identity.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        },
        timeout_s=one.told.timeout_s,
        memory_mb=one.told.memory_size_mb,
        concurrency=one.told.reserved_concurrent_executions or 10,
        may_log=one.may_log,
    )


def _prepare(own: BucketWithPolicy, deployment: Deployment) -> None:
    """Have the S3 server keep versions where the template says so; a folder keeps none.

    Raises `SettingsError` if the server cannot.
    """
    if deployment.folder or not own.keeps_versions:
        return
    client = versitygw.s3_client(deployment.s3_endpoint, deployment.identity)
    try:
        client.put_bucket_versioning(Bucket=own.name, VersioningConfiguration={"Status": "Enabled"})
    except (BotoCoreError, ClientError) as error:
        raise SettingsError([f"the S3 server does not keep versions in {own.name}: {error}"]) from error
    finally:
        client.close()
