"""A local CloudFront for the tests: our template on a real S3 server, with a resizer that is a fake."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws import template
from galerly_cdn.config import Settings
from local_cloudfront import app
from local_cloudfront import template as cloudformation
from local_cloudfront.access import Identity
from local_cloudfront.exchange import OriginRequest, OriginResponse
from local_cloudfront.stack import Stack
from local_cloudfront.viewer import Answer, Request
from tests import s3

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from local_cloudfront.app import LocalCloudFront
    from local_cloudfront.resources import GuardedFunction

    Change = Callable[[dict[str, Any]], object]
    """To the resources of a template, by name."""

IDENTITY = Identity(s3.CREDENTIALS["AWS_ACCESS_KEY_ID"], s3.CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
PLAIN = template.render(Settings())
HOST = "cdn.example.com"
NEEDED = {"BucketName": "galerly-1", "CodeBucket": "code", "CodeKey": "resizer.zip"}
YEAR = "public, max-age=31536000, immutable"


def planned(text: str = PLAIN, **given: str) -> app.Plan:
    """What a start would start."""
    return app.plan(Stack(cloudformation.read(text), {**NEEDED, **given}))


def deployed(text: str = PLAIN, endpoint: str = "http://127.0.0.1:9", **given: str) -> app.Deployment:
    """A template with the parameters it needs."""
    return app.Deployment(
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
    function: GuardedFunction | None = None

    async def answer(self, request: OriginRequest) -> OriginResponse:
        self.asked.append(request)
        return self.answers(request)

    def of(self, function: GuardedFunction) -> Resizer:
        self.function = function
        return self


@dataclass
class Viewer:
    """Asks a local CloudFront."""

    cloud: LocalCloudFront
    clock: Clock
    resizer: Resizer
    lines: list[dict[str, str]]

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        raw_path, _, query = path.partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.cloud.edge.answer(
            Request(method=method, scheme="https", host=HOST, raw_path=raw_path, query=query, headers=named)
        )


@asynccontextmanager
async def cloud(
    bucket: s3.Objects, text: str = PLAIN, programs: tuple[str, ...] = ("node", "njs"), **given: str
) -> AsyncIterator[Viewer]:
    clock, resizer, lines = Clock(), Resizer(), list[dict[str, str]]()
    deployment = deployed(text, bucket.server.endpoint, BucketName=bucket.name, **given)
    async with app.start(
        deployment,
        resizer.of,
        clock=clock,
        record=lines.append,
        programs=programs,
    ) as running:
        yield Viewer(running, clock, resizer, lines)
