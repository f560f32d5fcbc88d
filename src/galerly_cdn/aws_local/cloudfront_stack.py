"""Starts a local CloudFront from a template: reads all resources, and connects the edge with its origins."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.credentials import Credentials

from galerly_cdn.aws_local.cloudformation import limits, yaml_template
from galerly_cdn.aws_local.cloudformation.stack import Stack
from galerly_cdn.aws_local.cloudfront import access_log, distribution, javascript_engines, viewer_functions
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
from galerly_cdn.aws_local.iam.roles import FunctionWithRole, Role
from galerly_cdn.aws_local.s3.bucket import Bucket
from galerly_cdn.aws_local.s3.folder_bucket import FolderBucket
from galerly_cdn.serialization import Value
from galerly_cdn.settings import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from galerly_cdn.aws_local.cloudfront.distribution import Origin


FunctionUrlFactory = Callable[[FunctionWithPolicy], Responder]
"""Creates the function URL of the function that the template describes."""


class Deployment(Value, frozen=True, kw_only=True):
    """A template, its parameters, and the S3 server with the bucket that they name.

    Requests to both origins are signed with the credentials of `identity`, which the S3 server must accept.
    If no S3 server runs, `folder` is a folder store, with originals/ and resized/ in it, that responds in its
    place.
    """

    template: str
    parameters: dict[str, str]
    s3_endpoint: str
    identity: Identity
    folder: str = ""


class Plan(Value, frozen=True, kw_only=True):
    """Everything that is read from a template to start it."""

    distribution: Distribution
    sources: dict[str, str]
    """The code of viewer functions by ARN."""
    log_fields: tuple[str, ...]
    function: FunctionWithPolicy
    """The function with the URL: the resizer."""
    buckets: dict[str, BucketWithPolicy]
    """Buckets by the domain of the origin."""
    functions: dict[str, FunctionWithRole]
    """Functions by logical name."""
    roles: dict[str, Role]
    """All roles by ARN."""
    event_flow: EventFlow

    @property
    def event_buckets(self) -> frozenset[str]:
        """Names of the buckets that send events to EventBridge."""
        return frozenset(bucket.name for bucket in self.buckets.values() if bucket.sends_events)


@dataclass(frozen=True)
class LocalCloudFront:
    """A running CloudFront: its edge, its cache, and a fault injector for each origin by ID."""

    plan: Plan
    edge: Edge
    cache: Cache
    faults: Mapping[str, FaultInjector]


def read_plan(stack: Stack) -> Plan:
    """Reads everything that is modelled.

    Raises `UnmodelledProperty` for anything else in the template, `TemplateRefused` for what AWS refuses.
    """
    read = distribution.read_distribution(stack)
    sources = viewer_functions.read_sources(stack)
    viewer_functions.check_associations(read, sources)
    domains = [origin.domain for origin in read.origins.values() if origin.kind == "s3"]
    functions = roles.read_functions(stack)
    limits.check(stack)
    return Plan(
        distribution=read,
        sources=sources,
        log_fields=access_log.record_fields(stack),
        function=resources.read_function(stack, read.arn),
        buckets={domain: resources.read_bucket(stack, domain) for domain in domains},
        functions=functions,
        roles=roles.read_roles(stack),
        event_flow=event_rules.read_event_flow(stack, functions),
    )


@asynccontextmanager
async def start(
    deployment: Deployment,
    function_url: FunctionUrlFactory,
    *,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the default clock
    record: Callable[[dict[str, str]], None] = lambda _: None,
    programs: tuple[str, ...] = javascript_engines.PROGRAMS,
) -> AsyncIterator[LocalCloudFront]:
    """Runs a local CloudFront until the block ends. `record` gets the records of its access log.

    Raises `UnmodelledProperty` for a template with something that is not modelled, `SettingsError` for
    invalid parameters or if no program that runs viewer functions is installed.
    """
    plan = read_plan(Stack(yaml_template.read(deployment.template), deployment.parameters))
    cache = Cache(clock, plan.distribution.cache_tag_header, plan.distribution.error_ttls_s)
    responders = _responders(plan, deployment, function_url)
    faults = {origin_id: FaultInjector(responder) for origin_id, responder in responders.items()}
    async with javascript_engines.find_engine(plan.sources, programs) as engine:
        edge = Edge(
            distribution=plan.distribution,
            functions=viewer_functions.ViewerFunctions(engine, plan.distribution),
            cache=cache,
            origins=Origins(plan.distribution, faults),
            clock=clock,
            record=lambda request: record(access_log.log_record(request, plan.log_fields)),
        )
        yield LocalCloudFront(plan, edge, cache, faults)


def _responders(plan: Plan, deployment: Deployment, function_url: FunctionUrlFactory) -> dict[str, Responder]:
    """The responder of each origin by ID, with signed requests if the template's access control says so."""
    url = function_url(plan.function)
    endpoint, identity = deployment.s3_endpoint, deployment.identity

    def responder(origin: Origin) -> Responder:
        source_arn = plan.distribution.arn if origin.is_signed else ""
        if origin.kind == "lambda":
            return SigningOrigin(url, identity, "lambda", source_arn) if source_arn else url
        server: Responder
        if deployment.folder:
            server = _folder_bucket(plan, deployment)
        else:
            server = HttpClient(endpoint, origin.connection_timeout_s)
        inner = SigningOrigin(server, identity, "s3", source_arn) if source_arn else server
        return Bucket(plan.buckets[origin.domain], endpoint, inner, source_arn)

    return {origin_id: responder(origin) for origin_id, origin in plan.distribution.origins.items()}


def _folder_bucket(plan: Plan, deployment: Deployment) -> FolderBucket:
    """The folder of a deployment, with the settings in the function's environment. Raises `SettingsError`."""
    settings = load.load_settings(environment=plan.function.function.environment.variables).settings
    identity = deployment.identity
    credentials = Credentials(identity.access_key, identity.secret_key)
    return FolderBucket(Path(deployment.folder), settings, credentials)
