"""A local CloudFront for the tests: our template on a real S3 server, with a resizer that is a fake."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.deploy import template
from galerly_cdn.aws_local import cloudfront_stack
from galerly_cdn.aws_local.cloudformation import yaml_template as cloudformation
from galerly_cdn.aws_local.cloudformation.stack import Stack
from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest, ViewerResponse
from galerly_cdn.settings.table import Settings
from tests.support import s3_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.aws_local.cloudfront_stack import LocalCloudFront
    from galerly_cdn.aws_local.iam.resources import FunctionWithPolicy

    Change = Callable[[dict[str, Any]], object]
    """To the resources of a template, by name."""

IDENTITY = Identity(
    s3_servers.CREDENTIALS["AWS_ACCESS_KEY_ID"], s3_servers.CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
)
PLAIN = template.render(Settings())
HOST = "cdn.example.com"
NEEDED = {"BucketName": "galerly-1", "CodeBucket": "code", "CodeKey": "resizer.zip"}
YEAR = "public, max-age=31536000, immutable"


def planned(text: str = PLAIN, **given: str) -> cloudfront_stack.Plan:
    """What a start would start."""
    return cloudfront_stack.plan(Stack(cloudformation.read(text), {**NEEDED, **given}))


def deployed(
    text: str = PLAIN, endpoint: str = "http://127.0.0.1:9", **given: str
) -> cloudfront_stack.Deployment:
    """A template with the parameters it needs."""
    return cloudfront_stack.Deployment(
        template=text, parameters={**NEEDED, **given}, s3_endpoint=endpoint, identity=IDENTITY
    )


def changed(change: Change, text: str = PLAIN) -> str:
    """The template after a change to its resources."""
    document = cloudformation.read(text)
    change(document["Resources"])
    return json.dumps(document)


def found(resources: dict[str, Any], path: str) -> Any:  # noqa: ANN401 - any JSON
    """What lies at `Resource/Properties/…`, list elements by number."""
    node: Any = resources
    for part in path.split("/"):
        node = node[int(part) if isinstance(node, list) else part]
    return node


def put(path: str, value: object) -> Change:
    """Sets what lies at `Resource/Properties/…`; None takes it away."""
    above, _, last = path.rpartition("/")

    def change(resources: dict[str, Any]) -> None:
        node = found(resources, above) if above else resources
        own: Any = int(last) if isinstance(node, list) else last
        if value is None:
            del node[own]
        else:
            node[own] = value

    return change


@dataclass
class Clock:
    """Seconds of the epoch, moved by hand."""

    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Resizer:
    """Answers for the function's URL, and remembers what it was asked."""

    answers: Callable[[OriginRequest], OriginResponse] = lambda _: OriginResponse(
        200, {"cache-control": YEAR, "content-type": "image/jpeg"}, b"made"
    )
    asked: list[OriginRequest] = field(default_factory=list)
    function: FunctionWithPolicy | None = None

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.asked.append(request)
        return self.answers(request)

    def of(self, function: FunctionWithPolicy) -> Resizer:
        self.function = function
        return self


@dataclass
class Viewer:
    """Asks a local CloudFront."""

    cloud: LocalCloudFront
    clock: Clock
    resizer: Resizer
    lines: list[dict[str, str]]

    async def ask(self, path: str, method: str = "GET", **headers: str) -> ViewerResponse:
        raw_path, _, query = path.partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.cloud.edge.respond(
            ViewerRequest(
                method=method, scheme="https", host=HOST, raw_path=raw_path, query=query, headers=named
            )
        )


@asynccontextmanager
async def cloud(
    bucket: s3_servers.Objects, text: str = PLAIN, programs: tuple[str, ...] = ("node", "njs"), **given: str
) -> AsyncIterator[Viewer]:
    clock, resizer, lines = Clock(), Resizer(), list[dict[str, str]]()
    deployment = deployed(text, bucket.server.endpoint, BucketName=bucket.name, **given)
    async with cloudfront_stack.start(
        deployment,
        resizer.of,
        clock=clock,
        record=lines.append,
        programs=programs,
    ) as running:
        yield Viewer(running, clock, resizer, lines)
