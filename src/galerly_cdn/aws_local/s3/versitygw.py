"""The S3 server of a laptop: versitygw over a folder of its own, and a bucket in it with photographs.

Copied, not lent: it knows ETag and media type of nothing that was not put through it, and what is in
somebody's folder is not ours to write to.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config

from galerly_cdn.aws.deploy import boto
from galerly_cdn.aws_local.cloudformation.stack import REGION
from galerly_cdn.aws_local.s3.folder_bucket import media_type
from galerly_cdn.errors import StoreRefused, StoreUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity

VERSION = "v1.8.0"
INSTALL = f"go install github.com/versity/versitygw/cmd/versitygw@{VERSION}"
_TURN_S = 0.02
"""Between two looks whether it listens."""
_PARALLEL = 4


def find_program() -> str | None:
    """The program: on the PATH, where `go install` puts it, or where a checkout's `script/s3` does."""
    checkout = Path(__file__).parents[4] / ".galerly" / "bin" / f"versitygw-{VERSION}"
    places = [shutil.which("versitygw"), Path.home() / "go" / "bin" / "versitygw", checkout]
    return next((str(one) for one in places if one and os.access(one, os.X_OK)), None)


@contextlib.asynccontextmanager
async def run_server(program: str, root: Path, identity: Identity, webhook: str) -> AsyncIterator[str]:
    """The server over a folder, until the block ends; its endpoint. Raises `StoreUnreachable`.

    It keeps versions where it is asked to, and posts every change to `webhook`.
    """
    objects, versions, metadata = (root / name for name in ("objects", "versions", "metadata"))
    for folder in (objects, versions, metadata):
        folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    owner = {"ROOT_ACCESS_KEY": identity.access_key, "ROOT_SECRET_KEY": identity.secret_key}
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *(program, "--quiet", "--keep-alive", "--port", f"127.0.0.1:{port}"),
        *("--event-webhook-url", webhook),
        *("posix", "--sidecar", str(metadata), "--versioning-dir", str(versions), str(objects)),
        env=owner,
        start_new_session=True,  # Ctrl-C is for whoever runs us
        stdin=nowhere,
        stdout=nowhere,
        stderr=nowhere,
    )
    try:
        await _listens(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def put_files(
    endpoint: str,
    bucket: str,
    identity: Identity,
    photographs: Mapping[str, Path],
    progress: Callable[[int, int], None],
) -> None:
    """Make a bucket and put photographs in it, by key; `progress` is told how many of how many are there.

    Raises `StoreRefused`.
    """
    s3 = s3_client(endpoint, identity)
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(_PARALLEL)
    try:
        with boto.aws_errors(StoreRefused):
            await loop.run_in_executor(pool, functools.partial(s3.create_bucket, Bucket=bucket))
            works = [
                loop.run_in_executor(pool, _put, s3, bucket, key, file) for key, file in photographs.items()
            ]
            for done, work in enumerate(asyncio.as_completed(works), 1):
                await work
                progress(done, len(works))
    finally:
        pool.shutdown(cancel_futures=True)


def _put(s3: Any, bucket: str, key: str, file: Path) -> None:  # noqa: ANN401 - it has no types
    with file.open("rb") as body:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=media_type(key))


def s3_client(endpoint: str, identity: Identity) -> Any:  # noqa: ANN401 - it has no types
    """botocore's, for a server that names buckets in the path."""
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret_key,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=_PARALLEL),
    )


async def _listens(process: asyncio.subprocess.Process, port: int) -> None:
    """Return when something listens. Raises `StoreUnreachable` if the process ends first."""
    ended = asyncio.create_task(process.wait())
    try:
        while not ended.done():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.wait({ended}, timeout=_TURN_S)
            else:
                writer.close()
                return
    finally:
        ended.cancel()
    raise StoreUnreachable(f"versitygw ended with {process.returncode}")
