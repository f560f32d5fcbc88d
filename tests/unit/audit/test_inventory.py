"""Tests of audits by an S3 Inventory in place of listings."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import pytest

from galerly_cdn.app.audit import open_audit
from galerly_cdn.audit.inventory import InvalidInventory, parse_manifest, read_inventory
from galerly_cdn.audit.judgement import Selection
from tests.support.audited_stores import fill_with_everything, open_audited_store

if TYPE_CHECKING:
    from pathlib import Path

    from galerly_cdn.audit.result import Removed
    from tests.support.s3_servers import Objects, S3Server

SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
SIZES = ("150x150 webp=86", "800x600 jpeg=85")


def inventory_of(objects: Objects) -> dict[str, bytes]:
    """The files of an inventory as S3 writes them (User Guide, "Amazon S3 Inventory list")."""
    listed = objects.server.client.list_objects_v2(Bucket=objects.name)["Contents"]
    rows = [
        f'"{objects.name}","{quote_plus(one["Key"], safe="/")}","v1","true","false","{one["Size"]}",'
        f'"{one["LastModified"]:%Y-%m-%dT%H:%M:%S.000Z}",{one["ETag"]},"STANDARD"\n'
        for one in listed
    ]
    for name, is_latest, is_deleted in (("gone.jpg", "true", "true"), ("old.jpg", "false", "false")):
        row = f'"{objects.name}","resized/150x150/{name}","v0","{is_latest}","{is_deleted}"'
        rows.append(f'{row},"1","2026-01-01T00:00:00.000Z","e","STANDARD"\n')
    files = {
        f"inv/{objects.name}/all/data/{number}.csv.gz": gzip.compress("".join(part).encode())
        for number, part in enumerate((rows[::2], rows[1::2]))
    }
    manifest = {
        "sourceBucket": objects.name,
        "destinationBucket": f"arn:aws:s3:::{objects.name}",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": "CSV",
        "fileSchema": SCHEMA,
        "files": [
            {"key": name, "size": len(content), "MD5checksum": hashlib.md5(content).hexdigest()}
            for name, content in files.items()
        ],
    }
    return {**files, f"inv/{objects.name}/all/2026-12-01T00-00Z/manifest.json": json.dumps(manifest).encode()}


@pytest.mark.parametrize("is_remote", [False, True], ids=["files", "bucket"])
async def test_clean_by_an_inventory_removes_what_a_listing_finds(
    moto: S3Server, tmp_path: Path, *, is_remote: bool
) -> None:
    objects = moto.bucket()
    async with open_audited_store(tmp_path, objects) as store:
        await fill_with_everything(store)
        store.ahead_s = 0.0
        _, listed = await store.run(Selection())
        address = ""
        for name, content in inventory_of(objects).items():
            if is_remote:
                objects.put(name, content)
                address = f"s3://{objects.name}/{name}"
            else:
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                address = str(path)
        removed: list[Removed] = []
        settings = objects.settings(sizes=SIZES)
        selection = Selection(is_expired=False)
        async with open_audit(settings, None, selection, inventory=address) as opened:
            audit = await opened.run()
            await opened.clean(selection, None, removed.append)
        # The upload is too young for the real clock; the fact record is not read, as its original is shown
        found = {one.name for one in listed} - {"2f1b", "facts/h/replaced.jpg"}
        assert {one.name for one in removed} == found
        assert audit.unread_facts == 3
        assert audit.unshown == ()


SHORT_ROW = gzip.compress(b"a,row,too,short\n", mtime=0)
VALID = {"sourceBucket": "photographs", "fileFormat": "CSV", "fileSchema": SCHEMA, "files": []}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"sourceBucket": "others"}, "of the bucket others"),
        ({"fileFormat": "Parquet"}, "write CSV"),
        ({"fileSchema": "Bucket, Key, Size"}, "no LastModifiedDate, ETag"),
        ({"files": 1}, "no manifest.json"),
    ],
)
def test_manifest_that_cannot_be_used_is_refused_with_the_reason(
    changed: dict[str, object], why: str
) -> None:
    with pytest.raises(InvalidInventory) as refused:
        parse_manifest(json.dumps({**VALID, **changed}).encode(), "photographs")
    assert why in refused.value.detail


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "neither beside the manifest"),
        (b"not gzip", "MD5"),
        (SHORT_ROW, "MD5"),
    ],
    ids=["missing", "not gzip", "short row"],
)
def test_inventory_file_that_is_missing_or_altered_is_refused(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({**VALID, "files": [{"key": "a/data/0.csv.gz", "MD5checksum": "0" * 32}]}))
    if content is not None:
        (tmp_path / "0.csv.gz").write_bytes(content)
    with pytest.raises(InvalidInventory) as refused:
        read_inventory(manifest, "photographs")
    assert why in refused.value.detail


@pytest.mark.parametrize(
    "content", [b"not gzip", SHORT_ROW, SHORT_ROW[:20]], ids=["not gzip", "short row", "cut off"]
)
def test_inventory_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({**VALID, "files": [{"key": "a/data/0.csv.gz"}]}))
    (tmp_path / "0.csv.gz").write_bytes(content)
    with pytest.raises(InvalidInventory, match=r"0\.csv\.gz"):
        list(read_inventory(manifest, "photographs").objects(""))
