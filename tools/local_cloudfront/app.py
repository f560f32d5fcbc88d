"""Builds a local CloudFront from a template: the one place where its parts are put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from galerly_cdn.model import Value
from local_cloudfront import distribution, engine, function, log, resources, template
from local_cloudfront.access import Asked, Identity, Signed
from local_cloudfront.bucket import Bucket
from local_cloudfront.cache import Cache
from local_cloudfront.edge import Edge
from local_cloudfront.faults import Faulty
from local_cloudfront.origin import Origins
from local_cloudfront.resources import GuardedFunction
from local_cloudfront.stack import Stack
from local_cloudfront.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from local_cloudfront.distribution import Distribution, Origin


Resizer = Callable[[GuardedFunction], Asked]
"""Makes what answers for the function's URL, of the function as the template describes it."""


class Deployment(Value, frozen=True, kw_only=True):
    """A template and its parameters, and the S3 server that has the bucket they name.

    `identity` is what requests to both origins are signed with; the server takes its signatures.
    """

    template: str
    parameters: dict[str, str]
    s3_endpoint: str
    identity: Identity


@dataclass(frozen=True)
class LocalCloudFront:
    """What runs: the edge to ask, its cache to invalidate, and the switches for faults by origin."""

    stack: Stack
    edge: Edge
    faults: Mapping[str, Faulty]

    @property
    def cache(self) -> Cache:
        return self.edge.cache

    @property
    def distribution(self) -> Distribution:
        return self.edge.distribution


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

    Raises `UnmodelledProperty` for a template that says more than is modelled, `SettingsError`.
    """
    stack = Stack(template.read(deployment.template), deployment.parameters)
    read = distribution.read(stack)
    sources = function.sources(stack)
    function.check(read, sources)
    fields = log.fields(stack)
    faults = {name: Faulty(one) for name, one in _doors(stack, read, deployment, resizer).items()}
    async with engine.find(sources, programs) as running:
        edge = Edge(
            distribution=read,
            functions=function.Functions(running, read),
            cache=Cache(clock, read.tag_header, read.error_ttls_s),
            origins=Origins(read, faults),
            clock=clock,
            record=lambda visit: record(log.line(visit, fields)),
        )
        yield LocalCloudFront(stack, edge, faults)


def _doors(stack: Stack, read: Distribution, deployment: Deployment, resizer: Resizer) -> dict[str, Asked]:
    """Who answers for each origin: signed, where access control says so."""
    asked = resizer(resources.function(stack))
    endpoint, identity = deployment.s3_endpoint, deployment.identity

    def door(origin: Origin) -> Asked:
        source_arn = read.arn if origin.is_signed else ""
        if origin.kind == "lambda":
            return Signed(asked, identity, "lambda", source_arn) if source_arn else asked
        wire = Wire(endpoint, origin.connect_s)
        inner = Signed(wire, identity, "s3", source_arn) if source_arn else wire
        return Bucket(resources.bucket(stack, origin.domain), endpoint, inner, source_arn)

    return {name: door(one) for name, one in read.origins.items()}
