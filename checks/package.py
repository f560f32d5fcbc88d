"""`python -m checks.package`: the Lambda package, built for this machine from the same lock, makes a picture.

Its content alone is enough to start each function; then AWS's runtime client runs it over an S3 server, and
our template's CloudFront in front of it: a miss, a hit, a purge, and the replaced original's picture.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.aws.deploy import build, lambda_packages
from galerly_cdn.render.pool import process
from galerly_cdn.settings.table import Settings
from tests.support import pictures, s3_fault_stack, s3_servers
from tests.support.lambda_functions import MEMORY_MB, answer, change, function, request, running

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_PATH = "/resize/150x150/g/b.jpg"
_RECORD = '"stages_ms"'
_ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import galerly_cdn.aws.functions.{name}_handler as module
print(module.__file__)
"""


def server_in(folder: Path) -> AbstractContextManager[s3_servers.S3Server]:
    """One that verifies signatures, where `script/s3` has provided it."""
    if s3_servers.versitygw_program() is None:
        print("versitygw is not here (script/s3): the S3 server is moto's, which takes every signature.")
        return s3_servers.moto()
    (folder / "s3").mkdir()
    return s3_servers.versitygw(folder / "s3")


def unpacked(folder: Path) -> Path:
    """The package's content, as Lambda unpacks it."""
    built = build.build(Settings(), folder / "built", machine=lambda_packages.local_machine())
    with zipfile.ZipFile(built.zip) as archive:
        archive.extractall(folder / "task")
    return folder / "task"


def started(root: Path, name: str) -> None:
    """Import a function's module without any package of ours. Raises `CalledProcessError`."""
    environment = {
        **process.ENVIRONMENT,
        **s3_servers.CREDENTIALS,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
        "GALERLY_STORE": "s3://bucket",
    }
    command = [sys.executable, "-I", "-S", "-c", _ALONE.format(name=name), str(root)]
    told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    assert told.stdout.startswith(str(root)), told.stdout


async def asked(root: Path, name: str, bucket: s3_servers.Objects, event: dict[str, object]) -> object:
    """What a function answers under AWS's runtime client."""
    async with running(function(name, bucket.settings(), root=root)) as runtime:
        return await runtime.invoke(event)


async def served(root: Path, bucket: s3_servers.Objects) -> list[str]:
    """What CloudFront's log calls each request for a photograph, which is replaced and purged in between."""
    bucket.put("originals/g/b.jpg", pictures.jpeg(600, 400))
    async with s3_fault_stack.start(bucket, root=str(root)) as stack:
        variables = {
            **s3_servers.CREDENTIALS,
            "GALERLY_STORE": f"s3://{bucket.name}",
            "GALERLY_STORE_ENDPOINT": bucket.server.endpoint,
            "GALERLY_DISTRIBUTION": stack.running.cloudfront.plan.distribution.id,
            "AWS_ENDPOINT_URL_CLOUDFRONT": stack.running.api_address,
        }
        first, again = [await stack.request(_PATH, accept="image/avif") for _ in range(2)]
        bucket.put("originals/g/b.jpg", pictures.jpeg(400, 600))
        kept = await stack.request(_PATH, accept="image/avif")
        print(await s3_fault_stack.run_command(variables, "purge", "g/b.jpg"), end="")
        other = await stack.request(_PATH, accept="image/avif")
        assert [one.status for one in (first, again, kept, other)] == [200] * 4, stack.access_log
        assert first.body == again.body == kept.body != other.body
        records = [json.loads(line) for line in stack.running.resizer.log_lines if _RECORD in line]
        assert [one["status"] for one in records] == [200] * 2, records
        for line in stack.access_log:
            print("CloudFront", *(line[name] for name in ("cs-uri-stem", "sc-status", "x-edge-result-type")))
        for one in records:
            print("resizer", one["path"], one["status"], one["cache"], one["stages_ms"])
        return [line["x-edge-result-type"] for line in stack.access_log]


def main() -> int:
    """Build it, start it, ask it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # every request to the S3 server
    with (
        tempfile.TemporaryDirectory() as scratch,
        s3_servers.credentials(),
        server_in(Path(scratch)) as server,
    ):
        root = unpacked(Path(scratch))
        for name in ("resizer", "prewarm", "janitor"):
            started(root, name)
        bucket = server.bucket()
        bucket.put("originals/g/a.jpg", pictures.jpeg(600, 400))
        result = asyncio.run(asked(root, "resizer", bucket, request("/resized/150x150.avif/g/a.jpg")))
        assert isinstance(result, dict)
        found = answer(result)
        assert (found.status, found.headers["content-type"]) == (200, "image/avif"), found
        assert asyncio.run(asked(root, "prewarm", bucket, change("originals/g/a.jpg"))) is None
        stored = [name for name in bucket.names() if name.startswith("resized/")]
        results = asyncio.run(served(root, bucket))
        assert results == ["Miss", "Hit", "Hit", "Miss"], results
    print(f"The package of {lambda_packages.local_machine()} made {len(stored)} pictures.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
