"""Two real nodes of different settings share a store: a picture is made once more after each change."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.cdn_process import PROGRAM
from tests.support.shapes import S3ServeProcess, ServeProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.s3_servers import S3Server

KEY = "g/a.jpg"
EARLIER: dict[str, object] = {"sizes": "thumbnail 800x600 jpeg=85 webp=88"}
LATER: dict[str, object] = {"sizes": "thumbnail 800x600 jpeg=70 webp=70"}
PATHS = ("/resize/thumbnail/g/a.jpg", "/resize/thumbnail.webp/g/a.jpg")
REQUESTS = 100


class Nodes:
    """Starts nodes over one store, and rolls back; memory caches nothing."""

    def __init__(self, root: Path, server: S3Server | None) -> None:
        self._root = root
        self._bucket = server.bucket() if server else None
        self.running: list[ServeProcess] = []
        if self._bucket:
            self._bucket.put(f"originals/{KEY}", pictures.jpeg(1200, 900))
        else:
            original = root / "store" / "originals" / KEY
            original.parent.mkdir(parents=True)
            original.write_bytes(pictures.jpeg(1200, 900))

    def start(self, settings: dict[str, object]) -> ServeProcess:
        settings = {"memory_cache_bytes": 0, "misses_per_minute_per_client": 0, **settings}
        node: ServeProcess
        if self._bucket:
            node = S3ServeProcess(self._root, self._root, settings, bucket=self._bucket)
        else:
            node = StoreServeProcess(self._root / "store", self._root / "store" / "resized", settings)
        self.running.append(node)
        return node

    def command(self, node: ServeProcess, *arguments: str) -> str:
        """The output of a command with the settings of a node."""
        settings = {**node.settings, "store": self._root / "store"}
        if self._bucket:
            remote = self._bucket.settings()
            settings |= {"store": remote.store, "store_endpoint": remote.store_endpoint}
        variables = {f"GALERLY_{name.upper()}": str(value) for name, value in settings.items()}
        command = [*PROGRAM, *arguments]
        return subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, check=True
        ).stdout


class StoreServeProcess(ServeProcess):
    """`galerly-cdn serve --store` over a folder."""

    def _start(self) -> None:
        self._serve({"store": self.folder, "workers": 1, **self.settings})


@pytest.fixture(
    params=["folder", pytest.param("versitygw", marks=pytest.mark.server("versitygw"))],
)
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nodes]:
    server = None if request.param == "folder" else request.getfixturevalue(request.param)
    started = Nodes(tmp_path, server)
    try:
        yield started
    finally:
        for one in started.running:
            if one.process.poll() is None:
                one.stop()


def alternate(*nodes: ServeProcess) -> int:
    """Request pictures from the nodes in turn; how many requests were no hits."""
    caches = []
    for number in range(REQUESTS):
        path = PATHS[number // len(nodes) % len(PATHS)]
        response = nodes[number % len(nodes)].request("GET", path, {})
        assert response.status == 200
        caches.append(response.cache)
    return sum(not one.startswith("hit") for one in caches)


def warnings(node: ServeProcess) -> list[str]:
    body: dict[str, list[str]] = json.loads(node.administer("GET", "/readyz", {}, b"").body)
    return body.get("warnings", [])


def test_two_nodes_of_different_settings_make_each_picture_once_more(nodes: Nodes) -> None:
    earlier = nodes.start(EARLIER)
    assert alternate(earlier) == len(PATHS)
    later = nodes.start(LATER)
    assert alternate(earlier, later) == len(PATHS)
    assert alternate(later, earlier) == 0
    assert "galerly-cdn store rollback" in warnings(earlier)[0]
    assert warnings(later) == []

    assert nodes.command(earlier, "store", "rollback").startswith("current    800x600.jpeg, ")
    earlier.restart()  # reads the list at once; the other node when it finds what it does not know
    assert alternate(earlier, later) == len(PATHS)
    assert alternate(later, earlier) == 0
    assert nodes.command(earlier, "store", "rollback").startswith("unchanged ")
    lines = nodes.command(later, "store", "recipes").splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]


def test_node_of_further_sizes_makes_no_stored_picture_again(nodes: Nodes) -> None:
    """A release adds sizes to the allow-list: the recipes of the others, and their pictures, stay."""
    earlier = nodes.start({"sizes": ";".join(Settings().sizes[:4])})
    assert alternate(earlier) == len(PATHS)
    later = nodes.start({})
    assert alternate(later, earlier) == 0
    assert later.request("GET", "/resize/1200x1200/g/a.jpg", {}).status == 200
    assert warnings(earlier) == warnings(later) == []


def test_node_that_is_killed_and_started_with_other_settings_makes_each_picture_once_more(
    nodes: Nodes,
) -> None:
    earlier, later = nodes.start(EARLIER), nodes.start(LATER)
    assert alternate(earlier, later) <= 2 * len(PATHS)
    later.process.send_signal(signal.SIGKILL)
    later.process.communicate()
    assert alternate(earlier) == 0
    third = nodes.start({"sizes": "thumbnail 800x600 jpeg=60 webp=60"})
    assert alternate(earlier, third) == len(PATHS)
    assert alternate(earlier, third) == 0
