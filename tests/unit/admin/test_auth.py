"""Who may ask the admin side: tables of what lets in, and of what does not however it is told."""

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
HERE = {"host": "127.0.0.1:9000"}
THERE = {"host": "admin.example"}
BEARER = {"authorization": f"Bearer {TOKEN}"}
SAME_ORIGIN = {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:9000"}
NAME = "token " + hashlib.sha256(TOKEN.encode()).hexdigest()[:8]


def admit(where: Authenticator, headers: Mapping[str, str], *, is_open: bool = False) -> str:
    return where.admit({name.encode(): value.encode() for name, value in headers.items()}, is_open=is_open)


LOCAL = Authenticator([], is_local=True)
LOCAL_WITH_TOKEN = Authenticator([OTHER, TOKEN], is_local=True)
PUBLIC = Authenticator([TOKEN], is_local=False)


@pytest.mark.parametrize(
    ("where", "headers", "is_open", "who"),
    [
        (LOCAL, HERE, False, "loopback"),
        (LOCAL, {"host": "localhost"}, False, "loopback"),
        (LOCAL, {"host": "[::1]:9000"}, False, "loopback"),
        (LOCAL, HERE | {"sec-fetch-site": "none"}, False, "loopback"),
        (
            LOCAL,
            HERE | {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:9000"},
            False,
            "loopback",
        ),
        (LOCAL, HERE | {"authorization": "Basic YTpi"}, False, "loopback"),
        (LOCAL_WITH_TOKEN, HERE, True, "loopback"),
        (LOCAL_WITH_TOKEN, HERE | BEARER, False, NAME),
        (LOCAL_WITH_TOKEN, THERE | BEARER, False, NAME),
        (PUBLIC, THERE | BEARER, False, NAME),
        (PUBLIC, THERE | BEARER, True, NAME),
        (PUBLIC, {"host": "a", "authorization": f"bEARER   {TOKEN}"}, False, NAME),
    ],
)
def test_who_is_let_in(where: Authenticator, headers: dict[str, str], is_open: bool, who: str) -> None:  # noqa: FBT001 - a column
    assert admit(where, headers, is_open=is_open) == who


@pytest.mark.parametrize(
    ("where", "headers", "is_open", "error"),
    [
        (LOCAL, THERE, False, Misdirected),
        (LOCAL, THERE, True, Misdirected),
        (LOCAL, {}, True, Misdirected),
        (LOCAL, {"host": "127.0.0.1.evil.example"}, True, Misdirected),
        (LOCAL, {"host": "localhost, evil.example"}, True, Misdirected),
        (LOCAL, HERE | {"origin": "https://evil.example"}, True, CrossSite),
        (LOCAL, HERE | {"origin": "null"}, True, CrossSite),
        (LOCAL, HERE | {"origin": "http://127.0.0.1:8000"}, False, CrossSite),  # the page's own port
        (LOCAL, HERE | {"sec-fetch-site": "cross-site"}, False, CrossSite),
        (LOCAL, HERE | {"sec-fetch-site": "same-site"}, False, CrossSite),
        (PUBLIC, THERE | BEARER | {"origin": "https://evil.example"}, False, CrossSite),
        (LOCAL_WITH_TOKEN, HERE, False, Unauthorized),
        (LOCAL_WITH_TOKEN, HERE | {"authorization": f"Bearer {TOKEN}x"}, False, Unauthorized),
        (PUBLIC, HERE, True, Unauthorized),
        (PUBLIC, THERE, False, Unauthorized),
        (PUBLIC, THERE | {"authorization": "Bearer"}, False, Unauthorized),
        (PUBLIC, THERE | {"authorization": "Bearer "}, False, Unauthorized),
        (PUBLIC, THERE | {"authorization": f"Bearer {TOKEN[:-1]}"}, False, Unauthorized),
        (PUBLIC, THERE | {"authorization": f"Bearer {TOKEN}, Bearer {TOKEN}"}, False, Unauthorized),
        (PUBLIC, THERE | {"authorization": f"Basic {TOKEN}"}, False, Unauthorized),
        (PUBLIC, THERE | {"authorization": TOKEN}, False, Unauthorized),
        (PUBLIC, THERE | {"cookie": f"token={TOKEN}", "x-api-key": TOKEN}, False, Unauthorized),
    ],
)
def test_who_is_not(
    where: Authenticator,
    headers: dict[str, str],
    is_open: bool,  # noqa: FBT001 - a column
    error: type[GalerlyError],
) -> None:
    with pytest.raises(error):
        admit(where, headers, is_open=is_open)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_on_loopback_the_three_for_monitors_take_no_token(path: str) -> None:
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
async def test_without_the_token_nobody_learns_what_there_is(method: str, path: str) -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,), is_local=False)
    told = await admin.request(method, path)
    assert (told.status, told.code) == (401, "unauthorized")
    assert told.headers["www-authenticate"] == "Bearer"
    assert told.headers["cache-control"] == "no-store"
    assert all(TOKEN not in str(one) for one in admin.audits)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_elsewhere_than_on_loopback_everything_takes_the_token(path: str) -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,), is_local=False)
    assert (await admin.request("GET", path)).status == 401
    assert (await admin.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})).status == 200


async def test_a_refused_change_is_in_the_audit_log_and_nobody_is_named() -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,))
    await admin.request("DELETE", "/originals/g/a.jpg", headers={"Authorization": f"Bearer {OTHER}"})
    (record,) = admin.audits
    assert (record.who, record.outcome, record.status) == ("", "unauthorized", 401)
    assert OTHER not in str(record)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "admin.example"])
def test_an_address_that_others_reach_refuses_to_start_without_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="admin_token_file"):
        authenticator(Settings(admin_host=host))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no token"),
        (b"\n \n", "holds no token"),
        (b"short\n", "shorter"),
        (TOKEN.encode() + b"\nshort\n", "shorter"),
        (b"0123456789abcdef0123456789abcde!", "shorter"),
        ("0123456789abcdef0123456789abcdé".encode(), "ASCII"),
    ],
)
def test_a_file_without_a_fit_token_refuses_to_start(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=problem) as raised:
        authenticator(Settings(admin_token_file=str(file)))
    assert TOKEN not in str(raised.value)
    assert "short\n" not in str(raised.value)


def test_a_file_that_is_not_there_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        authenticator(Settings(admin_token_file=str(tmp_path / "none")))


def test_while_a_token_is_exchanged_both_let_in(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{OTHER}\n{TOKEN}\n")
    opened = authenticator(Settings(admin_token_file=str(file), admin_host="0.0.0.0"))
    assert len({admit(opened, THERE | {"authorization": f"Bearer {one}"}) for one in (OTHER, TOKEN)}) == 2
