"""What is uploaded to AWS: the functions' zip, the viewer function and the template, into one folder.

The same sources and the same lock give the same bytes, so that the zip's hash can name it: unchanged
code is no change to deploy.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import tempfile
import zipfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.aws.deploy import lambda_packages, template
from galerly_cdn.aws.viewer import source as viewer
from galerly_cdn.errors import BuildFailed
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from galerly_cdn.aws.deploy.lambda_packages import Machine
    from galerly_cdn.settings.table import Settings

MAX_ZIP_BYTES = 16_000_000
"""Ours, far below Lambda's 50 MB: what is not there need not be fetched on a cold start."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can tell."""
_UNUSED = (".pyi", ".pyc", ".c", ".h", ".typed")
_KEPT_METADATA = ("METADATA", "LICENSE", "licenses/")
"""Of a wheel's dist-info: its version, which is asked for, and what its licence asks to be handed on."""


class Built(Value, frozen=True):
    """What lies in the folder; `sha256` is the zip's, and names it in the code bucket."""

    zip: str
    zip_bytes: int
    sha256: str
    viewer: str
    template: str


def build(
    settings: Settings,
    out: Path,
    *,
    with_lambda_edge: bool = False,
    machine: Machine = lambda_packages.LAMBDA,
) -> Built:
    """Write `resizer.zip`, `viewer.js` and `template.yaml`. Raises `BuildFailed`, `SettingsError`, `OSError`.

    `machine` is Lambda's, or `wheels.here()` to try the package.
    """
    text = template.render(settings, with_lambda_edge=with_lambda_edge)
    make = viewer.lambda_edge if with_lambda_edge else viewer.function
    function = make(settings, signed=False)
    with tempfile.TemporaryDirectory(prefix="galerly-cdn-") as scratch:
        code = bundle(
            [
                *package_files(),
                *unpacked(lambda_packages.fetch(lambda_packages.lambda_lock(), machine, Path(scratch))),
            ]
        )
    if len(code) > MAX_ZIP_BYTES:
        raise BuildFailed(f"resizer.zip would have {len(code)} bytes, {MAX_ZIP_BYTES} are allowed")
    out.mkdir(parents=True, exist_ok=True)
    files = {"resizer.zip": code, "viewer.js": function.encode(), "template.yaml": text.encode()}
    for name, content in files.items():
        (out / name).write_bytes(content)
    paths = {name: str(out / name) for name in files}
    return Built(
        zip=paths["resizer.zip"],
        zip_bytes=len(code),
        sha256=hashlib.sha256(code).hexdigest(),
        viewer=paths["viewer.js"],
        template=paths["template.yaml"],
    )


def bundle(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Files by path as a zip: sorted, without times, readable by all. Raises `BuildFailed` for twins."""
    listed = sorted(files)
    names = [name for name, _ in listed]
    twins = sorted({one for one, other in itertools.pairwise(names) if one == other})
    if twins:
        raise BuildFailed(f"in two packages: {', '.join(twins)}")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in listed:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix: the mode means something
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return made.getvalue()


def package_files() -> Iterator[tuple[str, bytes]]:
    """The modules of galerly-cdn itself, as they are installed here."""
    root = Path(str(resources.files("galerly_cdn")))
    for file in root.rglob("*.py"):
        yield f"galerly_cdn/{file.relative_to(root).as_posix()}", file.read_bytes()


def unpacked(found: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """The files of wheels that run: no stubs, no headers, of the metadata version and licence."""
    for wheel in found:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                folder, _, rest = name.partition("/")
                is_metadata = folder.endswith(".dist-info") and not rest.startswith(_KEPT_METADATA)
                if not name.endswith(("/", *_UNUSED)) and not is_metadata:
                    yield name, archive.read(name)
