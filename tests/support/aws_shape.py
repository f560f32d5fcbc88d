"""The shape of AWS: our template on a local CloudFront, its functions behind it, an operator beside it."""

from __future__ import annotations

import contextlib
import json
import time
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from anyio.from_thread import start_blocking_portal

from galerly_cdn.aws.deploy import template
from galerly_cdn.aws_local import stack, viewer_server
from galerly_cdn.aws_local.s3 import notifications
from galerly_cdn.serialization import convert
from galerly_cdn.settings import load
from tests.support import lambda_functions, local_cloudfront
from tests.support.expectations import Imposed
from tests.support.shapes import Answer, OverS3, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from galerly_cdn.aws_local.stack import RunningStack
    from tests.support.s3_servers import Objects

HOST = "cdn.test"
IMPOSED = convert(
    tuple[Imposed, ...],
    tomllib.loads((Path(__file__).parents[1] / "scenarios/imposed.toml").read_text("utf-8"))["imposed"],
)


@dataclass
class OnAws:
    """Settings written into the template, the template run; `change` is what a mistake makes of it.

    It is deployed with `parameters`, where they are other than the defaults.
    """

    root: Path
    bucket: Objects
    settings: dict[str, object]
    change: Callable[[str], str] = lambda text: text
    parameters: dict[str, str] = field(default_factory=dict)
    imposed: Sequence[Imposed] = IMPOSED
    ahead_s: float = field(default=0.0, init=False)
    """How far CloudFront's clock has been set forward."""

    def __post_init__(self) -> None:
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as starting:
            portal = starting.enter_context(start_blocking_portal())
            self.call = portal.call
            deployment = local_cloudfront.deployed(
                self.change(self._template()),
                self.bucket.server.endpoint,
                BucketName=self.bucket.name,
                **self.parameters,
            )
            self.chain: RunningStack = starting.enter_context(
                portal.wrap_async_context_manager(
                    stack.start(
                        deployment, stack.FunctionCode(str(lambda_functions.SOURCES)), clock=self.now_s
                    )
                )
            )
            self.port: int = starting.enter_context(
                portal.wrap_async_context_manager(
                    viewer_server.listen(self.chain.cloud.edge, "127.0.0.1", 0, scheme="https")
                )
            )
            self._stack = starting.pop_all()

    def _template(self) -> str:
        """As an operator gets it."""
        told = {f"GALERLY_{name.upper()}": str(value) for name, value in self.settings.items()}
        return template.render(load.load_settings(environment=told).settings)

    @cached_property
    def operator(self) -> OverS3:
        """The admin side, started when it is first needed; it tells CloudFront what it purges."""
        settings = {**self.settings, "distribution": self.chain.cloud.plan.distribution.id}
        variables = {"AWS_ENDPOINT_URL_CLOUDFRONT": self.chain.control}
        running = OverS3(self.root, self.root, settings, variables, bucket=self.bucket)
        self._stack.callback(running.stop)
        return running

    @property
    def key_id(self) -> str:
        """CloudFront's own ID of the one public key."""
        behaviors = self.chain.cloud.plan.distribution.behaviors
        return next(key_id for one in behaviors for key_id in one.keys or ())

    def now_s(self) -> float:
        return time.time() + self.ahead_s

    def wait(self, duration_s: float) -> None:
        """Set the clock forward, and have everything done that is due by then."""
        self.ahead_s += duration_s
        self.call(self.chain.events.settle)

    def put(self, key: str, original: bytes) -> None:
        self.bucket.put(f"originals/{key}", original)
        self._tell(notifications.CREATED, key)
        self._settle()

    def remove(self, key: str) -> None:
        self.bucket.remove(f"originals/{key}")
        self._tell(notifications.DELETED, key)
        self._settle()

    def _tell(self, kind: str, key: str) -> None:
        """As S3 tells EventBridge; no server for tests does it without being started for it."""
        time = datetime.fromtimestamp(self.now_s(), UTC).isoformat()
        message = notifications.message(
            kind, self.bucket.name, f"originals/{key}", reason="PutObject", time=time
        )
        self.call(self.chain.events.publish, message)

    def _settle(self) -> None:
        """Wait for all that was set off: the janitor comes late by design."""
        queues = self.chain.events.queues.values()
        due_s = max((one.visible_s for queue in queues for one in queue.messages), default=0.0)
        self.wait(max(0.0, due_s - self.now_s()))

    def rot(self) -> None:
        self.bucket.damage_renditions()

    def lose(self) -> None:
        self.bucket.delete_renditions()

    def restart(self) -> None:
        """CloudFront keeps nothing, Lambda starts anew."""
        self.call(self.chain.cloud.cache.invalidate, "/*")
        for one in self.chain.functions.values():
            self.call(one.close)

    def stop(self) -> None:
        self._stack.close()

    def request(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        before = len(self.chain.resizer.lines)
        answer = ask(self.port, method, path, {"Host": HOST, **headers})
        resized = self.chain.resizer.lines[before:]
        return Answer(answer.status, answer.headers, answer.body, _cache(answer.headers["x-cache"], resized))

    def administer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        answer = self.operator.administer(method, path, headers, body)
        if path.startswith("/originals/") and answer.status in {200, 201}:
            key = unquote(path.partition("?")[0].removeprefix("/originals/"))
            if method == "DELETE":
                self.bucket.erase(f"originals/{key}")
            self._tell(notifications.CREATED if method == "PUT" else notifications.DELETED, key)
        return answer


def _cache(x_cache: str, resized: Sequence[str]) -> str:
    """What Cache-Status would say: CloudFront's word for what it had, of a miss whose it was.

    `resized` are the lines of the resizer's log: what it was not asked for, S3 had. What S3 had and would not
    tell, the resizer hands out of the store: that is right for a viewer, and a mistake of ours.
    """
    told = [str(line["cache"]) for line in map(json.loads, resized) if "cache" in line]
    if told:
        return {"hit; detail=store": "hit; detail=resizer"}.get(told[-1], told[-1])
    result = x_cache.removesuffix(" from cloudfront")
    known = {"Hit": "hit", "RefreshHit": "hit", "Miss": "hit; detail=store"}
    return known.get(result, result)
