"""The whole of a deployed stack on one machine: CloudFront, the bucket's guard, and the resizer in Lambda.

`app` has CloudFront; this adds the function, run by AWS's own runtime client in processes of its own.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.credentials import Credentials

from galerly_cdn.model import Value
from galerly_cdn.render import process
from local_cloudfront import app, listener
from local_cloudfront.control import Control
from local_cloudfront.function_url import FunctionUrl
from local_cloudfront.runtime import Function, Runtime
from local_cloudfront.stack import REGION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from local_cloudfront.access import Asked
    from local_cloudfront.app import Deployment, LocalCloudFront
    from local_cloudfront.resources import GuardedFunction


class Code(Value, frozen=True):
    """Where the functions' code lies: the unpacked package, or the sources."""

    root: str


@dataclass(frozen=True)
class Chain:
    """What runs: CloudFront, and the resizer behind it. `control` is the address of CloudFront's own API."""

    cloud: LocalCloudFront
    control: str
    resizer: Runtime


@asynccontextmanager
async def start(
    deployment: Deployment,
    code: Code,
    *,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the rim
    record: Callable[[dict[str, str]], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Chain]:
    """A chain, until the block ends; `tell` gets the lines of the function's log.

    Raises as `app.start` does.
    """
    started: list[Runtime] = []

    def resizer(guarded: GuardedFunction) -> Asked:
        started.append(Runtime(function(guarded, deployment, code), tell))
        identity = deployment.identity
        return FunctionUrl(
            started[0],
            permissions=guarded.permissions,
            credentials=Credentials(identity.access_key, identity.secret_key),
            region=REGION,
            caller_arn=guarded.caller_arn,
        )

    async with app.start(deployment, resizer, clock=clock, record=record) as cloud:
        (runtime,) = started
        control = Control(cloud.cache, cloud.plan.distribution, deployment.identity, clock)
        try:
            async with listener.listening(control.door()) as address:
                yield Chain(cloud, address, runtime)
        finally:
            await runtime.close()


def function(guarded: GuardedFunction, deployment: Deployment, code: Code) -> Function:
    """The function as the template tells it, led to the local S3 server, or the folder in its place."""
    told = guarded.function
    folder = deployment.folder
    place = {"GALERLY_STORE": folder} if folder else {"GALERLY_STORE_ENDPOINT": deployment.s3_endpoint}
    return Function(
        name=guarded.arn.rpartition(":")[2],
        handler=told.handler,
        root=code.root,
        environment={
            **process.ENVIRONMENT,
            **told.environment.variables,
            **place,
            "AWS_ACCESS_KEY_ID": deployment.identity.access_key,
            "AWS_SECRET_ACCESS_KEY": deployment.identity.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        },
        timeout_s=told.timeout_s,
        memory_mb=told.memory_size_mb,
        concurrency=told.reserved_concurrent_executions or 10,
    )
