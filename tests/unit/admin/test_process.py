"""Tests the admin API of a server process, from the first upload to the shutdown."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.support import pictures
from tests.support.admin_process import AdminServer
from tests.support.in_memory_admin import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICTURE = "/resize/tiny/g/a.jpg"


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[AdminServer]:
    server = AdminServer.with_store(tmp_path / "store")
    yield server
    if server.process.poll() is None:
        server.stop()


def sides(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as opened:
        return opened.size


def test_original_is_uploaded_replaced_purged_warmed_and_deleted(admin: AdminServer) -> None:
    wide, tall = pictures.jpeg(600, 400), pictures.jpeg(400, 600)
    assert admin.request_admin("GET", "/readyz").status == 200
    assert admin.request("GET", PICTURE, {}).status == 404

    assert admin.request_admin("PUT", "/originals/g/a.jpg", wide).status == 201
    assert sides(admin.request("GET", PICTURE, {}).body) == (150, 100)
    assert admin.request_admin("PUT", "/originals/g/a.jpg", tall).code == "original-exists"
    assert sides(admin.request("GET", PICTURE, {}).body) == (150, 100)

    replaced = admin.request_admin("PUT", "/originals/g/a.jpg?replace=true", tall)
    assert (replaced.status, replaced.json["outcome"]) == (200, "replaced")
    assert sides(admin.request("GET", PICTURE, {}).body) == (100, 150)

    assert admin.request_admin("POST", "/purge/g/a.jpg").json["removed"] == ["150x150"]
    warmed = admin.request_admin("POST", "/warm?gallery=g").lines
    assert len(warmed) == 12
    assert "hit; detail=store" in admin.request("GET", PICTURE, {}).headers["cache-status"]
    assert len(admin.request_admin("GET", "/originals/g/a.jpg").json["renditions"]) == 12

    metrics = admin.request_admin("GET", "/metrics").body.decode()
    assert 'galerly_pictures_total{format="own",result="stored",size="150x150"} 1.0' in metrics
    assert 'galerly_errors_total{code="no-such-original"} 1.0' in metrics
    assert "galerly_workers 1.0" in metrics
    free, size = (
        float(re.findall(rf"^galerly_renditions_disk_{what}_bytes (.+)$", metrics, re.MULTILINE)[0])
        for what in ("free", "size")
    )
    assert 0 <= free < size

    assert admin.request_admin("DELETE", "/originals/g/a.jpg").json["existed"]
    assert admin.request("GET", PICTURE, {}).status == 404
    assert admin.request_admin("GET", "/originals").json == {"originals": [], "next": ""}
    assert admin.rendition_files() == []

    audits = [record for record in admin.stop() if "action" in record]
    assert [record["outcome"] for record in audits] == [
        "created",
        "original-exists",
        "replaced",
        "purged 1",
        "warmed 12",
        "deleted",
    ]


def test_streamed_upload_over_the_limit_is_refused_early(tmp_path: Path) -> None:
    admin = AdminServer.with_store(tmp_path / "store", max_original_bytes=100_000, queue_bytes=100_000)
    try:
        original = pictures.jpeg(300, 200)
        chunks = (original[at : at + 1000] for at in range(0, len(original), 1000))
        assert (
            admin.request_admin("PUT", "/originals/g/a.jpg", chunks).status == 201
        )  # Transfer-Encoding: chunked
        response = admin.request_admin("PUT", "/originals/g/b.jpg", (b"x" * 1000 for _ in range(150)))
        assert (response.status, response.code) == (413, "upload-too-large")
        assert admin.request_admin("GET", "/originals").json["originals"][0]["key"] == "g/a.jpg"
    finally:
        admin.stop()


@pytest.mark.parametrize("make", ["text", "cut"])
def test_upload_that_cannot_be_rendered_answers_415_with_the_reason(admin: AdminServer, make: str) -> None:
    content = b"<svg/>" if make == "text" else pictures.jpeg(600, 400)[:-3000]
    response = admin.request_admin("PUT", "/originals/g/a.jpg", content)
    assert response.status == 415
    assert response.code == {"text": "unsupported-format", "cut": "undecodable"}[make]
    assert admin.request_admin("GET", "/originals").json["originals"] == []


def test_read_only_folder_refuses_uploads_and_allows_purges(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    (photographs / "g").mkdir(parents=True)
    (photographs / "g" / "a.jpg").write_bytes(pictures.jpeg(300, 200))
    admin = AdminServer(photographs, tmp_path / "renditions", is_read_only=True)
    try:
        assert admin.request("GET", PICTURE, {}).status == 200
        response = admin.request_admin("PUT", "/originals/g/b.jpg", pictures.jpeg(30, 20))
        assert (response.status, response.code, response.headers["allow"]) == (
            405,
            "read-only-store",
            "GET, HEAD",
        )
        assert admin.request_admin("DELETE", "/originals/g/a.jpg").code == "read-only-store"
        assert admin.request_admin("POST", "/purge?gallery=g").lines == [
            {"key": "g/a.jpg", "removed": ["150x150"], "refreshed": []}
        ]
    finally:
        admin.stop()


def test_admin_token_is_not_logged(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    admin = AdminServer.with_store(tmp_path / "store", admin_token_file=file, admin_host="0.0.0.0")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert admin.request_admin("GET", "/livez").status == 200
    assert admin.request_admin("GET", "/metrics").status == 401
    assert admin.request_admin("GET", "/metrics", headers=bearer).status == 200
    assert admin.request_admin("PUT", f"/originals/g/a.jpg?token={TOKEN}", b"").status == 401
    assert (
        admin.request_admin("PUT", f"/originals/g/a.jpg?token={TOKEN}", b"", bearer).code == "malformed-query"
    )
    records = admin.stop()
    assert len(records) == 2
    assert TOKEN not in json.dumps(records)


def test_public_admin_host_without_token_fails_to_start(tmp_path: Path) -> None:
    response = subprocess.run(
        [
            *(sys.executable, "-m", "galerly_cdn", "serve", "--store", tmp_path / "store"),
            *("--port", "0", "--admin-port", "0", "--admin-host", "0.0.0.0"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert response.returncode == 2
    assert response.stderr == "galerly-cdn: admin_host 0.0.0.0 is not loopback: set admin_token_file\n"


def test_shutdown_finishes_a_running_upload(admin: AdminServer) -> None:
    original = pictures.jpeg(300, 200)

    def chunks() -> Iterator[bytes]:
        yield original[:1000]
        admin.process.send_signal(signal.SIGTERM)
        yield original[1000:]

    assert admin.request_admin("PUT", "/originals/g/a.jpg", chunks()).status == 201
    admin.process.communicate(timeout=30)
    assert admin.process.returncode == 0
    assert (admin.folder / "g" / "a.jpg").read_bytes() == original
