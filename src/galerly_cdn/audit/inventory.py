"""Lists a bucket by an S3 Inventory in place of requests: 100 million keys are some gigabytes of CSV.

An inventory is up to a day or a week late. Whatever it names is read again before it is removed.
(Amazon S3 User Guide, "Locating your inventory list", "Amazon S3 Inventory list".)
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import hashlib
import zlib
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from galerly_cdn.errors import CommandError
from galerly_cdn.serialization import ValidationError, Value, from_json
from galerly_cdn.store.recipe_entry import FOLDER as RECIPES
from galerly_cdn.store.remote.pending_invalidations import FOLDER as INVALIDATIONS
from galerly_cdn.store.remote.raw_listing import ListedObject
from galerly_cdn.store.remote.stored_objects import item_of, original_item
from galerly_cdn.store.stored_items import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from galerly_cdn.store.remote.bucket import Bucket
    from galerly_cdn.store.remote.stored_objects import RenditionObjects
    from galerly_cdn.store.stored_items import OriginalItem, StoredItem

_COLUMNS = ("Key", "Size", "LastModifiedDate", "ETag")
_RENDITIONS, _FACTS = "renditions", "facts"


class InvalidInventory(CommandError):
    """No inventory of this store that can be read; `detail` says what is wrong with it."""

    code = "invalid-inventory"
    public = "The inventory cannot be used."


class InventoryFile(Value, frozen=True, forbid_unknown_fields=False, rename={"md5": "MD5checksum"}):
    """A file of an inventory: its key in the bucket of inventories, and its MD5 in hex."""

    key: str
    md5: str = ""


class Manifest(Value, frozen=True, forbid_unknown_fields=False, rename="camel"):
    """`manifest.json` of an inventory."""

    source_bucket: str
    file_format: str
    file_schema: str
    files: tuple[InventoryFile, ...]


def parse_manifest(content: bytes, bucket: str) -> Manifest:
    """The manifest of an inventory of this bucket. Raises `InvalidInventory`."""
    try:
        manifest = from_json(Manifest, content)
    except ValidationError as error:
        raise InvalidInventory(f"it is no manifest.json of S3 Inventory: {error}") from error
    if manifest.source_bucket != bucket:
        raise InvalidInventory(f"it is of the bucket {manifest.source_bucket}, and the store is in {bucket}")
    if manifest.file_format != "CSV":
        raise InvalidInventory(f"its files are {manifest.file_format}: configure the inventory to write CSV")
    columns = _columns(manifest.file_schema)
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise InvalidInventory(f"it has no {', '.join(missing)}: add these fields to its configuration")
    return manifest


def _columns(schema: str) -> dict[str, int]:
    return {name.strip(): number for number, name in enumerate(schema.split(","))}


def read_rows(files: Iterator[Path], schema: str) -> Iterator[ListedObject]:
    """The objects in files of an inventory, by their whole keys. Raises `InvalidInventory`."""
    columns = _columns(schema)
    for path in files:
        try:
            with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
                for row in csv.reader(text):
                    if _is_present(row, columns):
                        yield _object(row, columns)
        except (OSError, EOFError, IndexError, ValueError, csv.Error, zlib.error) as error:
            raise InvalidInventory(f"{path.name}: {error}") from error


def _is_present(row: list[str], columns: Mapping[str, int]) -> bool:
    """Whether a row is an object of now, in an inventory of all versions."""
    is_latest = "IsLatest" not in columns or row[columns["IsLatest"]] == "true"
    is_deleted = "IsDeleteMarker" in columns and row[columns["IsDeleteMarker"]] == "true"
    return is_latest and not is_deleted


def _object(row: list[str], columns: Mapping[str, int]) -> ListedObject:
    key, size, modified, etag = (row[columns[name]] for name in _COLUMNS)
    modified_s = dt.datetime.fromisoformat(modified).timestamp()
    return ListedObject(unquote_plus(key), int(size), modified_s, etag.strip('"'))


class Inventory:
    """The files of an inventory on this machine, and the keys that the store's roots begin with."""

    def __init__(self, manifest: Manifest, files: tuple[Path, ...]) -> None:
        self._schema = manifest.file_schema
        self._files = files

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        """The objects whose keys begin with a prefix, without it. Raises `InvalidInventory`."""
        for one in read_rows(iter(self._files), self._schema):
            if one.key.startswith(prefix):
                yield one._replace(key=one.key.removeprefix(prefix))


def read_inventory(manifest: Path, bucket: str) -> Inventory:
    """The inventory whose manifest is a file of this machine. Raises `InvalidInventory`, `OSError`."""
    parsed = parse_manifest(manifest.read_bytes(), bucket)
    return Inventory(parsed, tuple(_local(manifest, one) for one in parsed.files))


async def download_inventory(source: Bucket, manifest: str, bucket: str, folder: Path) -> Inventory:
    """The inventory of a bucket whose manifest has this key in a bucket of inventories, in a folder.

    Raises `InvalidInventory`, `OSError`, and as a store does.
    """
    _, content = await source.read(manifest)
    parsed = parse_manifest(content, bucket)
    return Inventory(parsed, tuple([await _download(source, one, folder) for one in parsed.files]))


def _local(manifest: Path, file: InventoryFile) -> Path:
    """The copy of a file beside its manifest: the folder `data` is beside that of the manifest."""
    name = file.key.rpartition("/")[2]
    folders = (manifest.parent, manifest.parent / "data", manifest.parent.parent / "data")
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        raise InvalidInventory(f"{name} is neither beside the manifest nor in a folder data beside it")
    with found.open("rb") as content:
        _check_md5(file, hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest())
    return found


async def _download(source: Bucket, file: InventoryFile, folder: Path) -> Path:
    path = folder / file.key.rpartition("/")[2]
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("wb") as saved:

        def write(_: object, chunk: bytes) -> None:
            digest.update(chunk)
            saved.write(chunk)

        await source.download(file.key, write)
    _check_md5(file, digest.hexdigest())
    return path


def _check_md5(file: InventoryFile, md5: str) -> None:
    if file.md5 and file.md5 != md5:
        raise InvalidInventory(f"{file.key}: its MD5 is {md5}, and {file.md5} in the manifest")


class InventoryOriginals:
    """The originals of an inventory; `prefix` is the beginning of their keys in the bucket."""

    def __init__(self, inventory: Inventory, prefix: str) -> None:
        self._inventory = inventory
        self._prefix = prefix

    async def list(self) -> AsyncIterator[OriginalItem]:
        """The originals. Raises `InvalidInventory`."""
        for one in self._inventory.objects(self._prefix):
            if (item := original_item(one)) is not None:
                yield item

    def version(self, key: str) -> str:  # noqa: ARG002 - the interface has it
        """Not known without a request."""
        return ""


class InventoryRenditions:
    """The renditions of an inventory, which are read from and removed from the store itself."""

    def __init__(self, inventory: Inventory, prefix: str, objects: RenditionObjects) -> None:
        self._inventory = inventory
        self._prefix = prefix
        self.parallel = objects.parallel
        self.read = objects.read
        self.remove = objects.remove

    async def parts(self) -> tuple[str, ...]:
        """All but the fact records, then these."""
        return (_RENDITIONS, _FACTS)

    async def items(self, part: str) -> AsyncIterator[StoredItem]:
        """The objects of a part. Raises `InvalidInventory`."""
        for one in self._inventory.objects(self._prefix):
            item = item_of(one)
            is_shown = one.key.partition("/")[0] not in {RECIPES, INVALIDATIONS}
            if is_shown and (item.kind is Kind.FACTS) == (part == _FACTS):
                yield item
