"""Puts objects with unusual names into every shape: those that are keys are served, the others are refused.

The names are put by a client that is not ours: the file system, and botocore, which lists all of them.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from tests.support import awkward_keys, exhaustive, pictures
from tests.support.aws_shape import AwsShape
from tests.support.scenario_player import signing_settings
from tests.support.shapes import Answer, S3ServeProcess, ServeProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.s3_servers import S3Server

SERVED = [
    "plain.jpg", "g/a b.jpg", "g/é.jpg", "g/e\N{COMBINING ACUTE ACCENT}.jpg", "g/a..b.jpg", "g/a./b.jpg",
    "g/~a.jpg", "g/100%.jpg", "g/#1?.jpg", "g/a+b&c.jpg", "g/%2e%2e.jpg", "g/%2Egit.jpg", "g/日本.jpg",
    "g/a'b\".jpg", "g/\N{FULLWIDTH FULL STOP}env.jpg",
]  # fmt: skip
HIDDEN = [
    ".env", ".git/config", ".galerly.jpg", "g/.hidden.jpg", "g/.thumbs/a.jpg", ".a/.b/c.jpg", "...",
    "g/...jpg", "..;/b.jpg", "g/.DS_Store", "g/._a.jpg", ".well-known/a.jpg",
]  # fmt: skip
ODD = [
    "g//double.jpg", "/lead.jpg", "//", "g/../up.jpg", "g/./dot.jpg", "../up.jpg", "g/tab\t.jpg",
    "g/new\nline.jpg", "g/cr\r.jpg", "g/\x01.jpg", "g/\x7f.jpg", "g/\x85.jpg", "g/back\\slash.jpg",
    "..\\up.jpg",
]  # fmt: skip
PICTURE = pictures.jpeg(60, 40)

REPLACEMENT = pictures.jpeg(40, 60)
KEYS = int(os.environ.get("AWKWARD_KEYS", exhaustive.count(24, sample=8)))
AWKWARD = awkward_keys.make_keys(KEYS, seed=14)

Shape = ServeProcess | AwsShape


@pytest.fixture(
    params=["folder", "S3", pytest.param("AWS", marks=pytest.mark.server("node", "versitygw"))],
    scope="module",
)
def shape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shape]:
    root = tmp_path_factory.mktemp("keys")
    settings = {**signing_settings(root), "sign_originals": False}
    running: Shape
    if request.param == "folder":
        running = ServeProcess(root / "photographs", root / "renditions", {"writable": True, **settings})
    else:
        # moto holds names that versitygw, which keeps objects as files, cannot hold
        server: S3Server = request.getfixturevalue("moto" if request.param == "S3" else "versitygw")
        bucket = server.bucket()
        if request.param == "S3":
            running = S3ServeProcess(root, root, settings, bucket=bucket)
        else:
            running = AwsShape(root, bucket, settings)
    _put_all(running, is_file_system=request.param != "S3")
    yield running
    running.stop()


def _put_all(shape: Shape, *, is_file_system: bool) -> None:
    """Put every name that the store can hold: a file system has no empty, `.` and `..` segments.

    versitygw lists U+0001, which XML 1.0 cannot contain, as another character.
    """
    for name in (*SERVED, *HIDDEN, *ODD):
        if is_file_system and not {"", ".", ".."}.isdisjoint(name.split("/")):
            continue
        if isinstance(shape, AwsShape) and "\x01" in name:
            continue
        if isinstance(shape, AwsShape | S3ServeProcess):
            bucket = shape.bucket
            assert bucket
            try:
                bucket.put(f"originals/{name}", PICTURE)
            except ClientError:
                assert name in ODD
        else:
            file = shape.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(PICTURE)


def _encoded(name: str) -> str:
    return quote(name, safe="/.-_~;")


@pytest.mark.parametrize("name", SERVED)
def test_key_with_unusual_characters_is_served(shape: Shape, name: str) -> None:
    assert shape.request("GET", f"/resize/tiny/{_encoded(name)}", {}).status == 200
    assert shape.request("GET", f"/original/{_encoded(name)}", {}).body == PICTURE


@pytest.mark.parametrize("name", [*HIDDEN, *ODD])
def test_name_that_is_no_key_is_refused_at_every_address(shape: Shape, name: str) -> None:
    for encoded in (_encoded(name), _encoded(name).replace(".", "%2e")):
        for path in (f"/resize/tiny/{encoded}", f"/resize/tiny.webp/{encoded}", f"/original/{encoded}"):
            response = shape.request("GET", path, {})
            assert response.status == 400, path
            assert json.loads(response.body)["error"]["code"] == "malformed-key"
    upload = shape.administer("PUT", f"/originals/{_encoded(name)}", {}, PICTURE)
    assert (upload.status, json.loads(upload.body)["error"]["code"]) == (400, "malformed-key")


def test_listing_has_the_keys_and_no_other_name(shape: Shape) -> None:
    listing = shape.administer("GET", "/originals", {}, b"")
    assert listing.status == 200
    assert [one["key"] for one in json.loads(listing.body)["originals"]] == sorted(SERVED, key=str.encode)


@pytest.mark.parametrize(("operation", "word"), [("purge", "removed"), ("warm", "was_there")])
def test_gallery_operation_has_the_keys_and_no_other_name(shape: Shape, operation: str, word: str) -> None:
    response = shape.administer("POST", f"/{operation}?gallery=g", {}, b"")
    assert response.status == 200
    lines = [json.loads(line) for line in response.body.splitlines()]
    assert all(word in line for line in lines)
    assert {line["key"] for line in lines} == {name for name in SERVED if name.startswith("g/")}


@pytest.mark.exhaustive
@pytest.mark.timeout(3_600)
def test_awkward_key_is_one_photograph_from_upload_to_removal(shape: Shape) -> None:
    """Upload, miss, hit, hit of the store after a restart, replace, purge, remove: each with the same key."""
    bodies = {}
    for key in AWKWARD:
        assert _upload(shape, key, PICTURE, 201), key
        missed, hit = _picture(shape, key), _picture(shape, key)
        assert (missed.status, missed.cache) == (200, "fwd=uri-miss; stored"), key
        assert (hit.body, hit.cache) == (missed.body, "hit"), key
        bodies[key] = missed.body
    assert sorted(set(_listing(shape)) - set(SERVED)) == sorted(AWKWARD)
    shape.restart()
    for key in AWKWARD:
        assert _picture(shape, key).cache == "hit; detail=store", key
        inspected = json.loads(shape.administer("GET", f"/originals/{_encoded(key)}", {}, b"").body)
        assert inspected["key"] == key
        assert inspected["renditions"], key
        assert _upload(shape, key, REPLACEMENT, 200), key
        replaced = _picture(shape, key)
        assert replaced.status == 200
        assert replaced.body != bodies[key], key
        purged = json.loads(shape.administer("POST", f"/purge/{_encoded(key)}", {}, b"").body)
        assert (purged["key"], purged["removed"]) == (key, ["150x150"])
        assert _picture(shape, key).cache == "fwd=uri-miss; stored", key
        deleted = json.loads(shape.administer("DELETE", f"/originals/{_encoded(key)}", {}, b"").body)
        assert (deleted["key"], deleted["existed"], deleted["removed"]) == (key, True, ["150x150"])
        assert _picture(shape, key).status == 404, key
    assert set(_listing(shape)) == set(SERVED)


def _picture(shape: Shape, key: str) -> Answer:
    return shape.request("GET", f"/resize/tiny/{_encoded(key)}", {})


def _upload(shape: Shape, key: str, picture: bytes, status: int) -> bool:
    headers = {"Content-Type": "image/jpeg"}
    path = f"/originals/{_encoded(key)}?replace=true"
    return shape.administer("PUT", path, headers, picture).status == status


def _listing(shape: Shape) -> list[str]:
    """The keys of all pages of the listing."""
    keys: list[str] = []
    after = ""
    while True:
        page = json.loads(shape.administer("GET", f"/originals?limit=1000{after}", {}, b"").body)
        keys += [one["key"] for one in page["originals"]]
        if not page["next"]:
            return keys
        after = f"&after={quote(page['next'], safe='')}"
