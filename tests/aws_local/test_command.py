"""`galerly-cdn aws local`: what is deployed on one machine, with an S3 server or a folder in its place."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.credentials import Credentials
from click.testing import CliRunner

from galerly_cdn.access import keys
from galerly_cdn.access.policy import Policy
from galerly_cdn.access.signing import Signer
from galerly_cdn.aws_local import cloudfront_stack, photograph_folder
from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity, SigningOrigin
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
from galerly_cdn.aws_local.photograph_folder import LocalDeployment
from galerly_cdn.aws_local.s3 import versitygw
from galerly_cdn.aws_local.s3.folder_bucket import FolderBucket
from galerly_cdn.cli import main
from galerly_cdn.errors import SettingsError, StoreUnreachable
from galerly_cdn.model import Format
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.renditions import FolderRenditions
from galerly_cdn.store.interfaces import StoredObject
from tests.support import gated_stack, local_cloudfront, pictures, s3_servers
from tests.support.render_jobs import target
from tests.support.rendition_folders import file_of, make_rendition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from galerly_cdn.aws_local.photograph_folder import RunningDeployment

pytestmark = pytest.mark.server("node")
PATH = "/resize/150x150/g/a%20b.jpg"
WEBP = target("150x150", Format.WEBP)
BINARIES = Path(sys.executable).parent


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    (folder / "g").mkdir(parents=True)
    (folder / "g" / "a b.jpg").write_bytes(pictures.jpeg(300, 200))
    (folder / "g" / "notes.txt").write_text("no photograph")
    return folder


@pytest.fixture(params=["a folder", s3_servers.VERSITYGW])
def asked(request: pytest.FixtureRequest, photographs: Path) -> LocalDeployment:
    """What is to be served, in both ways."""
    program = str(s3_servers.versitygw_program()) if request.param == "versitygw" else None
    return LocalDeployment(photographs=str(photographs), settings=Settings(), port=0, program=program)


@contextlib.asynccontextmanager
async def started(
    asked: LocalDeployment, lines: list[str]
) -> AsyncIterator[tuple[RunningDeployment, httpx.AsyncClient]]:
    """It, and somebody who asks it."""
    async with (
        photograph_folder.start(asked, lambda _done, _of: None, lines.append) as running,
        httpx.AsyncClient(base_url=running.address) as viewer,
    ):
        yield running, viewer


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """The files of a folder."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


# --------------------------------------------------------------------------------------------- what is served


async def test_the_first_address_works_and_its_lines_are_told(asked: LocalDeployment) -> None:
    lines: list[str] = []
    async with started(asked, lines) as (running, viewer):
        assert running.first == f"{running.address}/resize/800x600/g/a%20b.jpg"
        found = [await viewer.get(running.first, headers={"accept": "image/avif"}) for _ in range(2)]
        missing = await viewer.get("/resize/tiny/g/none.jpg")
        refused = await viewer.get("/resize/801x600/g/a%20b.jpg")
    assert [one.headers["x-cache"].split()[0] for one in found] == ["Miss", "Hit"]
    assert {one.headers["content-type"] for one in found} == {"image/avif"}
    assert found[0].content == found[1].content
    assert (missing.status_code, refused.status_code) == (404, 403)
    told = [json.loads(line) for line in lines]
    assert [one["x-edge-result-type"] for one in told if "cs-method" in one][:2] == ["Miss", "Hit"]
    assert [one["key"] for one in told if "stages_ms" in one] == ["g/a b.jpg"]


async def test_what_is_stored_is_answered_without_the_resizer(asked: LocalDeployment) -> None:
    """CloudFront takes it from S3, with what S3 knows of it."""
    lines: list[str] = []
    async with started(asked, lines) as (running, viewer):
        made = await viewer.get(PATH)
        await gated_stack.command(running.variables, "warm", "g/a b.jpg")
        before = len(lines)
        found = await viewer.get("/resize/400x400.webp/g/a%20b.jpg")
    assert found.headers["x-cache"].startswith("Miss")
    assert (found.headers["content-type"], found.headers["cache-control"]) == (
        "image/webp",
        local_cloudfront.YEAR,
    )
    assert found.headers["content-disposition"] == 'inline; filename="a b.webp"'
    assert not any(name.startswith("x-amz-meta") for name in {*found.headers, *made.headers})
    assert [json.loads(line)["sc-status"] for line in lines[before:]] == ["200"]


