"""Builds a local CloudFront from a template: the one place where its parts are put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.credentials import Credentials

from galerly_cdn.aws_local.cloudformation import yaml_template as template
from galerly_cdn.aws_local.cloudformation.stack import Stack
from galerly_cdn.aws_local.cloudfront import access_log, distribution, javascript_engines
from galerly_cdn.aws_local.cloudfront import viewer_functions as function
from galerly_cdn.aws_local.cloudfront.cache import Cache
from galerly_cdn.aws_local.cloudfront.distribution import Distribution
from galerly_cdn.aws_local.cloudfront.edge import Edge
from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity, SigningOrigin
from galerly_cdn.aws_local.cloudfront.origins import Origins
from galerly_cdn.aws_local.faults import FaultInjector
from galerly_cdn.aws_local.functions import event_rules
from galerly_cdn.aws_local.functions.event_rules import EventFlow
from galerly_cdn.aws_local.http.http_client import HttpClient
from galerly_cdn.aws_local.http.origin_exchange import Responder
from galerly_cdn.aws_local.iam import resources, roles
from galerly_cdn.aws_local.iam.resources import BucketWithPolicy, FunctionWithPolicy
from galerly_cdn.aws_local.iam.roles import FunctionWithRole
from galerly_cdn.aws_local.s3.bucket import Bucket
from galerly_cdn.aws_local.s3.folder_bucket import FolderBucket
from galerly_cdn.serialization import Value
from galerly_cdn.settings import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from galerly_cdn.aws_local.cloudfront.distribution import Origin


Resizer = Callable[[FunctionWithPolicy], Responder]
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
    function: FunctionWithPolicy
    buckets: dict[str, BucketWithPolicy]
    """By the domain of the origin."""
    functions: dict[str, FunctionWithRole]
    """By logical name."""
    flow: EventFlow


@dataclass(frozen=True)
class LocalCloudFront:
    """What runs: the edge to ask, its cache to invalidate, and the switches for faults by origin."""

    plan: Plan
    edge: Edge
    cache: Cache
    faults: Mapping[str, FaultInjector]


def plan(stack: Stack) -> Plan:
    """Reads all that is modelled. Raises `UnmodelledProperty` where the template says more."""
    read = distribution.read_distribution(stack)
    sources = function.sources(stack)
    function.check(read, sources)
    domains = [one.domain for one in read.origins.values() if one.kind == "s3"]
    functions = roles.read_functions(stack)
    return Plan(
        distribution=read,
        sources=sources,
        log_fields=access_log.fields(stack),
        function=resources.read_function(stack, read.arn),
        buckets={domain: resources.read_bucket(stack, domain) for domain in domains},
        functions=functions,
        flow=event_rules.read(stack, functions),
    )


@asynccontextmanager
async def start(
    deployment: Deployment,
    resizer: Resizer,
    *,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the rim
    record: Callable[[dict[str, str]], None] = lambda _: None,
    programs: tuple[str, ...] = javascript_engines.PROGRAMS,
) -> AsyncIterator[LocalCloudFront]:
    """A local CloudFront, until the block ends; `record` gets the lines of its access log.

    Raises `UnmodelledProperty` for a template that says more than is modelled, `SettingsError` for parameters
    that do not fit, and where no program runs viewer functions.
    """
    read = plan(Stack(template.read(deployment.template), deployment.parameters))
    cache = Cache(clock, read.distribution.tag_header, read.distribution.error_ttls_s)
    faults = {name: FaultInjector(one) for name, one in _doors(read, deployment, resizer).items()}
    async with javascript_engines.find_engine(read.sources, programs) as running:
        edge = Edge(
            distribution=read.distribution,
            functions=function.ViewerFunctions(running, read.distribution),
            cache=cache,
            origins=Origins(read.distribution, faults),
            clock=clock,
            record=lambda visit: record(access_log.line(visit, read.log_fields)),
        )
        yield LocalCloudFront(read, edge, cache, faults)


def _doors(read: Plan, deployment: Deployment, resizer: Resizer) -> dict[str, Responder]:
    """Who answers for each origin, asked by signed requests where access control says so."""
    asked = resizer(read.function)
    endpoint, identity = deployment.s3_endpoint, deployment.identity

    def door(origin: Origin) -> Responder:
        source_arn = read.distribution.arn if origin.is_signed else ""
        if origin.kind == "lambda":
            return SigningOrigin(asked, identity, "lambda", source_arn) if source_arn else asked
        served = _folder(read, deployment) if deployment.folder else HttpClient(endpoint, origin.connect_s)
        inner = SigningOrigin(served, identity, "s3", source_arn) if source_arn else served
        return Bucket(read.buckets[origin.domain], endpoint, inner, source_arn)

    return {name: door(one) for name, one in read.distribution.origins.items()}


def _folder(read: Plan, deployment: Deployment) -> FolderBucket:
    """The folder of a deployment, with the settings that its function is given. Raises `SettingsError`."""
    settings = load.load_settings(environment=read.function.function.environment.variables).settings
    identity = deployment.identity
    credentials = Credentials(identity.access_key, identity.secret_key)
    return FolderBucket(Path(deployment.folder), settings, credentials)
