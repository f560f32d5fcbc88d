"""Tests the refresh after a change: two real fronts of two real nodes show it at once."""

from __future__ import annotations

import contextlib
import json
import stat
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from galerly_cdn.http import front_refresh
from galerly_cdn.refresh import Refresher
from galerly_cdn.settings.table import Settings
from tests.support import nginx, nginx_fleet, pictures, s3_servers
from tests.support.cdn_process import PROGRAM, environment
from tests.support.nginx_fleet import front_settings, get, signer_with_key
from tests.support.shapes import S3ServeProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.s3_servers import Objects

pytestmark = pytest.mark.server("nginx")

TOKEN = "0123456789abcdef0123456789abcdef"
KEY = "g/ä & b.jpg"
PATHS = ("/resize/tiny/g/%C3%A4%20&%20b.jpg", "/resize/small.webp/g/%C3%A4%20&%20b.jpg")


class Fleet(NamedTuple):
    """Two nodes of one store, two fronts, and the settings that name all of them."""

    root: Path
    bucket: Objects
    nodes: list[S3ServeProcess]
    fronts: list[int]
    configuration: Path

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the fleet's settings and the token."""
        given = {"GALERLY_ADMIN_TOKEN": TOKEN, "GALERLY_CONFIG": str(self.configuration), **variables}
        return subprocess.run(
            [*PROGRAM, *arguments],
            env=environment(**given),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def upload(self, quality: int, *options: str) -> subprocess.CompletedProcess[str]:
        file = self.root / "ä & b.jpg"
        file.write_bytes(pictures.jpeg(60, 40, quality=quality))
        return self.command("upload", str(file), "--gallery", "g", *options)

    def seen(self) -> set[tuple[int, str]]:
        """Status and ETag of both pictures at both fronts, and at both nodes."""
        ports = [*self.fronts, *(node.port for node in self.nodes)]
        answers = [(path, get(port, path)) for port in ports for path in PATHS]
        return {(answer.status, answer.headers.get("etag", path)) for path, answer in answers}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "token").write_text(TOKEN)
    with s3_servers.moto() as server, contextlib.ExitStack() as stack:
        bucket = server.bucket()
        nodes = [node(tmp_path, bucket) for _ in range(2)]
        fronts = [front(stack, tmp_path / name, nodes) for name in ("one", "two")]
        settings = {
            "store": bucket.settings().store,
            "store_endpoint": server.endpoint,
            "fronts": [f"http://127.0.0.1:{port}" for port in fronts],
            "nodes": [f"http://127.0.0.1:{node.admin_port}/" for node in nodes],
            "public_urls": ["https://cdn.test"],
            "workers": 1,
        }
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
        configuration = tmp_path / "settings.toml"
        configuration.write_text("".join(lines))
        yield Fleet(tmp_path, bucket, nodes, fronts, configuration)
        for one in nodes:
            if one.process.poll() is None:
                one.stop()


def node(root: Path, bucket: Objects, **settings: object) -> S3ServeProcess:
    """A node that would not notice a change by another process for a minute."""
    given = {
        "trusted_proxies": "127.0.0.1/32",
        "admin_token_file": root / "token",
        "public_urls": "https://cdn.test",
        "store_fresh_s": 60,
        **settings,
    }
    return S3ServeProcess(root, root, given, bucket=bucket)


def front(stack: contextlib.ExitStack, folder: Path, nodes: list[S3ServeProcess]) -> int:
    """The port of a front of the nodes, which would not notice a change for ten minutes."""
    folder.mkdir()
    port, ports = nginx.free_port(), [node.port for node in nodes]
    secret_md5 = front_refresh.secret_md5(TOKEN)
    text = nginx.front_configuration(folder, port, ports, front_settings(), secret_md5=secret_md5)
    for lifetime in ("200 10s", "404 5s"):
        assert f"proxy_cache_valid {lifetime}" in text
        text = text.replace(f"proxy_cache_valid {lifetime}", f"proxy_cache_valid {lifetime[:3]} 600s")
    assert TOKEN not in text
    assert front_refresh.secret(TOKEN) not in text
    stack.enter_context(nginx.running(folder, text, port))
    return port


