"""A folder of photographs served as our template would serve it from AWS, on one machine, until a signal.

photographs → versitygw's bucket, or the folder itself → chain → listener
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import galerly_cdn
from galerly_cdn.aws import template
from galerly_cdn.errors import SettingsError
from galerly_cdn.model import Value
from galerly_cdn.store.folder import FolderOriginals
from galerly_cdn.url import checked_key, format_key
from local_cloudfront import chain, gateway, server
from local_cloudfront.access import Identity
from local_cloudfront.app import Deployment
from local_cloudfront.folder import media_type
from local_cloudfront.stack import REGION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.config import Settings

HOST = "127.0.0.1"
_BUCKET = "galerly-local"
_NOWHERE = "http://s3.localhost"
"""What requests to S3 are signed for where no server has an address."""
_CODE = Path(galerly_cdn.__file__).parents[1]
_SIZE = "800x600"


class Running(Value, frozen=True, kw_only=True):
    """What was started. `variables` lead commands to the store; `gateway` is the S3 server's program, or None.

    `first` is an address that works, empty if there is no photograph.
    """

    address: str
    first: str
    gateway: str | None
    variables: dict[str, str]


async def serve(
    photographs: Path,
    settings: Settings,
    port: int,
    *,
    announce: Callable[[Running], None],
    progress: Callable[[int, int], None],
    record: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, and leave nothing behind.

    `progress` is told of photographs that are being copied, `record` of CloudFront's access log and the resizer's, line by line. Raises
    `SettingsError`, `StoreRefused`, `StoreUnreachable`, `UnmodelledProperty`, `OSError`.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    _check()
    found = await _listed(photographs)
    with contextlib.suppress(asyncio.CancelledError):
        async with _deployed(photographs, found, settings, progress) as (deployment, program):
            tell = record if settings.access_log else lambda _: None
            code = chain.Code(str(_CODE))
            async with (
                chain.start(deployment, code, record=lambda one: tell(json.dumps(one)), tell=tell) as running,
                server.listening(running.cloud.edge, HOST, port, scheme="https") as bound,
            ):
                address = f"http://{HOST}:{bound}"
                announce(_running(address, next(iter(found), ""), program, deployment))
                await asyncio.Event().wait()


def _check() -> None:
    """Raises `SettingsError` for what is not installed."""
    if importlib.util.find_spec("awslambdaric") is None:
        told = "pip install 'galerly-cdn[aws]', on Linux" if sys.platform == "linux" else "it runs on Linux alone"
        raise SettingsError([f"awslambdaric: needed to run the functions as Lambda does; {told}"])


async def _listed(photographs: Path) -> dict[str, Path]:
    """The photographs of a folder by key, what is named like none left out. Raises `SettingsError`."""
    originals = FolderOriginals(photographs, checked_key, now=lambda: 0.0)
    return {one.key: photographs / one.key async for one in originals.list() if media_type(one.key)}


@contextlib.asynccontextmanager
async def _deployed(
    photographs: Path, found: dict[str, Path], settings: Settings, progress: Callable[[int, int], None]
) -> AsyncIterator[tuple[Deployment, str | None]]:
    """A deployment whose bucket has the photographs, and the S3 server's program if there is one."""
    program = gateway.find()
    identity = Identity(f"LOCAL{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
    with tempfile.TemporaryDirectory(prefix="galerly-cdn-local-") as scratch:
        if program is None:
            Path(scratch, "originals").symlink_to(photographs.absolute())
            yield _deployment(settings, identity, _NOWHERE, scratch), None
            return
        _check_room(found, scratch)
        async with gateway.running(program, Path(scratch), identity) as endpoint:
            stored = {f"originals/{key}": file for key, file in found.items()}
            await gateway.put(endpoint, _BUCKET, identity, stored, progress)
            yield _deployment(settings, identity, endpoint), program


def _deployment(settings: Settings, identity: Identity, endpoint: str, folder: str = "") -> Deployment:
    return Deployment(
        template=template.render(settings),
        parameters={"BucketName": _BUCKET, "CodeBucket": "local", "CodeKey": "resizer.zip"},
        s3_endpoint=endpoint,
        identity=identity,
        folder=folder,
    )


def _check_room(found: dict[str, Path], scratch: str) -> None:
    """Raises `SettingsError` if the copies would not leave as much room again for what is made of them."""
    wanted_bytes = 2 * sum(file.stat().st_size for file in found.values())
    if shutil.disk_usage(scratch).free < wanted_bytes:
        told = f"the photographs are copied there, which takes {wanted_bytes / 1e9:.1f} GB; TMPDIR may lead elsewhere"
        raise SettingsError([f"{Path(scratch).parent} is too small: {told}"])


def _running(address: str, first: str, program: str | None, deployment: Deployment) -> Running:
    identity = deployment.identity
    told = {"GALERLY_STORE": deployment.folder}
    if program is not None:
        told = {
            "GALERLY_STORE": f"s3://{_BUCKET}",
            "GALERLY_STORE_ENDPOINT": deployment.s3_endpoint,
            "AWS_ACCESS_KEY_ID": identity.access_key,
            "AWS_SECRET_ACCESS_KEY": identity.secret_key,
            "AWS_REGION": REGION,
        }
    return Running(
        address=address,
        first=f"{address}/resize/{_SIZE}/{format_key(first)}" if first else "",
        gateway=program,
        variables=told,
    )
