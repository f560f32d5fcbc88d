"""`galerly-cdn aws local`, with versitygw and with a folder in place of an S3 server."""

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
from tests.support import local_cloudfront, pictures, s3_fault_stack, s3_servers
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
def deployment(request: pytest.FixtureRequest, photographs: Path) -> LocalDeployment:
    """A deployment of the photographs, with a folder and with versitygw."""
    program = str(s3_servers.versitygw_program()) if request.param == "versitygw" else None
    return LocalDeployment(photographs=str(photographs), settings=Settings(), port=0, program=program)


@contextlib.asynccontextmanager
async def started(
    deployment: LocalDeployment, lines: list[str]
) -> AsyncIterator[tuple[RunningDeployment, httpx.AsyncClient]]:
    """Runs a deployment, and yields it with a client of its address."""
    async with (
        photograph_folder.start(deployment, lambda _done, _of: None, lines.append) as running,
        httpx.AsyncClient(base_url=running.address) as viewer,
    ):
        yield running, viewer


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Modification time and content of each file of a folder."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


# --------------------------------------------------------------------------------------------- serving


async def test_example_url_is_served_and_logged(deployment: LocalDeployment) -> None:
    lines: list[str] = []
    async with started(deployment, lines) as (running, viewer):
        assert running.example_url == f"{running.address}/resize/800x600/g/a%20b.jpg"
        responses = [
            await viewer.get(running.example_url, headers={"accept": "image/avif"}) for _ in range(2)
        ]
        missing = await viewer.get("/resize/tiny/g/none.jpg")
        refused = await viewer.get("/resize/801x600/g/a%20b.jpg")
    assert [response.headers["x-cache"].split()[0] for response in responses] == ["Miss", "Hit"]
    assert {response.headers["content-type"] for response in responses} == {"image/avif"}
    assert responses[0].content == responses[1].content
    assert (missing.status_code, refused.status_code) == (404, 403)
    records = [json.loads(line) for line in lines]
    results = [record["x-edge-result-type"] for record in records if "cs-method" in record]
    assert results[:2] == ["Miss", "Hit"]
    assert [record["key"] for record in records if "stages_ms" in record] == ["g/a b.jpg"]


async def test_a_stored_rendition_is_served_without_the_resizer(deployment: LocalDeployment) -> None:
    """CloudFront gets it from S3, with the headers that S3 has stored."""
    lines: list[str] = []
    async with started(deployment, lines) as (running, viewer):
        rendered = await viewer.get(PATH)
        await s3_fault_stack.run_command(running.variables, "warm", "g/a b.jpg")
        before = len(lines)
        stored = await viewer.get("/resize/400x400.webp/g/a%20b.jpg")
    assert stored.headers["x-cache"].startswith("Miss")
    assert (stored.headers["content-type"], stored.headers["cache-control"]) == (
        "image/webp",
        local_cloudfront.IMMUTABLE,
    )
    assert stored.headers["content-disposition"] == 'inline; filename="a b.webp"'
    assert not any(name.startswith("x-amz-meta") for name in {*stored.headers, *rendered.headers})
    assert [json.loads(line)["sc-status"] for line in lines[before:]] == ["200"]


async def test_doctor_finds_no_fault(photographs: Path) -> None:
    """The checks of an address and a store raise no false alarm about CloudFront and S3."""
    program = str(s3_servers.versitygw_program() or "") or None
    deployment = LocalDeployment(photographs=str(photographs), settings=Settings(), port=0, program=program)
    async with started(deployment, []) as (running, _):
        output = await s3_fault_stack.run_command(
            running.variables, "doctor", "--url", running.example_url, "--json"
        )
    found = [json.loads(line) for line in output.splitlines()]
    states = {one["check"]: one["status"] for one in found if one["subject"] in {"url", "store"}}
    assert states["cache-hits"] == states["cross-origin"] == states["negotiation"] == "ok"
    assert {name for name, state in states.items() if state in {"failed", "warning"}} == set()


