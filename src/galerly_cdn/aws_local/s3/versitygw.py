"""Runs versitygw, an S3 server, over a temporary folder, and puts photographs into a bucket of it.

The photographs are copied because versitygw knows the ETag and media type only of objects that were put
through it, and because it would write its metadata to the user's folder.
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
from galerly_cdn.errors import StoreRefused, StoreUnreachable
from galerly_cdn.render.formats import media_type_by_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity

VERSION = "v1.8.0"
INSTALL = f"go install github.com/versity/versitygw/cmd/versitygw@{VERSION}"
_RETRY_S = 0.02
"""The pause between two attempts to connect to a server that is starting."""
_PARALLEL = 4


def find_program() -> str | None:
    """The path of versitygw: on the PATH, where `go install` puts it, or where `script/s3` does; or None."""
    checkout = Path(__file__).parents[4] / ".galerly" / "bin" / f"versitygw-{VERSION}"
    candidates = [shutil.which("versitygw"), Path.home() / "go" / "bin" / "versitygw", checkout]
    return next((str(path) for path in candidates if path and os.access(path, os.X_OK)), None)


@contextlib.asynccontextmanager
async def run_server(program: str, root: Path, identity: Identity, webhook: str) -> AsyncIterator[str]:
    """Runs the server over an empty folder until the block ends, and yields its endpoint.

    It supports versioning, and posts every change to `webhook`. Raises `StoreUnreachable` if it does not
    start.
    """
    objects, versions, metadata = (root / name for name in ("objects", "versions", "metadata"))
    for folder in (objects, versions, metadata):
        folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    credentials = {"ROOT_ACCESS_KEY": identity.access_key, "ROOT_SECRET_KEY": identity.secret_key}
    devnull = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *(program, "--quiet", "--keep-alive", "--port", f"127.0.0.1:{port}"),
        *("--event-webhook-url", webhook),
        *("posix", "--sidecar", str(metadata), "--versioning-dir", str(versions), str(objects)),
        env=credentials,
        start_new_session=True,  # so that Ctrl-C reaches only our process
        stdin=devnull,
        stdout=devnull,
        stderr=devnull,
    )
    try:
        await _wait_until_listening(process, port)
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
    """Creates a bucket and puts files into it by key. Calls `progress` with the number done and the total.

    Raises `StoreRefused`.
    """
    s3 = s3_client(endpoint, identity)
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(_PARALLEL)
    try:
        with boto.aws_errors(StoreRefused):
            await loop.run_in_executor(pool, functools.partial(s3.create_bucket, Bucket=bucket))
            uploads = [
                loop.run_in_executor(pool, _put, s3, bucket, key, file) for key, file in photographs.items()
            ]
            for done, upload in enumerate(asyncio.as_completed(uploads), 1):
                await upload
                progress(done, len(uploads))
    finally:
        pool.shutdown(cancel_futures=True)


def _put(s3: Any, bucket: str, key: str, file: Path) -> None:  # noqa: ANN401 - botocore has no types
    with file.open("rb") as body:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=media_type_by_name(key))


def s3_client(endpoint: str, identity: Identity) -> Any:  # noqa: ANN401 - botocore has no types
    """A botocore client for a server with path-style addressing."""
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret_key,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=_PARALLEL),
    )


async def _wait_until_listening(process: asyncio.subprocess.Process, port: int) -> None:
    """Returns when the server listens. Raises `StoreUnreachable` if the process ends first."""
    ended = asyncio.create_task(process.wait())
    try:
        while not ended.done():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.wait({ended}, timeout=_RETRY_S)
            else:
                writer.close()
                return
    finally:
        ended.cancel()
    raise StoreUnreachable(f"versitygw ended with exit status {process.returncode} before it listened")
