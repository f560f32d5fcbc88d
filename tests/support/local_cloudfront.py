"""Builds a local CloudFront: our template over a real S3 server, with a fake resizer."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.deploy import template
from galerly_cdn.aws_local import cloudfront_stack
from galerly_cdn.aws_local.cloudformation import yaml_template
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
    """Changes a template's resources, given by logical name."""

IDENTITY = Identity(
    s3_servers.CREDENTIALS["AWS_ACCESS_KEY_ID"], s3_servers.CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
)
TEMPLATE = template.render(Settings())
"""The template with default settings."""
HOST = "cdn.example.com"
REQUIRED_PARAMETERS = {"BucketName": "galerly-1", "CodeBucket": "code", "CodeKey": "resizer.zip"}
IMMUTABLE = "public, max-age=31536000, immutable"


def read_plan(text: str = TEMPLATE, **parameters: str) -> cloudfront_stack.Plan:
    """What is read from a template to start it."""
    return cloudfront_stack.read_plan(Stack(yaml_template.read(text), {**REQUIRED_PARAMETERS, **parameters}))


def deployment(
    text: str = TEMPLATE, endpoint: str = "http://127.0.0.1:9", **parameters: str
) -> cloudfront_stack.Deployment:
    """A template with its required parameters, for the S3 server at `endpoint`."""
    return cloudfront_stack.Deployment(
        template=text,
        parameters={**REQUIRED_PARAMETERS, **parameters},
        s3_endpoint=endpoint,
        identity=IDENTITY,
    )


def changed_template(change: Change, text: str = TEMPLATE) -> str:
    """The template after a change of its resources."""
    document = yaml_template.read(text)
    change(document["Resources"])
    return json.dumps(document)


def value_at(resources: dict[str, Any], path: str) -> Any:  # noqa: ANN401 - any JSON
    """The value at `Resource/Properties/…`. List elements are named by number."""
    node: Any = resources
    for part in path.split("/"):
        node = node[int(part) if isinstance(node, list) else part]
    return node


def set_value(path: str, value: object) -> Change:
    """A change that sets the value at `Resource/Properties/…`; None deletes it."""
    parent, _, last = path.rpartition("/")

    def change(resources: dict[str, Any]) -> None:
        node = value_at(resources, parent) if parent else resources
        index: Any = int(last) if isinstance(node, list) else last
        if value is None:
            del node[index]
        else:
            node[index] = value

    return change


@dataclass
class Clock:
    """A clock that tests set. It returns seconds of the epoch."""

    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class FakeResizer:
    """Responds in place of the function URL, and records the requests."""

    make_response: Callable[[OriginRequest], OriginResponse] = lambda _: OriginResponse(
        200, {"cache-control": IMMUTABLE, "content-type": "image/jpeg"}, b"made"
    )
    requests: list[OriginRequest] = field(default_factory=list)
    function: FunctionWithPolicy | None = None

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.requests.append(request)
        return self.make_response(request)

    def url_of(self, function: FunctionWithPolicy) -> FakeResizer:
        """This fake as the URL of the template's function."""
        self.function = function
        return self


@dataclass
class Viewer:
    """Sends requests to a local CloudFront."""

    cloudfront: LocalCloudFront
    clock: Clock
    resizer: FakeResizer
    access_log: list[dict[str, str]]

    async def request(self, path: str, method: str = "GET", **headers: str) -> ViewerResponse:
        """The response to a request; `_` in the names of headers stands for `-`."""
        raw_path, _, query = path.partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.cloudfront.edge.respond(
            ViewerRequest(
                method=method, scheme="https", host=HOST, raw_path=raw_path, query=query, headers=named
            )
        )


@asynccontextmanager
async def start(
    bucket: s3_servers.Objects,
    text: str = TEMPLATE,
    programs: tuple[str, ...] = ("node", "njs"),
    **parameters: str,
) -> AsyncIterator[Viewer]:
    """Runs a local CloudFront over a bucket until the block ends, and yields its viewer."""
    clock, resizer, access_log = Clock(), FakeResizer(), list[dict[str, str]]()
    async with cloudfront_stack.start(
        deployment(text, bucket.server.endpoint, BucketName=bucket.name, **parameters),
        resizer.url_of,
        clock=clock,
        record=access_log.append,
        programs=programs,
    ) as running:
        yield Viewer(running, clock, resizer, access_log)
