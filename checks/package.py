"""`python -m checks.package`: the Lambda package, built for this machine from the same lock, makes a picture.

Its content alone is enough to start each function; then AWS's runtime client runs it over an S3 server.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from galerly_cdn.aws import build, wheels
from galerly_cdn.config import Settings
from galerly_cdn.render import process
from tests import pictures, s3
from tests.functions import MEMORY_MB, answer, change, function, request, running

_ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import galerly_cdn.aws.lambda_{name} as module
print(module.__file__)
"""


def unpacked(folder: Path) -> Path:
    """The package's content, as Lambda unpacks it."""
    built = build.build(Settings(), folder / "built", machine=wheels.here())
    with zipfile.ZipFile(built.zip) as archive:
        archive.extractall(folder / "task")
    return folder / "task"


def started(root: Path, name: str) -> None:
    """Import a function's module without any package of ours. Raises `CalledProcessError`."""
    environment = {
        **process.ENVIRONMENT,
        **s3.CREDENTIALS,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
        "GALERLY_STORE": "s3://bucket",
    }
    command = [sys.executable, "-I", "-S", "-c", _ALONE.format(name=name), str(root)]
    told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    assert told.stdout.startswith(str(root)), told.stdout


async def asked(root: Path, name: str, bucket: s3.Objects, event: dict[str, object]) -> object:
    """What a function answers under AWS's runtime client."""
    async with running(function(name, bucket.settings(), root=root)) as runtime:
        return await runtime.invoke(event)


def main() -> int:
    """Build it, start it, ask it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # every request to the S3 server
    with tempfile.TemporaryDirectory() as scratch, s3.credentials(), s3.moto() as server:
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
    print(f"The package of {wheels.here()} made {len(stored)} pictures.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
