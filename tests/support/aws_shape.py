"""Runs our template for scenarios: the local CloudFront and functions, and a CDN for the admin API."""

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
from tests.support.expectations import PlatformDifference
from tests.support.shapes import Answer, S3ServeProcess, send_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from galerly_cdn.aws_local.stack import RunningStack
    from tests.support.s3_servers import Objects

HOST = "cdn.test"
AWS_DIFFERENCES = convert(
    tuple[PlatformDifference, ...],
    tomllib.loads((Path(__file__).parents[1] / "scenarios/aws_differences.toml").read_text("utf-8"))[
        "difference"
    ],
)


@dataclass
class AwsShape:
    """A running stack of our template with these settings. `change` may put a mistake into the template.

    `parameters` are those that differ from the defaults.
    """

    root: Path
    bucket: Objects
    settings: dict[str, object]
    change: Callable[[str], str] = lambda text: text
    parameters: dict[str, str] = field(default_factory=dict)
    differences: Sequence[PlatformDifference] = AWS_DIFFERENCES
    ahead_s: float = field(default=0.0, init=False)
    """How far CloudFront's clock is ahead of the real time."""
    access_log: list[dict[str, str]] = field(default_factory=list, init=False)
    """CloudFront's access log, with the fields that the template names."""

    def __post_init__(self) -> None:
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as starting:
            portal = starting.enter_context(start_blocking_portal())
            self.call = portal.call
            deployment = local_cloudfront.deployment(
                self.change(self._template()),
                self.bucket.server.endpoint,
                BucketName=self.bucket.name,
                **self.parameters,
            )
            self.running: RunningStack = starting.enter_context(
                portal.wrap_async_context_manager(
                    stack.start(
                        deployment,
                        stack.FunctionCode(str(lambda_functions.SOURCES)),
                        clock=self.now_s,
                        record=self.access_log.append,
                    )
                )
            )
            self.port: int = starting.enter_context(
                portal.wrap_async_context_manager(
                    viewer_server.listen(self.running.cloudfront.edge, "127.0.0.1", 0, scheme="https")
                )
            )
            self._stack = starting.pop_all()

    def _template(self) -> str:
        """The template, rendered as an operator does it: with settings from the environment."""
        variables = {f"GALERLY_{name.upper()}": str(value) for name, value in self.settings.items()}
        return template.render(load.load_settings(environment=variables).settings)

    @cached_property
    def admin(self) -> S3ServeProcess:
        """The CDN with the admin API, started when it is first needed. It invalidates CloudFront."""
        settings = {**self.settings, "distribution": self.running.cloudfront.plan.distribution.id}
        variables = {"AWS_ENDPOINT_URL_CLOUDFRONT": self.running.api_address}
        process = S3ServeProcess(self.root, self.root, settings, variables, bucket=self.bucket)
        self._stack.callback(process.stop)
        return process

    @property
    def key_id(self) -> str:
        """CloudFront's ID of the one public key."""
        behaviors = self.running.cloudfront.plan.distribution.behaviors
        return next(key_id for behavior in behaviors for key_id in behavior.public_keys or ())

    def now_s(self) -> float:
        return time.time() + self.ahead_s

    def wait(self, duration_s: float) -> None:
        """Advances the clock, delivers all events that are due by then, and waits for the functions."""
        self.ahead_s += duration_s
        self.call(self.running.event_bus.deliver_due)

    def put(self, key: str, original: bytes) -> None:
        self.bucket.put(f"originals/{key}", original)
        self._publish(notifications.CREATED, key)
        self._wait_for_events()

    def remove(self, key: str) -> None:
        self.bucket.remove(f"originals/{key}")
        self._publish(notifications.DELETED, key)
        self._wait_for_events()

    def _publish(self, kind: str, key: str) -> None:
        """Publishes S3's event of a change, because the tests' S3 servers do not send events."""
        time = datetime.fromtimestamp(self.now_s(), UTC).isoformat()
        event = notifications.object_event(
            kind, self.bucket.name, f"originals/{key}", reason="PutObject", time=time
        )
        self.call(self.running.event_bus.publish, event)

    def _wait_for_events(self) -> None:
        """Advances the clock until all events are processed; the janitor's queue has a delay and a window."""
        queues = self.running.event_bus.queues.values()
        due_s = max((message.visible_s for queue in queues for message in queue.messages), default=0.0)
        self.wait(max(0.0, due_s - self.now_s()))
        if any(queue.messages for queue in queues):
            self.wait(60)

    def damage_renditions(self) -> None:
        self.bucket.damage_renditions()

    def delete_renditions(self) -> None:
        self.bucket.delete_renditions()

    def restart(self) -> None:
        """Empties CloudFront's cache, and stops all execution environments."""
        self.call(self.running.cloudfront.cache.invalidate, "/*")
        for runtime in self.running.functions.values():
            self.call(runtime.close)

    def stop(self) -> None:
        self._stack.close()

    def request(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        before = len(self.running.resizer.log_lines)
        response = send_request(self.port, method, path, {"Host": HOST, **headers})
        resizer_lines = self.running.resizer.log_lines[before:]
        return Answer(
            response.status,
            response.headers,
            response.body,
            _cache_status(response.headers["x-cache"], resizer_lines),
        )

    def administer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        response = self.admin.administer(method, path, headers, body)
        if path.startswith("/originals/") and response.status in {200, 201}:
            key = unquote(path.partition("?")[0].removeprefix("/originals/"))
            if method == "DELETE":
                self.bucket.erase(f"originals/{key}")
            self._publish(notifications.CREATED if method == "PUT" else notifications.DELETED, key)
        return response


def _cache_status(x_cache: str, resizer_lines: Sequence[str]) -> str:
    """What Cache-Status would be on another shape: from CloudFront's X-Cache and the resizer's log.

    On a miss the response came from S3 if the resizer was not invoked. If the resizer was invoked for a
    rendition that S3 has, CloudFront could not read it from S3: the viewer's response is right, but the
    template has a mistake.
    """
    records = [json.loads(line) for line in resizer_lines if line.startswith("{")]  # others are warnings
    values = [str(record["cache"]) for record in records if "cache" in record]
    if values:
        return {"hit; detail=store": "hit; detail=resizer"}.get(values[-1], values[-1])
    result = x_cache.removesuffix(" from cloudfront")
    known = {"Hit": "hit", "RefreshHit": "hit", "Miss": "hit; detail=store"}
    return known.get(result, result)