def test_new_replaced_purged_and_deleted_photograph_is_seen_at_once_everywhere(fleet: Fleet) -> None:
    assert fleet.seen() == {(404, path) for path in PATHS}
    created = fleet.upload(90)
    assert created.returncode == 0, created.stderr
    lines = created.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["created", "front", "front"]
    assert lines[1].partition("dropped ")[2].startswith("150x150.avif, 400x400.webp; now 200 ")
    old = fleet.seen()
    assert fleet.seen() == old
    assert {status for status, _ in old} == {200}

    replaced = fleet.upload(40, "--replace", "--json")
    new = fleet.seen()
    assert replaced.returncode == 0, replaced.stderr
    assert {status for status, _ in new} == {200}
    assert len(new) == len(old) == len(PATHS)
    assert not new & old
    refreshed = json.loads(replaced.stdout)["refreshed"]
    assert [one["kind"] for one in refreshed] == ["node", "node", "front", "front"]
    assert {tuple(one["dropped"]) for one in refreshed[2:]} == {("150x150.avif", "400x400.webp")}
    assert {one["found"] for one in refreshed[2:]} <= {f"200 {etag}" for _, etag in new}

    purged = fleet.command("purge", KEY)
    assert purged.returncode == 0, purged.stderr
    lines = purged.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["purged", "node", "node", "front", "front"]
    assert "dropped 150x150.avif, 400x400.webp; now 200 " in lines[3]
    assert {status for status, _ in fleet.seen()} == {200}

    deleted = fleet.command("rm", KEY, "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert deleted.stdout.count("; now absent") == 2
    assert deleted.stdout.count("dropped 150x150.avif, 400x400.webp; now 404") == 2
    assert fleet.seen() == {(404, path) for path in PATHS}
    for output in (replaced, purged, deleted):
        assert TOKEN not in output.stdout + output.stderr
        assert front_refresh.secret(TOKEN) not in output.stdout + output.stderr


def test_admin_api_of_a_node_refreshes_the_fronts_and_the_other_nodes(fleet: Fleet) -> None:
    assert fleet.upload(90).returncode == 0
    third = node(
        fleet.root,
        fleet.bucket,
        fronts=";".join(f"http://127.0.0.1:{port}" for port in fleet.fronts),
        nodes=";".join(f"http://127.0.0.1:{one.admin_port}" for one in fleet.nodes),
    )
    old = fleet.seen()
    path = "/originals/g/%C3%A4%20&%20b.jpg"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    put = third.administer("PUT", f"{path}?replace=true", headers, pictures.jpeg(60, 40, quality=30))
    assert (put.status, len(json.loads(put.body)["refreshed"])) == (200, 4)
    assert not fleet.seen() & old
    gone = third.administer("DELETE", path, headers, b"")
    assert json.loads(gone.body)["refreshed"][2]["found"] == "404"
    assert fleet.seen() == {(404, path) for path in PATHS}
    third.stop()


def test_front_or_node_that_is_not_refreshed_is_named_and_the_change_stays(fleet: Fleet) -> None:
    assert fleet.upload(90).returncode == 0
    unused = nginx.free_port()
    purged = fleet.command(
        "purge",
        KEY,
        GALERLY_FRONTS=f"http://127.0.0.1:{unused};http://127.0.0.1:{fleet.fronts[0]}",
        GALERLY_NODES=f"http://127.0.0.1:{unused}",
        GALERLY_ADMIN_TOKEN=f"{TOKEN}x",
    )
    assert purged.returncode == 1
    assert purged.stdout.count("not refreshed") == 3
    warnings = purged.stderr.splitlines()
    assert [warning.count("It shows the change within 11 s.") for warning in warnings] == [1, 1, 1]
    assert "does not accept the secret" in warnings[2]
    checked = fleet.command("doctor", GALERLY_NODES=f"http://127.0.0.1:{unused}")
    found = [line.split()[:3] for line in checked.stdout.splitlines() if "  fleet  " in line]
    assert found == [
        ["failed", "fleet", "trusted-fronts"],
        ["warning", "fleet", "front-connections"],
        ["failed", "fleet", "fronts-and-nodes"],
    ]
    without = fleet.command("purge", KEY, GALERLY_ADMIN_TOKEN="")
    assert (without.returncode, without.stdout) == (2, "")
    assert "fronts: they accept no request without a secret" in without.stderr


def test_request_with_the_secret_is_not_logged_and_drops_nothing_with_another(fleet: Fleet) -> None:
    assert fleet.upload(90).returncode == 0
    port = fleet.fronts[0]
    first = get(port, PATHS[1])
    for wrong in ("x", front_refresh.secret(TOKEN[::-1]), TOKEN, "1"):
        for method in ("GET", "HEAD"):
            answer = get(port, PATHS[1], method, Galerly_Refresh=wrong)
            assert (answer.status, "galerly-refresh" in answer.headers) == (400, False)
    assert get(port, PATHS[1]).headers["cache-status"] == "nginx; hit"
    assert get(port, "/-galerly/dropped").status == get(port, "/-galerly/absent").status == 404
    secret = front_refresh.secret(TOKEN)
    dropped = get(port, PATHS[1], Galerly_Refresh=secret)
    assert (dropped.status, dropped.headers["galerly-refresh"]) == (503, "dropped")
    log = (fleet.root / "one/access.log").read_text()
    assert secret not in log
    assert len(log.splitlines()) == len([line for line in log.splitlines() if '"status":503' not in line])
    again = get(port, PATHS[1])
    assert (again.body, again.headers["cache-status"]) == (first.body, "galerly-cdn; hit, nginx; fwd=stale")
    get(port, PATHS[1], Galerly_Refresh=secret)
    for one in fleet.nodes:
        one.process.kill()
        one.process.communicate()
    while (gone := get(port, PATHS[1])).headers.get("cache-status") != "nginx; hit; detail=stale":
        assert gone.status in {200, 503}
    assert (gone.status, gone.headers["retry-after"]) == (503, "1"), "what was dropped is not shown again"


async def test_deleted_private_picture_is_not_shown_again(tmp_path: Path) -> None:
    signer = signer_with_key(tmp_path / "keys")
    private = nginx_fleet.Fleet(tmp_path, private_prefixes="clients", public_keys=tmp_path / "keys")
    key, path = "clients/smith/1.jpg", nginx_fleet.PRIVATE
    private.put(key)
    port, known = nginx.free_port(), front_settings(private_prefixes=("clients",))
    text = nginx.front_configuration(
        tmp_path / "front", port, private.ports, known, secret_md5=front_refresh.secret_md5(TOKEN)
    )
    url = signer.url(f"https://cdn.test{path}", expires_s=int(time.time()) + 3600)
    signed = url.removeprefix("https://cdn.test")
    fronts = Settings(fronts=(f"http://127.0.0.1:{port}",), public_urls=("https://cdn.test",))
    secret = front_refresh.secret(TOKEN)
    with nginx.running(tmp_path / "front", text, port):
        assert {get(port, signed).headers.get("cache-status", "")[-10:] for _ in range(2)} >= {"nginx; hit"}
        opened = get(port, path, Galerly_Refresh=secret), get(port, path, "HEAD", Galerly_Refresh=secret)
        assert get(port, signed).status == 200
        private.nodes[0].remove(key)
        async with Refresher(fronts, TOKEN) as refresher:
            (told,) = await refresher.refresh(key, known.all_targets)
        answers = get(port, signed), get(port, path)
    private.stop()
    assert [(one.status, b"JFIF" in one.body or b"ftyp" in one.body) for one in opened] == [(503, False)] * 2
    assert (told.dropped, told.found, told.problem) == (("150x150.avif",), "403", "")
    assert [one.status for one in answers] == [404, 403]


def test_printed_configuration_has_a_digest_of_the_secret_alone(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\nthe-next-one\n")
    token.chmod(stat.S_IRUSR)
    printed = subprocess.run(
        [*PROGRAM, "nginx", "--node", "127.0.0.1:8000"],
        env=environment(GALERLY_ADMIN_TOKEN_FILE=str(token), GALERLY_FRONTS="http://10.0.0.8"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"secure_link {front_refresh.secret_md5(TOKEN)};" in printed.stdout
    assert TOKEN not in printed.stdout
    assert front_refresh.secret(TOKEN) not in printed.stdout
