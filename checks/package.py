"""Checks the Lambda package, built for this machine from the same lock file: `python -m checks.package`.

Each function is started with the package's content alone. Then AWS's runtime client runs them over an S3
server, behind the local CloudFront with the generated template: a miss, a hit, a purge, and a replaced
original.
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
from galerly_cdn.render.pool import fork_server_process
from galerly_cdn.settings.table import Settings
from tests.support import pictures, s3_fault_stack, s3_servers
from tests.support.lambda_functions import MEMORY_MB, answer, change, function, request, running

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_PATH = "/resize/150x150/g/b.jpg"
_RECORD = '"stages_ms"'
_IMPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import galerly_cdn.aws.functions.{name}_handler as module
print(module.__file__)
"""


def server_in(folder: Path) -> AbstractContextManager[s3_servers.S3Server]:
    """versitygw, which verifies signatures, if `script/s3` has installed it; else moto."""
    if s3_servers.versitygw_program() is None:
        print("versitygw is not installed (script/s3): using moto, which accepts every signature.")
        return s3_servers.moto()
    (folder / "s3").mkdir()
    return s3_servers.versitygw(folder / "s3")


def unpacked(folder: Path) -> Path:
    """A folder with the package's content, unpacked as in Lambda."""
    built = build.build(Settings(), folder / "built", machine=lambda_packages.local_machine())
    with zipfile.ZipFile(built.zip) as archive:
        archive.extractall(folder / "task")
    return folder / "task"


def check_import(root: Path, name: str) -> None:
    """Import a function's module with only the package's content. Raises `CalledProcessError`."""
    environment = {
        **fork_server_process.ENVIRONMENT,
        **s3_servers.CREDENTIALS,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
        "GALERLY_STORE": "s3://bucket",
        "RENDITION_DAYS": "180",
    }
    command = [sys.executable, "-I", "-S", "-c", _IMPORT.format(name=name), str(root)]
    completed = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    assert completed.stdout.startswith(str(root)), completed.stdout


async def invoke(root: Path, name: str, bucket: s3_servers.Objects, event: dict[str, object]) -> object:
    """The result of a function under AWS's runtime client."""
    async with running(function(name, bucket.settings(), root=root)) as runtime:
        return await runtime.invoke(event)


async def check_cloudfront(root: Path, bucket: s3_servers.Objects) -> list[str]:
    """CloudFront's result types for requests of a photograph that is replaced and purged in between."""
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
    """Build the package, start the functions, and send requests."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # logs every request to the S3 server
    with (
        tempfile.TemporaryDirectory() as scratch,
        s3_servers.credentials(),
        server_in(Path(scratch)) as server,
    ):
        root = unpacked(Path(scratch))
        for name in ("resizer", "prewarm", "janitor"):
            check_import(root, name)
        bucket = server.bucket()
        bucket.put("originals/g/a.jpg", pictures.jpeg(600, 400))
        result = asyncio.run(invoke(root, "resizer", bucket, request("/resized/150x150.avif/g/a.jpg")))
        assert isinstance(result, dict)
        response = answer(result)
        assert (response.status, response.headers["content-type"]) == (200, "image/avif"), response
        assert asyncio.run(invoke(root, "prewarm", bucket, change("originals/g/a.jpg"))) is None
        stored = [name for name in bucket.names() if name.startswith("resized/")]
        results = asyncio.run(check_cloudfront(root, bucket))
        assert results == ["Miss", "Hit", "Hit", "Miss"], results
    print(f"The package of {lambda_packages.local_machine()} made {len(stored)} pictures.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
