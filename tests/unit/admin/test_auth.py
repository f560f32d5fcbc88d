"""Authentication of the admin side: tokens, loopback, and requests by other sites' pages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.admin.auth import Authenticator, authenticator
from galerly_cdn.errors import CrossSite, GalerlyError, Misdirected, SettingsError, Unauthorized
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import TOKEN, InMemoryAdmin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OTHER = "fedcba9876543210fedcba9876543210"
LOOPBACK_HOST = {"host": "127.0.0.1:9000"}
OTHER_HOST = {"host": "admin.example"}
BEARER = {"authorization": f"Bearer {TOKEN}"}
SAME_ORIGIN = {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:9000"}
NAME = "token " + hashlib.sha256(TOKEN.encode()).hexdigest()[:8]


def authenticate(authenticator_: Authenticator, headers: Mapping[str, str], *, is_open: bool = False) -> str:
    return authenticator_.authenticate(
        {name.encode(): value.encode() for name, value in headers.items()}, is_open=is_open
    )


LOCAL = Authenticator([], is_local=True, now_s=lambda: 0.0)
LOCAL_WITH_TOKEN = Authenticator([OTHER, TOKEN], is_local=True, now_s=lambda: 0.0)
PUBLIC = Authenticator([TOKEN], is_local=False, now_s=lambda: 0.0)


@pytest.mark.parametrize(
    ("authenticator_", "headers", "is_open", "who"),
    [
        (LOCAL, LOOPBACK_HOST, False, "loopback"),
        (LOCAL, {"host": "localhost"}, False, "loopback"),
        (LOCAL, {"host": "[::1]:9000"}, False, "loopback"),
        (LOCAL, LOOPBACK_HOST | {"sec-fetch-site": "none"}, False, "loopback"),
        (
            LOCAL,
            LOOPBACK_HOST | {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:9000"},
            False,
            "loopback",
        ),
        (LOCAL, LOOPBACK_HOST | {"authorization": "Basic YTpi"}, False, "loopback"),
        (LOCAL_WITH_TOKEN, LOOPBACK_HOST, True, "loopback"),
        (LOCAL_WITH_TOKEN, LOOPBACK_HOST | BEARER, False, NAME),
        (LOCAL_WITH_TOKEN, OTHER_HOST | BEARER, False, NAME),
        (PUBLIC, OTHER_HOST | BEARER, False, NAME),
        (PUBLIC, OTHER_HOST | BEARER, True, NAME),
        (PUBLIC, {"host": "a", "authorization": f"bEARER   {TOKEN}"}, False, NAME),
    ],
)
def test_client_is_authenticated(
    authenticator_: Authenticator,
    headers: dict[str, str],
    is_open: bool,  # noqa: FBT001 - a column
    who: str,
) -> None:
    assert authenticate(authenticator_, headers, is_open=is_open) == who


@pytest.mark.parametrize(
    ("authenticator_", "headers", "is_open", "error"),
    [
        (LOCAL, OTHER_HOST, False, Misdirected),
        (LOCAL, OTHER_HOST, True, Misdirected),
        (LOCAL, {}, True, Misdirected),
        (LOCAL, {"host": "127.0.0.1.evil.example"}, True, Misdirected),
        (LOCAL, {"host": "localhost, evil.example"}, True, Misdirected),
        (LOCAL, LOOPBACK_HOST | {"origin": "https://evil.example"}, True, CrossSite),
        (LOCAL, LOOPBACK_HOST | {"origin": "null"}, True, CrossSite),
        (LOCAL, LOOPBACK_HOST | {"origin": "http://127.0.0.1:8000"}, False, CrossSite),  # the page's own port
        (LOCAL, LOOPBACK_HOST | {"sec-fetch-site": "cross-site"}, False, CrossSite),
        (LOCAL, LOOPBACK_HOST | {"sec-fetch-site": "same-site"}, False, CrossSite),
        (PUBLIC, OTHER_HOST | BEARER | {"origin": "https://evil.example"}, False, CrossSite),
        (LOCAL_WITH_TOKEN, LOOPBACK_HOST, False, Unauthorized),
        (LOCAL_WITH_TOKEN, LOOPBACK_HOST | {"authorization": f"Bearer {TOKEN}x"}, False, Unauthorized),
        (PUBLIC, LOOPBACK_HOST, True, Unauthorized),
        (PUBLIC, OTHER_HOST, False, Unauthorized),
        (PUBLIC, OTHER_HOST | {"authorization": "Bearer"}, False, Unauthorized),
        (PUBLIC, OTHER_HOST | {"authorization": "Bearer "}, False, Unauthorized),
        (PUBLIC, OTHER_HOST | {"authorization": f"Bearer {TOKEN[:-1]}"}, False, Unauthorized),
        (PUBLIC, OTHER_HOST | {"authorization": f"Bearer {TOKEN}, Bearer {TOKEN}"}, False, Unauthorized),
        (PUBLIC, OTHER_HOST | {"authorization": f"Basic {TOKEN}"}, False, Unauthorized),
        (PUBLIC, OTHER_HOST | {"authorization": TOKEN}, False, Unauthorized),
        (PUBLIC, OTHER_HOST | {"cookie": f"token={TOKEN}", "x-api-key": TOKEN}, False, Unauthorized),
    ],
)
def test_client_is_refused(
    authenticator_: Authenticator,
    headers: dict[str, str],
    is_open: bool,  # noqa: FBT001 - a column
    error: type[GalerlyError],
) -> None:
    with pytest.raises(error):
        authenticate(authenticator_, headers, is_open=is_open)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_monitoring_needs_no_token_on_loopback(path: str) -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,))
    assert (await admin.request("GET", path)).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/originals"),
        ("PUT", "/originals/g/a.jpg"),
        ("POST", "/purge?gallery=g"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
        ("PATCH", "/originals"),
        ("GET", f"/originals?token={TOKEN}"),
        ("GET", f"/originals?access_token={TOKEN}"),
    ],
)
async def test_every_request_without_the_token_is_401(method: str, path: str) -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,), is_local=False)
    answer = await admin.request(method, path)
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["cache-control"] == "no-store"
    assert all(TOKEN not in str(one) for one in admin.audits)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize("headers", [{}, {"Host": "10.0.0.7:8001"}, {"Authorization": "Bearer wrong"}])
@pytest.mark.parametrize("is_local", [True, False])
async def test_probe_needs_no_token_on_any_address(
    path: str, headers: dict[str, str], *, is_local: bool
) -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,), is_local=is_local)
    assert (await admin.request("GET", path, headers=headers)).status == 200
    assert (await admin.request("POST", path, headers=headers)).status in {401, 405, 421}


async def test_metrics_need_the_token_on_a_public_address() -> None:
    path = "/metrics"
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,), is_local=False)
    assert (await admin.request("GET", path)).status == 401
    assert (await admin.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})).status == 200


async def test_audit_record_of_a_refused_change_names_no_client() -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,))
    await admin.request("DELETE", "/originals/g/a.jpg", headers={"Authorization": f"Bearer {OTHER}"})
    (record,) = admin.audits
    assert (record.who, record.outcome, record.status) == ("", "unauthorized", 401)
    assert OTHER not in str(record)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "admin.example"])
def test_public_address_without_a_token_is_a_settings_error(host: str) -> None:
    with pytest.raises(SettingsError, match="admin_token_file"):
        authenticator(Settings(admin_host=host), lambda: 0.0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "contains no token"),
        (b"\n \n", "contains no token"),
        (b"short\n", "fewer than 32"),
        (TOKEN.encode() + b"\nshort\n", "fewer than 32"),
        (b"0123456789abcdef0123456789abcde!", "fewer than 32"),
        ("0123456789abcdef0123456789abcdé".encode(), "ASCII"),
    ],
)
def test_token_file_without_a_strong_token_is_a_settings_error(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=problem) as raised:
        authenticator(Settings(admin_token_file=str(file)), lambda: 0.0)
    assert TOKEN not in str(raised.value)
    assert "short\n" not in str(raised.value)


def test_missing_token_file_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        authenticator(Settings(admin_token_file=str(tmp_path / "none")), lambda: 0.0)


def test_every_token_of_the_file_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{OTHER}\n{TOKEN}\n")
    public = authenticator(Settings(admin_token_file=str(file), admin_host="0.0.0.0"), lambda: 0.0)
    assert (
        len({authenticate(public, OTHER_HOST | {"authorization": f"Bearer {one}"}) for one in (OTHER, TOKEN)})
        == 2
    )