async def test_a_replaced_photograph_is_the_new_one_after_the_command(
    asked: LocalDeployment, tmp_path: Path
) -> None:
    (tmp_path / "a b.jpg").write_bytes(pictures.jpeg(200, 300))
    async with started(asked, []) as (running, viewer):
        old = await viewer.get(PATH)
        told = await gated_stack.command(
            running.variables, "upload", str(tmp_path / "a b.jpg"), "--gallery", "g", "--replace"
        )
        new = await viewer.get(PATH)
    assert "invalidated  1 photograph by tag, completed" in told
    assert f"asked again  {running.address}" in told
    assert "200 Miss" in told
    assert new.status_code == 200
    assert new.content != old.content


async def test_a_private_gallery_is_for_those_who_sign_by_cloudfront_s_name_of_the_key(
    asked: LocalDeployment, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    key_id, _, secret = keys.create_key_pair(tmp_path / "keys", ecdsa=True)
    settings = Settings(private_prefixes=("/",), public_keys=str(tmp_path / "keys"))
    pem = secret.read_bytes()
    secret.unlink()
    async with started(replaced(asked, settings=settings), []) as (running, viewer):
        assert running.first == ""
        address = running.address.replace("http:", "https:") + PATH
        grant = Policy(resource=address, expires_s=int(time.time()) + 600)
        signed = Signer(running.keys[key_id], pem).url(address, grant)
        found = await viewer.get(signed.replace("https:", "http:"))
        assert (found.status_code, found.headers["cache-control"]) == (200, "private, max-age=3600")
        assert (await viewer.get(PATH)).status_code == 403


async def test_nothing_is_told_where_the_settings_ask_for_silence(asked: LocalDeployment) -> None:
    lines: list[str] = []
    silent = replaced(asked, settings=Settings(access_log=False))
    async with started(silent, lines) as (_, viewer):
        assert (await viewer.get(PATH)).status_code == 200
    assert lines == []


async def test_a_folder_without_photographs_is_served(asked: LocalDeployment) -> None:
    shutil.rmtree(Path(asked.photographs, "g"))
    async with started(asked, []) as (running, viewer):
        assert running.first == ""
        assert (await viewer.get(PATH)).status_code == 404


@pytest.mark.server("versitygw")
async def test_what_is_uploaded_is_prewarmed(photographs: Path, tmp_path: Path) -> None:
    """The server tells of the upload, a queue of it a function, which makes all pictures."""
    (tmp_path / "new.jpg").write_bytes(pictures.jpeg(300, 200))
    asked = LocalDeployment(
        photographs=str(photographs),
        settings=Settings(),
        port=0,
        program=str(s3_servers.versitygw_program()),
        prewarms=True,
    )
    made = asyncio.Event()

    def heard(line: str) -> None:
        if '"was_there"' in line and "g/new.jpg" in line:
            made.set()

    async with photograph_folder.start(asked, lambda _done, _of: None, heard) as running:
        await gated_stack.command(running.variables, "upload", str(tmp_path / "new.jpg"), "--gallery", "g")
        async with asyncio.timeout(60):
            await made.wait()
        told = await gated_stack.command(running.variables, "inspect", "g/new.jpg")
    assert told.count(".avif ") == len(Settings().size_rules)


async def test_a_folder_is_not_prewarmed(asked: LocalDeployment) -> None:
    with pytest.raises(SettingsError, match="versitygw"):
        async with photograph_folder.start(
            replaced(asked, program=None, prewarms=True), lambda _done, _of: None, print
        ):
            pass


@pytest.mark.server("versitygw")
async def test_photographs_are_copied_and_counted(photographs: Path) -> None:
    (photographs / "b.png").write_bytes(pictures.png(30, 20))
    seen: list[tuple[int, int]] = []
    before = contents(photographs)
    asked = LocalDeployment(
        photographs=str(photographs), settings=Settings(), port=0, program=str(s3_servers.versitygw_program())
    )
    async with photograph_folder.start(asked, lambda done, of: seen.append((done, of)), lambda _: None):
        pass
    assert seen == [(1, 2), (2, 2)]
    assert contents(photographs) == before


# ------------------------------------------------------------------------------------- the folder as a bucket


@pytest.fixture
async def shelved(photographs: Path) -> tuple[FolderBucket, SigningOrigin]:
    """A folder with one rendition, and whoever signs for it."""
    root = photographs.parent
    (root / "originals").symlink_to(photographs)
    shelf = FolderRenditions(root / "resized", 10**9, lambda _: None, lambda: 0.0)
    await shelf.put(make_rendition("g/a b.jpg", b"picture", WEBP))
    await shelf.close()
    folder = FolderBucket(root, Settings(), Credentials("id", "secret"))
    return folder, SigningOrigin(folder, Identity("id", "secret"), "s3", "arn")


def request(key: str, method: str = "GET", **headers: str) -> OriginRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OriginRequest(method, "http", "s3.localhost", f"/bucket/{key}", "", named)


async def test_an_object_is_answered_to_who_signs(shelved: tuple[FolderBucket, SigningOrigin]) -> None:
    folder, signed = shelved
    key = "resized/150x150.webp/g/a%20b.jpg"
    found = await signed.respond(request(key))
    assert (found.status, found.body) == (200, b"picture")
    assert found.headers["x-amz-meta-cache-tag"].startswith("o-")
    assert (await signed.respond(request(key, "HEAD"))).body == b""
    assert (await signed.respond(request(key, if_none_match=found.headers["etag"]))).status == 304
    original = await signed.respond(request("originals/g/a%20b.jpg"))
    assert (original.body, original.headers["content-type"]) == (pictures.jpeg(300, 200), "image/jpeg")
    assert (await folder.respond(request(key))).status == 403


@pytest.mark.parametrize(
    "key",
    ["resized/150x150/g/a%20b.jpg", "resized/151x151/x", "originals/none", "incoming/x", "", "resized/"],
)
async def test_what_is_not_there_is_404(shelved: tuple[FolderBucket, SigningOrigin], key: str) -> None:
    _, signed = shelved
    found = await signed.respond(request(key))
    assert (found.status, b"NoSuchKey" in found.body) == (404, True)


async def test_a_signature_by_another_key_for_another_request_or_of_another_body_is_refused(
    shelved: tuple[FolderBucket, SigningOrigin],
) -> None:
    folder, signed = shelved
    key = "resized/150x150.webp/g/a%20b.jpg"
    right = signed.signed(request(key))
    wrong = [
        SigningOrigin(folder, Identity("id", "other"), "s3", "arn").signed(request(key)),
        SigningOrigin(folder, Identity("id", "secret"), "lambda", "arn").signed(request(key)),
        replaced(right, raw_path=f"{right.raw_path}x"),
        replaced(right, headers={**right.headers, "x-amz-content-sha256": "0" * 64}),
        replaced(right, body=b"other"),
    ]
    assert (await folder.respond(right)).status == 200
    assert [(await folder.respond(one)).status for one in wrong] == [403] * len(wrong)


async def test_the_bucket_s_policy_holds_for_a_folder_too(photographs: Path) -> None:
    """Without the right to list, S3 says 403 of what is missing."""
    (photographs.parent / "originals").symlink_to(photographs)
    change = local_cloudfront.put("BucketPolicy/Properties/PolicyDocument/Statement/1", None)
    answers = []
    for text in (local_cloudfront.PLAIN, local_cloudfront.changed(change)):
        deployment = replaced(local_cloudfront.deployed(text), folder=str(photographs.parent))
        async with cloudfront_stack.start(deployment, local_cloudfront.Resizer().of) as cloud:
            door = cloud.faults["s3"]
            asked = OriginRequest("GET", "https", "galerly-1.s3", "/resized/150x150/g/x", "", {})
            answers.append((await door.respond(asked)).status)
    assert answers == [404, 403]


async def test_head_tells_version_and_age_of_what_the_shelf_has(tmp_path: Path) -> None:
    shelf = FolderRenditions(tmp_path, 10**9, lambda _: None, lambda: 0.0)
    assert await shelf.head("a", WEBP) is None
    await shelf.put(make_rendition("a", target=WEBP, version="v7"))
    os.utime(file_of(tmp_path, "a", WEBP), (5, 5))
    assert await shelf.head("a", WEBP) == StoredObject("v7", 5.0)
    await shelf.close()


# -------------------------------------------------------------------------------------------- what is missing


async def test_what_is_missing_is_named(asked: LocalDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"galerly-cdn\[aws\]"):
        async with photograph_folder.start(asked, lambda _done, _of: None, print):
            pass


async def test_a_machine_without_node_is_told_what_is_needed(
    asked: LocalDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SettingsError, match="node or njs"):
        async with photograph_folder.start(asked, lambda _done, _of: None, print):
            pass


async def test_a_server_that_ends_is_no_server(asked: LocalDeployment) -> None:
    with pytest.raises(StoreUnreachable, match="versitygw ended with 1"):
        async with photograph_folder.start(
            replaced(asked, program="/bin/false"), lambda _done, _of: None, print
        ):
            pass


async def test_copies_need_room(asked: LocalDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(SettingsError, match="TMPDIR"):
        async with photograph_folder.start(
            replaced(asked, program="/bin/false"), lambda _done, _of: None, print
        ):
            pass


def test_the_server_is_looked_for_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "versitygw"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert versitygw.find_program() == str(program)
    assert f"\nversion={versitygw.VERSION}\n" in Path("script/s3").read_text()


@pytest.mark.server("versitygw")
def test_find_program_of_a_checkout_returns_what_its_script_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", "/nowhere")
    assert versitygw.find_program() == str(s3_servers.versitygw_program())


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def process(photographs: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, with a folder of its own for what is temporary."""
    (tmp_path / "temporary").mkdir()
    with subprocess.Popen(
        [BINARIES / "galerly-cdn", "aws", "local", photographs, "--port", "0"],
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as running:
        yield running
        running.kill()


def children(pid: int) -> list[int]:
    """Processes that a process has started, and those they have."""
    found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [one for child in found for one in children(child)]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_left(
    process: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, times: int
) -> None:
    assert process.stdout
    told: dict[str, Any] = {}
    for line in process.stdout:
        name, _, value = line.strip().partition(" ")
        told[name] = value.strip()
        if "AWS_REGION" in line:
            break
    assert httpx.get(told["try"]).status_code == 200
    started = children(process.pid)
    assert len(started) >= 2  # Node, the resizer
    for _ in range(times):
        os.killpg(process.pid, number)  # as a terminal does, and whoever wraps the command beside it
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert not any(Path(f"/proc/{one}").exists() for one in started)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_without_its_extra_it_says_what_to_install(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "galerly_cdn.aws_local", None)
    told = CliRunner().invoke(main, ["aws", "local", str(photographs)])
    assert told.exit_code == 1
    assert "galerly-cdn[aws]" in told.stderr


def test_a_port_that_is_taken_is_an_error_of_one_line_before_anything_is_copied(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versitygw, "find_program", lambda: "/bin/false")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = CliRunner().invoke(main, ["aws", "local", str(photographs), "--port", str(port)])
    assert told.exit_code == 2  # as `serve` says it
    assert (
        told.stderr
        == f"galerly-cdn: port: cannot listen on 127.0.0.1:{port}: {os.strerror(errno.EADDRINUSE)}\n"
    )
