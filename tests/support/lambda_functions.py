"""Runs the Lambda functions: in this process with a counting renderer, or under AWS's runtime client."""

from __future__ import annotations

import base64
import itertools
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import composition
from galerly_cdn.aws.functions.resizer import Resizer
from galerly_cdn.aws_local.functions.runtime import Function, Runtime
from galerly_cdn.clock import SYSTEM_CLOCK, Clock
from galerly_cdn.fill import Filler
from galerly_cdn.http.urls import format_key
from galerly_cdn.recipe_list import RecipeList
from galerly_cdn.recipes import recipes_of
from galerly_cdn.render.pool import fork_server_process
from galerly_cdn.stored_keys import key_of
from galerly_cdn.stored_renditions import StoredRenditions
from tests.support import s3_servers
from tests.support.in_memory_cdn import Answer, CountingRenderer, original_facts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.aws.functions.composition import Stores
    from galerly_cdn.settings.table import Settings

SOURCES = Path(__file__).parents[2] / "src"
CHANGED = "2026-11-25T01:16:28Z"
MEMORY_MB = 1769
"""The template's default for `Memory`."""


def request(path: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    """A function URL's event; the keyword `x_galerly_stored="1"` is the header x-galerly-stored.

    `x-galerly-key` has the key that the path tells, unless it is given.
    """
    key = key_of(path.removeprefix("/resized/").partition("/")[2]) or ""
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "x-galerly-key": format_key(key),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
        "requestContext": {"http": {"method": method, "path": path, "sourceIp": "192.0.2.1"}},
        "isBase64Encoded": False,
    }


def change(
    key: str, *, what: str = "Object Created", received: int = 1, message_id: str = "1"
) -> dict[str, Any]:
    """A queue's event with one change of an object, delivered for the `received`-th time."""
    detail = {"bucket": {"name": "b"}, "object": {"key": key, "size": 1}, "reason": "PutObject"}
    body = {"source": "aws.s3", "detail-type": what, "detail": detail, "time": CHANGED}
    attributes = {"ApproximateReceiveCount": str(received)}
    return {"Records": [{"messageId": message_id, "body": json.dumps(body), "attributes": attributes}]}


def answer(result: dict[str, Any]) -> Answer:
    """A function URL's result as an HTTP response."""
    assert result["isBase64Encoded"]
    return Answer(result["statusCode"], result["headers"], base64.b64decode(result["body"], validate=True))


def variables(settings: Settings) -> dict[str, str]:
    """Environment variables of a function: Lambda's, the template's, and a test server's credentials."""
    return {
        **fork_server_process.ENVIRONMENT,
        **s3_servers.CREDENTIALS,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
        "RENDITION_DAYS": "180",
        "GALERLY_STORE": settings.store,
        "GALERLY_STORE_ENDPOINT": settings.store_endpoint,
    }


def function(name: str, settings: Settings, *, root: Path = SOURCES, **more: str) -> Function:
    """The function `name` of this package, run from the checkout or an unpacked zip; `more` are variables."""
    return Function(
        name=name,
        handler=f"galerly_cdn.aws.functions.{name}_handler.handler",
        root=str(root),
        environment={**variables(settings), **more},
        timeout_s=60,
        memory_mb=MEMORY_MB,
    )


@asynccontextmanager
async def running(function: Function) -> AsyncIterator[Runtime]:
    """A function under AWS's runtime client; it starts at the first event."""
    runtime = Runtime(function)
    try:
        yield runtime
    finally:
        await runtime.close()


@dataclass
class Functions:
    """The parts of the functions, and the log lines they wrote.

    `later_s` is added to their clock.
    """

    settings: Settings
    renderer: CountingRenderer = field(default_factory=CountingRenderer)
    lines: list[dict[str, Any]] = field(default_factory=list)
    later_s: float = 0.0

    def __post_init__(self) -> None:
        self.stores: Stores = composition.open_stores(self.settings)
        facts = original_facts(self.stores.renditions)
        listed = RecipeList(
            self.stores.renditions,
            recipes_of(self.settings, "8.18"),
            clock=SYSTEM_CLOCK,
            count=lambda _: None,
        )
        self.filler = Filler(
            originals=self.stores.originals,
            stored=StoredRenditions(self.stores.renditions, facts, listed),
            renderer=self.renderer,
            facts=facts,
            clock=time.monotonic,
            count=lambda _: None,
        )
        ticks = itertools.count()
        self.resizer = Resizer(
            self.stores,
            self.filler,
            clock=Clock(wall=self.wall, monotonic=lambda: float(next(ticks))),
            write_line=self.log,
        )

    def wall(self) -> float:
        return time.time() + self.later_s

    def log(self, line: bytes) -> None:
        self.lines.append(json.loads(line))

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return answer(await self.resizer.answer(request(path, method, **headers), "request-1", "resizer"))

    def metric(self, name: str) -> list[float]:
        """The values of a metric in the log."""
        return [line[name] for line in self.lines if name in line]
