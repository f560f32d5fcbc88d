"""Tests a server on loopback, reached directly, and behind a real nginx configured as docs/tls.md says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.http.cross_origin import is_shared, public_hosts
from tests.support import nginx, pictures
from tests.support.shapes import ServeProcess, send_request

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).parents[3] / "docs" / "tls.md"
PICTURE = "/resize/tiny/g/a.jpg"
READABLE = "access-control-allow-origin"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    root = tmp_path_factory.mktemp("server")
    settings: dict[str, object] = {
        "public_urls": "https://cdn.example.com",
        "trusted_proxies": "127.0.0.1/32",
    }
    running = ServeProcess(root / "photographs", root / "renditions", settings)
    running.put("g/a.jpg", pictures.jpeg(60, 40))
    yield running
    running.stop()


def proxy_configuration(port: int, server_port: int) -> str:
    """nginx with the `location` of the document, without TLS."""
    location = re.search(r"    location / \{.*?\n    \}\n", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert location
    return (
        f"events {{}}\nhttp {{ access_log off;\nserver {{ listen 127.0.0.1:{port}; merge_slashes off;\n"
        f"{location[0].replace('127.0.0.1:8000', f'127.0.0.1:{server_port}')} }} }}\n"
    )


@pytest.mark.server("nginx")
def test_behind_nginx_page_and_pictures_are_public_by_the_public_host(
    server: ServeProcess, tmp_path: Path
) -> None:
    port = nginx.free_port()
    with nginx.running(tmp_path, proxy_configuration(port, server.port), port):
        public = {"Host": "cdn.example.com"}
        page = send_request(port, "GET", "/", public)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        picture = send_request(port, "GET", PICTURE, {**public, "Origin": "https://any.example"})
        assert (picture.status, picture.headers[READABLE]) == (200, "*")
        assert send_request(port, "GET", "/", {"Host": "evil.example"}).status == 404
        other = send_request(port, "GET", PICTURE, {"Host": "evil.example"})
        assert (other.status, READABLE in other.headers) == (200, False)


@pytest.mark.parametrize("path", [PICTURE, "/resize/tiny/g/none.jpg", "/resize/none/g/a.jpg"])
def test_page_of_another_site_cannot_read_responses_of_this_machine(server: ServeProcess, path: str) -> None:
    for host in ("127.0.0.1:8000", "localhost", "evil.example"):
        for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
            response = send_request(server.port, "GET", path, {"Host": host, "Origin": origin})
            assert READABLE not in response.headers
            assert "timing-allow-origin" not in response.headers
            assert response.headers["vary"].endswith("Origin")


def test_page_of_this_machine_can_read_its_pictures(server: ServeProcess) -> None:
    for origin in ("http://localhost:3000", "http://127.0.0.1:8000", "https://cdn.example.com"):
        headers = {"Host": f"127.0.0.1:{server.port}", "Origin": origin}
        assert send_request(server.port, "GET", PICTURE, headers).headers[READABLE] == "*"


PUBLIC = public_hosts(["https://cdn.example.com", "http://[2001:db8::1]:8080"])


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("cdn.example.com", "https://any.example", True),
        ("CDN.example.com:8443", "https://any.example", True),
        ("[2001:db8::1]", None, True),
        ("cdn.example.com.evil.example", None, False),
        ("evil.example", None, False),
        ("evil.example", "http://localhost", False),
        ("127.0.0.1", None, True),
        ("127.0.0.1", "https://evil.example", False),
        ("127.0.0.1", "null", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "http://localhost:3000", True),
        ("[::1]:8000", "http://[::1]:3000", True),
        ("localhost", "http://localhost@evil.example", False),
        ("localhost", "http://localhost.evil.example", False),
        ("localhost", "https://cdn.example.com:1, https://evil.example", False),
        ("", None, False),
        ("[", None, False),
    ],
)
def test_response_is_shared_by_host_and_origin(host: str, origin: str | None, *, expected: bool) -> None:
    assert is_shared(host, origin, PUBLIC) == expected
