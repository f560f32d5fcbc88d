"""Builds what is deployed into one folder: the functions' zip, the viewer function and the template.

The same sources and the same lock give the same bytes, so the zip is named by its hash, and unchanged code
is no change to deploy.
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
from galerly_cdn.aws.errors import BuildFailed
from galerly_cdn.aws.viewer import source as viewer
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from galerly_cdn.aws.deploy.lambda_packages import Machine
    from galerly_cdn.settings.table import Settings

MAX_ZIP_BYTES = 20_000_000
"""This project's limit, far below Lambda's 50 MB: a cold start fetches every byte."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip entry can have."""
_UNUSED_SUFFIXES = (".pyi", ".pyc", ".c", ".h", ".typed")
_KEPT_METADATA = ("METADATA", "LICENSE", "licenses/")
"""Files kept of a wheel's dist-info: the version, which is read at run time, and the licences."""


class Built(Value, frozen=True):
    """The files in the folder. `sha256` is the zip's, and names it in the code bucket."""

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
    progress: Callable[[str], object] = lambda _: None,
) -> Built:
    """Write `resizer.zip`, `viewer.js` and `template.yaml` to `out`.

    `machine` is Lambda's, or `lambda_packages.local_machine()` to run the package here. `progress` gets each
    step as it begins: fetching the packages takes minutes.

    Raises `BuildFailed`, `SettingsError`, `OSError`.
    """
    text = template.render(settings, with_lambda_edge=with_lambda_edge)
    make = viewer.lambda_edge if with_lambda_edge else viewer.function
    function = make(settings, signed=False)
    with tempfile.TemporaryDirectory(prefix="galerly-cdn-") as scratch:
        wheels = lambda_packages.fetch(lambda_packages.lambda_lock(), machine, Path(scratch), progress)
        progress("packing resizer.zip")
        code = bundle([*package_files(), *unpacked(wheels)])
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
    """A zip of files by path: sorted, without times, readable by everybody.

    Raises `BuildFailed` if two files have the same path.
    """
    entries = sorted(files)
    names = [name for name, _ in entries]
    duplicates = sorted({name for name, following in itertools.pairwise(names) if name == following})
    if duplicates:
        raise BuildFailed(f"in two packages: {', '.join(duplicates)}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, where the mode is used
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def package_files() -> Iterator[tuple[str, bytes]]:
    """Paths and contents of galerly-cdn's own modules, as they are installed here."""
    root = Path(str(resources.files("galerly_cdn")))
    for file in root.rglob("*.py"):
        yield f"galerly_cdn/{file.relative_to(root).as_posix()}", file.read_bytes()


def unpacked(wheels: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of the files that wheels need at run time, without stubs and C headers."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                folder, _, rest = name.partition("/")
                is_dropped_metadata = folder.endswith(".dist-info") and not rest.startswith(_KEPT_METADATA)
                if not name.endswith(("/", *_UNUSED_SUFFIXES)) and not is_dropped_metadata:
                    yield name, archive.read(name)
