"""A folder of photographs, served as our template would serve it from AWS: all of it on one machine.

photographs → versitygw's bucket, or the folder itself → chain → listener
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import galerly_cdn
from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.aws.deploy import template
from galerly_cdn.aws_local import stack as chain
from galerly_cdn.aws_local import viewer_server
from galerly_cdn.aws_local.cloudformation import yaml_template as cloudformation
from galerly_cdn.aws_local.cloudformation.stack import REGION, Stack
from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity
from galerly_cdn.aws_local.cloudfront_stack import Deployment
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.s3 import versitygw
from galerly_cdn.aws_local.s3.folder_bucket import media_type
from galerly_cdn.aws_local.s3.notifications import Notifications
from galerly_cdn.errors import SettingsError
from galerly_cdn.http.urls import checked_key, format_key
from galerly_cdn.serialization import Value
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.originals import FolderOriginals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from galerly_cdn.aws_local.stack import RunningStack

_BUCKET = "galerly-local"
_NOWHERE = "http://s3.localhost"
"""What requests to S3 are signed for where no server has an address."""
_CODE = str(Path(galerly_cdn.__file__).parents[1])
_SIZE = "800x600"


class LocalDeployment(Value, frozen=True, kw_only=True):
    """What is to be served: `program` is the S3 server's, None to have the folder response in its place.

    `prewarms`: every picture of what is uploaded is made at once; a folder tells of no uploads.
    """

    photographs: str
    settings: Settings
    port: int
    program: str | None
    prewarms: bool = False


class RunningDeployment(Value, frozen=True):
    """Where it is. `variables` lead commands to the store; `first` is empty if no photograph is public.

    `keys` are CloudFront's names of public keys, by ours: addresses are signed by the former.
    """

    address: str
    first: str
    variables: dict[str, str]
    keys: dict[str, str]


@contextlib.asynccontextmanager
async def start(
    laptop: LocalDeployment, progress: Callable[[int, int], None], tell: Callable[[str], None]
) -> AsyncIterator[RunningDeployment]:
    """Serve until the block ends, and leave nothing behind.

    `progress` is told of photographs that are being copied: how many of how many. `tell` gets the lines of
    CloudFront's access log and of the resizer's. Raises `SettingsError`, `StoreRefused`, `StoreUnreachable`,
    `UnmodelledProperty`, `OSError`.
    """
    if importlib.util.find_spec("awslambdaric") is None:
        raise SettingsError(["awslambdaric: needed, on Linux: pip install 'galerly-cdn[aws]'"])
    if laptop.prewarms and laptop.program is None:
        raise SettingsError([f"prewarming needs an S3 server, versitygw: {versitygw.INSTALL}"])
    _check_port(laptop.port)
    root = Path(laptop.photographs)
    found = await _listed(root)
    lines = tell if laptop.settings.access_log else lambda _: None
    notifications = Notifications()
    async with (
        api_server.listen(notifications) as webhook,
        _deployed(laptop, found, webhook, progress) as deployment,
        chain.start(
            deployment,
            chain.FunctionCode(_CODE),
            notifications=notifications,
            record=lambda one: lines(json.dumps(one)),
        ) as running,
        _delivering(running),
        viewer_server.listen(running.cloud.edge, api_server.HOST, laptop.port, scheme="https") as port,
    ):
        for function in running.functions.values():
            function.tell = lines
        address = f"http://{api_server.HOST}:{port}"
        yield RunningDeployment(
            address,
            _first(address, found, laptop.settings),
            _variables(address, deployment, running),
            _keys(deployment, laptop.settings),
        )


@contextlib.asynccontextmanager
async def _delivering(running: RunningStack) -> AsyncIterator[None]:
    """What happens after an upload, by the time of this machine."""
    task = asyncio.create_task(running.events.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _listed(root: Path) -> dict[str, Path]:
    """The photographs of a folder by key, what is named like none left out. Raises `SettingsError`."""
    originals = FolderOriginals(root, checked_key, now=lambda: 0.0)
    return {one.key: root / one.key async for one in originals.list() if media_type(one.key)}


@contextlib.asynccontextmanager
async def _deployed(
    laptop: LocalDeployment, found: dict[str, Path], webhook: str, progress: Callable[[int, int], None]
) -> AsyncIterator[Deployment]:
    """The stack, its bucket filled with the photographs."""
    identity = Identity(f"LOCAL{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
    with tempfile.TemporaryDirectory(prefix="galerly-cdn-local-") as scratch:
        if laptop.program is None:
            _lend(laptop.photographs, scratch)
            yield _deployment(laptop, identity, _NOWHERE, scratch)
            return
        _check_room(found, scratch)
        async with versitygw.run_server(laptop.program, Path(scratch), identity, webhook) as endpoint:
            stored = {f"originals/{key}": file for key, file in found.items()}
            await versitygw.put_files(endpoint, _BUCKET, identity, stored, progress)
            yield _deployment(laptop, identity, endpoint)


def _lend(photographs: str, scratch: str) -> None:
    """Make a store of which the folder is a part."""
    Path(scratch, "originals").symlink_to(Path(photographs).absolute())


def _check_port(port: int) -> None:
    """Raises `SettingsError` for one that is taken, before anything is copied."""
    try:
        socket.create_server((api_server.HOST, port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SettingsError([f"port: cannot listen on {api_server.HOST}:{port}: {reason}"]) from error


def _check_room(found: dict[str, Path], scratch: str) -> None:
    """Raises `SettingsError` if copies would not leave as much room again for what is made of them."""
    wanted_bytes = 2 * sum(file.stat().st_size for file in found.values())
    if shutil.disk_usage(scratch).free < wanted_bytes:
        place = Path(scratch).parent
        told = f"the photographs are copied to {place}, which lacks room: {wanted_bytes / 1e9:.1f} GB"
        raise SettingsError([f"{told}; TMPDIR may lead elsewhere"])


def _deployment(laptop: LocalDeployment, identity: Identity, endpoint: str, folder: str = "") -> Deployment:
    return Deployment(
        template=template.render(laptop.settings),
        parameters={
            "BucketName": _BUCKET,
            "CodeBucket": "local",
            "CodeKey": "resizer.zip",
            "Prewarm": "on" if laptop.prewarms else "off",
        },
        s3_endpoint=endpoint,
        identity=identity,
        folder=folder,
    )


def _first(address: str, found: Iterable[str], settings: Settings) -> str:
    """The address of the first picture that anybody may see."""
    private = private_folders(settings.private_prefixes)
    public = (key for key in found if not key.startswith(private))
    return next((f"{address}/resize/{_SIZE}/{format_key(key)}" for key in public), "")


def _keys(deployment: Deployment, settings: Settings) -> dict[str, str]:
    stack = Stack(cloudformation.read(deployment.template), deployment.parameters)
    return {one.id: stack.identity(one.name) for one in template.keys(settings)}


def _variables(address: str, deployment: Deployment, running: RunningStack) -> dict[str, str]:
    """What our commands have to be told to change the store, and to have CloudFront forget."""
    store = {"GALERLY_STORE": f"s3://{_BUCKET}", "GALERLY_STORE_ENDPOINT": deployment.s3_endpoint}
    return {
        **({"GALERLY_STORE": deployment.folder} if deployment.folder else store),
        "GALERLY_PUBLIC_URLS": address,
        "GALERLY_DISTRIBUTION": running.cloud.plan.distribution.id,
        "AWS_ENDPOINT_URL_CLOUDFRONT": running.control,
        "AWS_ACCESS_KEY_ID": deployment.identity.access_key,
        "AWS_SECRET_ACCESS_KEY": deployment.identity.secret_key,
        "AWS_REGION": REGION,
    }
