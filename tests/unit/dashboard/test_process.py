"""The dashboard of a running server, over TLS."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.support import tls_certificates
from tests.support.cdn_process import running
from tests.support.in_memory_admin import TOKEN

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


def send(
    address: str, context: ssl.SSLContext, method: str, path: str, body: str = "", **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPSConnection(urlsplit(address).netloc, timeout=30, context=context)
    connection.request(method, path, body, {"Accept": "text/html", **headers})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_session_over_tls_is_in_a_host_cookie_and_ends_with_the_logout(tmp_path: Path) -> None:
    files = tls_certificates.make(tmp_path)
    token, config = tmp_path / "token", tmp_path / "config.toml"
    token.write_text(TOKEN)
    config.write_text(
        f'admin_token_file = "{token}"\ntls_certificate = "{files.certificate}"\ntls_key = "{files.key}"\n'
    )
    context = tls_certificates.trusting(files.certificate)
    context.check_hostname = False  # the certificate is for localhost, the address is 127.0.0.1
    with running(tmp_path / "store", "--config", str(config)) as address:
        assert send(address, context, "GET", "/").headers["location"] == "/dashboard/login"
        answer = send(address, context, "POST", "/dashboard/login", f"token={TOKEN}")
        assert (answer.status, answer.headers["location"]) == (303, "/dashboard/now")
        cookie, *attributes = answer.headers["set-cookie"].split("; ")
        assert cookie.startswith("__Host-galerly_session=")
        assert attributes == ["Path=/", "HttpOnly", "SameSite=Strict", "Secure"]
        assert send(address, context, "GET", "/dashboard/now", Cookie=cookie).status == 200
        assert send(address, context, "GET", "/originals", Cookie=cookie).status == 200
        assert send(address, context, "POST", "/dashboard/logout", Cookie=cookie).status == 403
        assert send(address, context, "GET", "/dashboard/now").status == 303
        without_tls = {"Origin": address.rstrip("/").replace("https:", "http:")}
        refused = send(address, context, "POST", "/dashboard/login", f"token={TOKEN}", **without_tls)
        assert refused.status == 403
