"""Runs real S3 servers for the tests: moto (pure Python, always installed) and versitygw (`script/s3`)."""

from __future__ import annotations

import http.client
import itertools
import os
import re
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support.rendition_folders import Counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.store.remote.bucket import Bucket
    from galerly_cdn.store.remote.originals import RemoteOriginals
    from galerly_cdn.store.remote.renditions import RemoteRenditions

# `conftest` imports this module for every test. botocore, moto and obstore take seconds to import, so the
# functions that use them import them.

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "only for tests",
    "AWS_REGION": "us-east-1",
}
VERSITYGW = pytest.param("versitygw", marks=pytest.mark.server("versitygw"))
SERVERS = [pytest.param("moto"), VERSITYGW]
"""Names of fixtures, for parametrised tests."""
_numbers = itertools.count(1)


@dataclass
class S3Server:
    """A running server, and a botocore client for it."""

    endpoint: str
    longest_segment_bytes: int = 1024
    """The longest segment of a key that the server can store."""
    process: subprocess.Popen[bytes] | None = None
    """None if the server is a thread of this process."""
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        self.client = client(self.endpoint)

    def holds(self, key: str) -> bool:
        """Whether the server can store a key. S3 can store every key that galerly-cdn allows."""
        return max(len(segment.encode()) for segment in key.split("/")) <= self.longest_segment_bytes

    def bucket(self) -> Objects:
        """A new bucket."""
        name = f"galerly-{next(_numbers)}"
        self.client.create_bucket(Bucket=name)
        return Objects(self, name)


@dataclass
class Objects:
    """A bucket as another client sees it, and galerly-cdn's stores over it, which cache no heads."""

    server: S3Server
    name: str
    count: Counted = field(default_factory=Counted)

    def settings(self, **settings: object) -> Settings:
        settings_of_bucket = Settings(
            store=f"s3://{self.name}", store_endpoint=self.server.endpoint, store_fresh_s=0
        )
        return replaced(settings_of_bucket, **settings)

    def originals(self, clock: Callable[[], float] = lambda: 0.0, **settings: object) -> RemoteOriginals:
        from galerly_cdn.store.remote.bucket import Bucket
        from galerly_cdn.store.remote.originals import RemoteOriginals

        changed = self.settings(**settings)
        return RemoteOriginals(
            Bucket(f"{changed.store}/originals", changed, clock, self.count), changed, clock
        )

    def root(self, name: str) -> Bucket:
        """The objects under `originals`, `resized` or `incoming`."""
        from galerly_cdn.store.remote.bucket import Bucket

        settings = self.settings()
        return Bucket(f"{settings.store}/{name}", settings, lambda: 0.0, self.count)

    def renditions(self, clock: Callable[[], float] = lambda: 0.0, **settings: object) -> RemoteRenditions:
        from galerly_cdn.store.remote.bucket import Bucket
        from galerly_cdn.store.remote.renditions import RemoteRenditions

        changed = self.settings(**settings)
        return RemoteRenditions(Bucket(f"{changed.store}/resized", changed, clock, self.count), self.count)

    def put(self, key: str, content: bytes, **headers: object) -> None:
        self.server.client.put_object(Bucket=self.name, Key=key, Body=content, **headers)

    def get(self, key: str) -> bytes:
        content: bytes = self.server.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def remove(self, key: str) -> None:
        self.server.client.delete_object(Bucket=self.name, Key=key)

    def erase(self, key: str) -> None:
        """Remove all versions of a deleted object, and its delete marker.

        versitygw takes the marker for an object, and refuses to create one over it; S3 does not
        (https://github.com/versity/versitygw/issues/1750).
        """
        found = self.server.client.list_object_versions(Bucket=self.name, Prefix=key)
        for one in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]:
            if one["Key"] == key:
                self.server.client.delete_object(Bucket=self.name, Key=key, VersionId=one["VersionId"])

    def names(self) -> list[str]:
        found = self.server.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return [one["Key"] for one in found]

    def damage(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Change an object's bytes, and keep its headers and metadata."""
        found = self.server.client.get_object(Bucket=self.name, Key=key)
        self.put(
            key,
            change(found["Body"].read()),
            ContentType=found["ContentType"],
            Metadata=found["Metadata"],
            **({"CacheControl": found["CacheControl"]} if "CacheControl" in found else {}),
        )

    def damage_renditions(self) -> None:
        """Damage every stored rendition."""

        def damaged(content: bytes) -> bytes:
            return content[:-20] + bytes([content[-20] ^ 0x40]) + content[-19:]

        for key in self.rendition_names():
            self.damage(key, damaged)

    def delete_renditions(self) -> None:
        """Delete every stored rendition."""
        for key in self.rendition_names():
            self.remove(key)

    def rendition_names(self) -> list[str]:
        """The keys of renditions and fact records; not the list of recipes."""
        return [key for key in self.names() if re.match("resized/(?!recipes/)", key)]


def client(endpoint: str) -> Any:  # noqa: ANN401 - botocore has no types
    """A botocore client."""
    import botocore.session
    from botocore.config import Config

    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_REGION"],
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@contextmanager
def credentials() -> Iterator[None]:
    """Sets the tests' credentials in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@contextmanager
def moto() -> Iterator[S3Server]:
    """Runs moto's server in a thread of this process."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        running.stop()


def versitygw_program() -> Path | None:
    """The program that `script/s3` downloads; None if it is missing."""
    return next(iter(Path(__file__).parents[2].glob(".galerly/bin/versitygw-v*")), None)


@contextmanager
def versitygw(root: Path, *, webhook: str = "") -> Iterator[S3Server]:
    """Runs versitygw over a folder, with a folder of versions beside it; it posts changes to `webhook`."""
    program = versitygw_program()
    assert program
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {
        "ROOT_ACCESS_KEY": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    }
    versions = root.with_name(f"{root.name}-versions")
    versions.mkdir(exist_ok=True)
    command: list[str | Path] = [
        program,
        "--quiet",
        "--keep-alive",
        "--port",
        f"127.0.0.1:{port}",
        *(("--event-webhook-url", webhook) if webhook else ()),
        "posix",
        "--versioning-dir",
        versions,
        root,
    ]
    with subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C is for the process that ends all parts in order
    ) as process:
        try:
            _wait_until_ready(port, process)
            yield S3Server(f"http://127.0.0.1:{port}", longest_segment_bytes=255, process=process)
        finally:
            process.terminate()


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the port answers. Raises `RuntimeError` if the process ends first."""
    while process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except ConnectionError:
            continue
        finally:
            connection.close()
        return
    raise RuntimeError(f"versitygw ended with {process.returncode}")
