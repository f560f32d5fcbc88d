"""Builds a local CloudFront from a template: the one place where its parts are put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.credentials import Credentials

from galerly_cdn import layers
from galerly_cdn.model import Value
from local_cloudfront import distribution, engine, events, function, log, resources, role, template
from local_cloudfront.access import Asked, Identity, Signed
from local_cloudfront.bucket import Bucket
from local_cloudfront.cache import Cache
from local_cloudfront.distribution import Distribution
from local_cloudfront.edge import Edge
from local_cloudfront.events import Flow
from local_cloudfront.faults import Faulty
from local_cloudfront.folder import Folder
from local_cloudfront.origin import Origins
from local_cloudfront.resources import GuardedBucket, GuardedFunction
from local_cloudfront.role import RoledFunction
from local_cloudfront.stack import Stack
from local_cloudfront.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from local_cloudfront.distribution import Origin


Resizer = Callable[[GuardedFunction], Asked]
"""Makes what answers for the function's URL, of the function as the template describes it."""


class Deployment(Value, frozen=True, kw_only=True):
    """A template and its parameters, and the S3 server that has the bucket they name.

    `identity` is what requests to both origins are signed with; the server takes its signatures. Where no
    server runs, `folder` is what answers at its address: a store's, with originals/ and resized/ in it.
    """

    template: str
    parameters: dict[str, str]
    s3_endpoint: str
    identity: Identity
    folder: str = ""


class Plan(Value, frozen=True, kw_only=True):
    """All that a template says, read and checked: what a start starts."""

    distribution: Distribution
    sources: dict[str, str]
    log_fields: tuple[str, ...]
    function: GuardedFunction
    buckets: dict[str, GuardedBucket]
    """By the domain of the origin."""
    functions: dict[str, RoledFunction]
    """By logical name."""
    flow: Flow


@dataclass(frozen=True)
class LocalCloudFront:
    """What runs: the edge to ask, its cache to invalidate, and the switches for faults by origin."""

    plan: Plan
    edge: Edge
    cache: Cache
    faults: Mapping[str, Faulty]


def plan(stack: Stack) -> Plan:
    """Reads all that is modelled. Raises `UnmodelledProperty` where the template says more."""
    read = distribution.read(stack)
    sources = function.sources(stack)
    function.check(read, sources)
    domains = [one.domain for one in read.origins.values() if one.kind == "s3"]
    functions = role.functions(stack)
    return Plan(
        distribution=read,
        sources=sources,
        log_fields=log.fields(stack),
        function=resources.function(stack, read.arn),
        buckets={domain: resources.bucket(stack, domain) for domain in domains},
        functions=functions,
        flow=events.read(stack, functions),
    )


@asynccontextmanager
async def start(
    deployment: Deployment,
    resizer: Resizer,
    *,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the rim
    record: Callable[[dict[str, str]], None] = lambda _: None,
    programs: tuple[str, ...] = engine.PROGRAMS,
) -> AsyncIterator[LocalCloudFront]:
    """A local CloudFront, until the block ends; `record` gets the lines of its access log.

    Raises `UnmodelledProperty` for a template that says more than is modelled, `SettingsError` for parameters
    that do not fit, and where no program runs viewer functions.
    """
    read = plan(Stack(template.read(deployment.template), deployment.parameters))
    cache = Cache(clock, read.distribution.tag_header, read.distribution.error_ttls_s)
    faults = {name: Faulty(one) for name, one in _doors(read, deployment, resizer).items()}
    async with engine.find(read.sources, programs) as running:
        edge = Edge(
            distribution=read.distribution,
            functions=function.Functions(running, read.distribution),
            cache=cache,
            origins=Origins(read.distribution, faults),
            clock=clock,
            record=lambda visit: record(log.line(visit, read.log_fields)),
        )
        yield LocalCloudFront(read, edge, cache, faults)


def _doors(read: Plan, deployment: Deployment, resizer: Resizer) -> dict[str, Asked]:
    """Who answers for each origin, asked by signed requests where access control says so."""
    asked = resizer(read.function)
    endpoint, identity = deployment.s3_endpoint, deployment.identity

    def door(origin: Origin) -> Asked:
        source_arn = read.distribution.arn if origin.is_signed else ""
        if origin.kind == "lambda":
            return Signed(asked, identity, "lambda", source_arn) if source_arn else asked
        served = _folder(read, deployment) if deployment.folder else Wire(endpoint, origin.connect_s)
        inner = Signed(served, identity, "s3", source_arn) if source_arn else served
        return Bucket(read.buckets[origin.domain], endpoint, inner, source_arn)

    return {name: door(one) for name, one in read.distribution.origins.items()}


def _folder(read: Plan, deployment: Deployment) -> Folder:
    """The folder of a deployment, with the settings that its function is given. Raises `SettingsError`."""
    settings = layers.load(environment=read.function.function.environment.variables).settings
    identity = deployment.identity
    credentials = Credentials(identity.access_key, identity.secret_key)
    return Folder(Path(deployment.folder), settings, credentials)
