"""Runs a fleet for scenarios: viewers' requests through its fronts, the admin API of a node."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.serialization import convert
from tests.support.expectations import PlatformDifference
from tests.support.fleet import TOKEN, Fleet, start_all
from tests.support.shapes import Answer, send_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.s3_servers import Objects

FLEET_DIFFERENCES = convert(
    tuple[PlatformDifference, ...],
    tomllib.loads((Path(__file__).parents[1] / "scenarios/fleet_differences.toml").read_text("utf-8"))[
        "difference"
    ],
)
_FRONT = "nginx; "


class FleetShape:
    """Two fronts before two nodes of a bucket, with these settings."""

    differences: Sequence[PlatformDifference] = FLEET_DIFFERENCES
    key_id: str = "K1"

    def __init__(self, root: Path, bucket: Objects, settings: dict[str, object]) -> None:
        self._bucket = bucket
        self._fleet = Fleet(root, bucket, {"store_fresh_s": 0, **settings})
        self._fleet.start()

    def now_s(self) -> float:
        return time.time()

    def wait(self, duration_s: float) -> None:
        """Make the fronts' entries as old as after their lifetime, which is the longest `duration_s`."""
        del duration_s
        for front in self._fleet.fronts:
            front.expire()

    def put(self, key: str, original: bytes) -> None:
        self._bucket.put(f"originals/{key}", original)
        self.wait(10)

    def remove(self, key: str) -> None:
        self._bucket.remove(f"originals/{key}")
        self.wait(10)

    def damage_renditions(self) -> None:
        self._bucket.damage_renditions()

    def delete_renditions(self) -> None:
        self._bucket.delete_renditions()

    def restart(self) -> None:
        """Starts the nodes again, and empties the fronts' caches."""
        for node in self._fleet.nodes:
            node.stop()
        start_all(self._fleet.nodes)
        for front in self._fleet.fronts:
            front.empty()

    def stop(self) -> None:
        self._fleet.close()

    def request(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        port = self._fleet.front_of(path).port
        answer = send_request(port, method, path, {"Host": "cdn.test", **headers})
        cache = _cache_status(answer.headers.get("cache-status", ""))
        return Answer(answer.status, answer.headers, answer.body, cache)

    def administer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """The answer of the first node's admin API."""
        sent = {"Content-Length": str(len(body)), "Authorization": f"Bearer {TOKEN}", **headers}
        return send_request(self._fleet.nodes[0].admin_port, method, path, sent, body)


def _cache_status(value: str) -> str:
    """What Cache-Status would be on one machine: the node's entry if it was asked, else the front's."""
    node, _, front = value.rpartition(_FRONT)
    if node:
        return node.removeprefix("galerly-cdn; ").removesuffix(", ")
    return "hit" if front == "fwd=stale; fwd-status=304" else front
