"""Serves a folder of photographs as our template serves a bucket on AWS: the core of `galerly-cdn aws local`.

With versitygw the photographs are copied to a bucket of it; without, the folder itself responds in place of
S3. Then the template's stack runs over that bucket, and a server takes viewers' requests.
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
from galerly_cdn.aws_local import stack, viewer_server
from galerly_cdn.aws_local.cloudformation import yaml_template
from galerly_cdn.aws_local.cloudformation.stack import REGION, Stack
from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity
from galerly_cdn.aws_local.cloudfront_stack import Deployment
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.s3 import versitygw
from galerly_cdn.aws_local.s3.notifications import Notifications
from galerly_cdn.errors import SettingsError
from galerly_cdn.http.urls import checked_key, format_key
from galerly_cdn.render.formats import media_type_by_name
from galerly_cdn.serialization import Value
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.originals import FolderOriginals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from galerly_cdn.aws_local.stack import RunningStack

_BUCKET = "galerly-local"
_FOLDER_ENDPOINT = "http://s3.localhost"
"""The endpoint for which requests are signed if a folder responds in place of an S3 server."""
_CODE = str(Path(galerly_cdn.__file__).parents[1])
_EXAMPLE_SIZE = "800x600"


class LocalDeployment(Value, frozen=True, kw_only=True):
    """The folder to serve, and how.

    `program` is the path of versitygw; with None the folder responds in place of an S3 server. With
    `prewarms`, all renditions of an upload are made at once, which needs the events of an S3 server.
    """

    photographs: str
    settings: Settings
    port: int
    program: str | None
    prewarms: bool = False


class RunningDeployment(Value, frozen=True):
    """The addresses of what runs."""

    address: str
    example_url: str
    """The URL of a rendition; empty if no photograph is public."""
    variables: dict[str, str]
    """Environment variables with which other commands use this store and CloudFront."""
    key_ids: dict[str, str]
    """CloudFront's ID of each public key, by our ID. URLs are signed with CloudFront's."""


@contextlib.asynccontextmanager
async def start(
    local: LocalDeployment, progress: Callable[[int, int], None], log: Callable[[str], None]
) -> AsyncIterator[RunningDeployment]:
    """Serves until the block ends, then stops all processes and removes all temporary files.

    `progress` is called with the number of photographs copied and their total. `log` gets the lines of
    CloudFront's access log and of the functions' logs. Raises `SettingsError`, `StoreRefused`,
    `StoreUnreachable`, `UnmodelledProperty`, `OSError`.
    """
    if importlib.util.find_spec("awslambdaric") is None:
        raise SettingsError(["awslambdaric is required (Linux only): pip install 'galerly-cdn[aws]'"])
    if local.prewarms and local.program is None:
        raise SettingsError(
            [f"prewarming needs the S3 server versitygw, which is not installed: {versitygw.INSTALL}"]
        )
    _check_port(local.port)
    photographs = await _list_photographs(Path(local.photographs))
    log_line = log if local.settings.access_log else lambda _: None
    notifications = Notifications()
    async with (
        api_server.listen(notifications) as webhook,
        _deploy(local, photographs, webhook, progress) as deployment,
        stack.start(
            deployment,
            stack.FunctionCode(_CODE),
            notifications=notifications,
            record=lambda record: log_line(json.dumps(record)),
        ) as running,
        _delivering_events(running),
        viewer_server.listen(running.cloudfront.edge, api_server.HOST, local.port, scheme="https") as port,
    ):
        for function in running.functions.values():
            function.on_log_line = log_line
        address = f"http://{api_server.HOST}:{port}"
        yield RunningDeployment(
            address,
            _example_url(address, photographs, local.settings),
            _variables(address, deployment, running),
            _key_ids(deployment, local.settings),
        )


@contextlib.asynccontextmanager
async def _delivering_events(running: RunningStack) -> AsyncIterator[None]:
    """Delivers the events of uploads by the machine's clock until the block ends."""
    task = asyncio.create_task(running.event_bus.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _list_photographs(root: Path) -> dict[str, Path]:
    """A folder's photographs by key; other files are left out by extension. Raises `SettingsError`."""
    originals = FolderOriginals(root, checked_key, now=lambda: 0.0)
    return {
        original.key: root / original.key
        async for original in originals.list()
        if media_type_by_name(original.key)
    }


@contextlib.asynccontextmanager
async def _deploy(
    local: LocalDeployment, photographs: dict[str, Path], webhook: str, progress: Callable[[int, int], None]
) -> AsyncIterator[Deployment]:
    """A deployment whose bucket has the photographs, until the block ends."""
    identity = Identity(f"LOCAL{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
    with tempfile.TemporaryDirectory(prefix="galerly-cdn-local-") as scratch:
        if local.program is None:
            _link_originals(local.photographs, scratch)
            yield _deployment(local, identity, _FOLDER_ENDPOINT, scratch)
            return
        _check_disk_space(photographs, scratch)
        async with versitygw.run_server(local.program, Path(scratch), identity, webhook) as endpoint:
            stored = {f"originals/{key}": file for key, file in photographs.items()}
            await versitygw.put_files(endpoint, _BUCKET, identity, stored, progress)
            yield _deployment(local, identity, endpoint)


def _link_originals(photographs: str, scratch: str) -> None:
    """Makes `scratch` a folder store whose originals are the photographs."""
    Path(scratch, "originals").symlink_to(Path(photographs).absolute())


def _check_port(port: int) -> None:
    """Raises `SettingsError` for a port that is in use, before anything is copied."""
    try:
        socket.create_server((api_server.HOST, port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SettingsError([f"port: cannot listen on {api_server.HOST}:{port}: {reason}"]) from error


def _check_disk_space(photographs: dict[str, Path], scratch: str) -> None:
    """Raises `SettingsError` unless there is space for the copies, and as much again for the renditions."""
    required_bytes = 2 * sum(file.stat().st_size for file in photographs.values())
    if shutil.disk_usage(scratch).free < required_bytes:
        folder, required_gb = Path(scratch).parent, required_bytes / 1e9
        problem = f"not enough disk space in {folder}: copying the photographs needs {required_gb:.1f} GB"
        raise SettingsError([f"{problem}; set TMPDIR to use another folder"])


def _deployment(local: LocalDeployment, identity: Identity, endpoint: str, folder: str = "") -> Deployment:
    return Deployment(
        template=template.render(local.settings),
        parameters={
            "BucketName": _BUCKET,
            "CodeBucket": "local",
            "CodeKey": "resizer.zip",
            "Prewarm": "on" if local.prewarms else "off",
        },
        s3_endpoint=endpoint,
        identity=identity,
        folder=folder,
    )


def _example_url(address: str, keys: Iterable[str], settings: Settings) -> str:
    """The URL of a rendition of the first public photograph; empty if there is none."""
    private = private_folders(settings.private_prefixes)
    public = (key for key in keys if not key.startswith(private))
    return next((f"{address}/resize/{_EXAMPLE_SIZE}/{format_key(key)}" for key in public), "")


def _key_ids(deployment: Deployment, settings: Settings) -> dict[str, str]:
    """CloudFront's ID of each public key, by our ID."""
    resources = Stack(yaml_template.read(deployment.template), deployment.parameters)
    return {key.id: resources.identity(key.name) for key in template.keys(settings)}


def _variables(address: str, deployment: Deployment, running: RunningStack) -> dict[str, str]:
    """Environment variables with which our commands change this store and invalidate this CloudFront."""
    store = {"GALERLY_STORE": f"s3://{_BUCKET}", "GALERLY_STORE_ENDPOINT": deployment.s3_endpoint}
    return {
        **({"GALERLY_STORE": deployment.folder} if deployment.folder else store),
        "GALERLY_PUBLIC_URLS": address,
        "GALERLY_DISTRIBUTION": running.cloudfront.plan.distribution.id,
        "AWS_ENDPOINT_URL_CLOUDFRONT": running.api_address,
        "AWS_ACCESS_KEY_ID": deployment.identity.access_key,
        "AWS_SECRET_ACCESS_KEY": deployment.identity.secret_key,
        "AWS_REGION": REGION,
    }