async def test_upload_command_with_replace_invalidates_the_old_rendition(
    deployment: LocalDeployment, tmp_path: Path
) -> None:
    (tmp_path / "a b.jpg").write_bytes(pictures.jpeg(200, 300))
    async with started(deployment, []) as (running, viewer):
        old = await viewer.get(PATH)
        output = await s3_fault_stack.run_command(
            running.variables, "upload", str(tmp_path / "a b.jpg"), "--gallery", "g", "--replace"
        )
        new = await viewer.get(PATH)
    assert "invalidated  1 photograph by tag, completed" in output
    assert f"asked again  {running.address}" in output
    assert "200 Miss" in output
    assert new.status_code == 200
    assert new.content != old.content


async def test_a_private_gallery_needs_signatures_with_cloudfronts_key_id(
    deployment: LocalDeployment, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    key_id, _, private_key = keys.create_key_pair(tmp_path / "keys", ecdsa=True)
    settings = Settings(private_prefixes=("/",), public_keys=str(tmp_path / "keys"))
    pem = private_key.read_bytes()
    private_key.unlink()
    async with started(replaced(deployment, settings=settings), []) as (running, viewer):
        assert running.example_url == ""
        url = running.address.replace("http:", "https:") + PATH
        grant = Policy(resource=url, expires_s=int(time.time()) + 600)
        signed = Signer(running.key_ids[key_id], pem).url(url, grant)
        response = await viewer.get(signed.replace("https:", "http:"))
        assert (response.status_code, response.headers["cache-control"]) == (200, "private, max-age=3600")
        assert (await viewer.get(PATH)).status_code == 403


async def test_without_access_log_nothing_is_logged(deployment: LocalDeployment) -> None:
    lines: list[str] = []
    without_log = replaced(deployment, settings=Settings(access_log=False))
    async with started(without_log, lines) as (_, viewer):
        assert (await viewer.get(PATH)).status_code == 200
    assert lines == []


async def test_an_empty_folder_has_no_example_url_and_404(deployment: LocalDeployment) -> None:
    shutil.rmtree(Path(deployment.photographs, "g"))
    async with started(deployment, []) as (running, viewer):
        assert running.example_url == ""
        assert (await viewer.get(PATH)).status_code == 404


@pytest.mark.server("versitygw")
async def test_prewarm_renders_all_renditions_of_an_upload(photographs: Path, tmp_path: Path) -> None:
    """versitygw sends the event of the upload, and the prewarm function makes all renditions."""
    (tmp_path / "new.jpg").write_bytes(pictures.jpeg(300, 200))
    deployment = LocalDeployment(
        photographs=str(photographs),
        settings=Settings(),
        port=0,
        program=str(s3_servers.versitygw_program()),
        prewarms=True,
    )
    finished = asyncio.Event()

    def watch(line: str) -> None:
        if '"was_there"' in line and "g/new.jpg" in line:
            finished.set()

    async with photograph_folder.start(deployment, lambda _done, _of: None, watch) as running:
        await s3_fault_stack.run_command(
            running.variables, "upload", str(tmp_path / "new.jpg"), "--gallery", "g"
        )
        async with asyncio.timeout(60):
            await finished.wait()
        output = await s3_fault_stack.run_command(running.variables, "inspect", "g/new.jpg")
    assert output.count(".avif ") == len([one for one in Settings().size_rules if one.name])


async def test_prewarm_without_versitygw_raises_settings_error(deployment: LocalDeployment) -> None:
    with pytest.raises(SettingsError, match="versitygw"):
        async with photograph_folder.start(
            replaced(deployment, program=None, prewarms=True), lambda _done, _of: None, print
        ):
            pass


@pytest.mark.server("versitygw")
async def test_photographs_are_copied_with_progress_and_stay_unchanged(photographs: Path) -> None:
    (photographs / "b.png").write_bytes(pictures.png(30, 20))
    seen: list[tuple[int, int]] = []
    before = contents(photographs)
    deployment = LocalDeployment(
        photographs=str(photographs), settings=Settings(), port=0, program=str(s3_servers.versitygw_program())
    )
    async with photograph_folder.start(deployment, lambda done, of: seen.append((done, of)), lambda _: None):
        pass
    assert seen == [(1, 2), (2, 2)]
    assert contents(photographs) == before


# ------------------------------------------------------------------------------------- FolderBucket


@pytest.fixture
async def folder_bucket(photographs: Path) -> tuple[FolderBucket, SigningOrigin]:
    """A folder bucket with one rendition, and the same bucket behind a signer."""
    root = photographs.parent
    (root / "originals").symlink_to(photographs)
    renditions = FolderRenditions(root / "resized", 10**9, lambda _: None, lambda: 0.0)
    await renditions.put(make_rendition("g/a b.jpg", b"picture", WEBP))
    await renditions.close()
    folder = FolderBucket(root, Settings(), Credentials("id", "secret"))
    return folder, SigningOrigin(folder, Identity("id", "secret"), "s3", "arn")


def request(key: str, method: str = "GET", **headers: str) -> OriginRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OriginRequest(method, "http", "s3.localhost", f"/bucket/{key}", "", named)


async def test_a_signed_request_gets_the_object(folder_bucket: tuple[FolderBucket, SigningOrigin]) -> None:
    folder, signed = folder_bucket
    key = "resized/150x150.webp/g/.a-20b.jpg"
    response = await signed.respond(request(key))
    assert (response.status, response.body) == (200, b"picture")
    assert response.headers["x-amz-meta-cache-tag"].startswith("o-")
    assert (await signed.respond(request(key, "HEAD"))).body == b""
    assert (await signed.respond(request(key, if_none_match=response.headers["etag"]))).status == 304
    original = await signed.respond(request("originals/g/a%20b.jpg"))
    assert (original.body, original.headers["content-type"]) == (pictures.jpeg(300, 200), "image/jpeg")
    assert (await folder.respond(request(key))).status == 403


@pytest.mark.parametrize(
    "key",
    [
        "resized/150x150/g/.a-20b.jpg",
        "resized/150x150.webp/g/a%20b.jpg",
        "resized/150x150.webp/g/.a-2.jpg",
        f"resized/150x150.webp/.--{'0' * 64}",
        "resized/facts/g/.a-20b.jpg",
        "resized/151x151/x",
        "originals/none",
        "incoming/x",
        "",
        "resized/",
    ],
)
async def test_a_missing_object_is_404(folder_bucket: tuple[FolderBucket, SigningOrigin], key: str) -> None:
    _, signed = folder_bucket
    response = await signed.respond(request(key))
    assert (response.status, b"NoSuchKey" in response.body) == (404, True)


async def test_an_invalid_signature_is_403(
    folder_bucket: tuple[FolderBucket, SigningOrigin],
) -> None:
    folder, signed = folder_bucket
    key = "resized/150x150.webp/g/.a-20b.jpg"
    valid = signed.signed(request(key))
    invalid = [
        SigningOrigin(folder, Identity("id", "other"), "s3", "arn").signed(request(key)),
        SigningOrigin(folder, Identity("id", "secret"), "lambda", "arn").signed(request(key)),
        replaced(valid, raw_path=f"{valid.raw_path}x"),
        replaced(valid, headers={**valid.headers, "x-amz-content-sha256": "0" * 64}),
        replaced(valid, body=b"other"),
    ]
    assert (await folder.respond(valid)).status == 200
    assert [(await folder.respond(request_)).status for request_ in invalid] == [403] * len(invalid)


async def test_the_bucket_policy_applies_to_a_folder(photographs: Path) -> None:
    """Without the permission to list the bucket, a missing object is 403."""
    (photographs.parent / "originals").symlink_to(photographs)
    change = local_cloudfront.set_value("BucketPolicy/Properties/PolicyDocument/Statement/1", None)
    statuses = []
    for text in (local_cloudfront.TEMPLATE, local_cloudfront.changed_template(change)):
        local = replaced(local_cloudfront.deployment(text), folder=str(photographs.parent))
        async with cloudfront_stack.start(local, local_cloudfront.FakeResizer().url_of) as cloud:
            origin = cloud.faults["s3"]
            missing = OriginRequest("GET", "https", "galerly-1.s3", "/resized/150x150/g/x", "", {})
            statuses.append((await origin.respond(missing)).status)
    assert statuses == [404, 403]


async def test_head_returns_version_and_time_of_a_rendition(tmp_path: Path) -> None:
    renditions = FolderRenditions(tmp_path, 10**9, lambda _: None, lambda: 0.0)
    assert await renditions.head("a", WEBP) is None
    await renditions.put(make_rendition("a", target=WEBP, version="v7"))
    os.utime(file_of(tmp_path, "a", WEBP), (5, 5))
    assert await renditions.head("a", WEBP) == StoredObject("v7", 5.0)
    await renditions.close()


# -------------------------------------------------------------------------------------------- requirements


async def test_without_awslambdaric_start_raises_settings_error(
    deployment: LocalDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"galerly-cdn\[aws\]"):
        async with photograph_folder.start(deployment, lambda _done, _of: None, print):
            pass


async def test_without_a_javascript_engine_start_raises_settings_error(
    deployment: LocalDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SettingsError, match="node or njs"):
        async with photograph_folder.start(deployment, lambda _done, _of: None, print):
            pass


async def test_versitygw_that_exits_raises_store_unreachable(deployment: LocalDeployment) -> None:
    with pytest.raises(StoreUnreachable, match="versitygw ended with exit status 1"):
        async with photograph_folder.start(
            replaced(deployment, program="/bin/false"), lambda _done, _of: None, print
        ):
            pass


async def test_without_disk_space_start_raises_settings_error(
    deployment: LocalDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(SettingsError, match="TMPDIR"):
        async with photograph_folder.start(
            replaced(deployment, program="/bin/false"), lambda _done, _of: None, print
        ):
            pass


def test_find_program_returns_versitygw_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# ------------------------------------------------------------------------------------------------ command


@pytest.fixture
def process(photographs: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The running command, with a temporary folder of its own."""
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
    """The child processes of a process, and theirs."""
    direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [descendant for child in direct for descendant in children(child)]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_processes_and_removes_temporary_files(
    process: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, times: int
) -> None:
    assert process.stdout
    printed: dict[str, Any] = {}
    for line in process.stdout:
        name, _, value = line.strip().partition(" ")
        printed[name] = value.strip()
        if "AWS_REGION" in line:
            break
    assert httpx.get(printed["try"]).status_code == 200
    started = children(process.pid)
    assert len(started) >= 2  # Node, the resizer
    for _ in range(times):
        os.killpg(
            process.pid, number
        )  # like a terminal, and more often like a program that wraps the command
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_without_the_aws_extra_the_error_names_it(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "galerly_cdn.aws_local", None)
    result = CliRunner().invoke(main, ["aws", "local", str(photographs)])
    assert result.exit_code == 1
    assert "galerly-cdn[aws]" in result.stderr


def test_a_port_in_use_is_an_error_before_anything_is_copied(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versitygw, "find_program", lambda: "/bin/false")
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        result = CliRunner().invoke(main, ["aws", "local", str(photographs), "--port", str(port)])
    assert result.exit_code == 2  # the exit status of `serve`
    assert (
        result.stderr
        == f"galerly-cdn: port: cannot listen on 127.0.0.1:{port}: {os.strerror(errno.EADDRINUSE)}\n"
    )
