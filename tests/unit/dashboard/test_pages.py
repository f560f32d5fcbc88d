"""The pages: their parts, their states, and what they never do."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.dashboard import sampler
from galerly_cdn.dashboard.advice import ADVICE
from galerly_cdn.dashboard.assets import VENDORED, read_assets, read_file
from galerly_cdn.dashboard.composition import NAVIGATION
from galerly_cdn.dashboard.now import rate
from galerly_cdn.dashboard.samples import HISTORY_S, INTERVAL_S
from galerly_cdn.errors import CommandError, by_code
from galerly_cdn.render.pool.supervisor import WorkerFacts
from galerly_cdn.render.pool.worker_state import Phase
from galerly_cdn.settings.table import Settings
from galerly_cdn.telemetry import AccessRecord
from tests.support.in_memory_admin import TOKEN, AdminResponse, InMemoryAdmin

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = {"accept": "text/html"}


@pytest.fixture
def admin() -> InMemoryAdmin:
    return InMemoryAdmin(Settings())


async def get(admin: InMemoryAdmin, path: str, **headers: str) -> AdminResponse:
    return await admin.request("GET", path, headers=WINDOW | headers)


def series(page: AdminResponse) -> dict[str, list[Any]]:
    matched = re.search(r'data-series="([^"]*)"', page.body.decode())
    assert matched is not None
    values: dict[str, list[Any]] = json.loads(html.unescape(matched[1]))
    return values


def visible(page: AdminResponse) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.body.decode())))


def record(admin: InMemoryAdmin, **fields: Any) -> None:  # noqa: ANN401 - any field
    defaults: dict[str, Any] = {
        "time_s": 1_764_583_200.0,
        "request_id": "1f-1",
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/resize/tiny/g/a.jpg",
        "status": 200,
        "bytes": 1000,
        "duration_ms": 2.0,
    }
    result = fields.pop("result", "")
    admin.telemetry.record(AccessRecord(**defaults | fields), result)


@pytest.mark.parametrize("path", ["/", "/dashboard", "/dashboard/"])
async def test_short_addresses_lead_to_the_first_page(admin: InMemoryAdmin, path: str) -> None:
    response = await get(admin, path)
    assert (response.status, response.headers["location"]) == (303, NAVIGATION[0].path)


@pytest.mark.parametrize("link", NAVIGATION, ids=lambda link: link.title)
async def test_page_is_in_the_navigation_and_marks_itself(admin: InMemoryAdmin, link: Any) -> None:  # noqa: ANN401 - a Link
    page = await get(admin, link.path)
    assert page.status == 200
    body = page.body.decode()
    assert f"<title>{link.title} · galerly-cdn</title>" in body
    for one in NAVIGATION:
        current = ' aria-current="page"' if one is link else ""
        assert f'<a href="{one.path}"{current}>{one.title}</a>' in body
    assert "Sign out" not in body  # without tokens there is no session


@pytest.mark.parametrize("link", NAVIGATION, ids=lambda link: link.title)
async def test_page_has_nothing_that_its_policy_forbids(admin: InMemoryAdmin, link: Any) -> None:  # noqa: ANN401 - a Link
    """No script, style or handler in the page, and no file of another host."""
    body = (await get(admin, link.path)).body.decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|\shx-on|javascript:", body)
    assert not re.search(r"(src|href)=\"(?!/dashboard/|#)", body)
    addresses = {asset.address for asset in read_assets().values()}
    assert set(re.findall(r'"(/dashboard/assets/[^"]*)"', body)) <= addresses


async def test_assets_are_immutable_public_and_named_by_their_digest() -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,), is_local=False)
    for asset in read_assets().values():
        response = await admin.request("GET", asset.address, headers={"accept-encoding": "identity"})
        assert (response.status, response.body) == (200, asset.body)
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert hashlib.sha256(asset.body).hexdigest()[:12] in asset.address
        assert response.headers["x-content-type-options"] == "nosniff"
        packed = await admin.request("GET", asset.address, headers={"accept-encoding": "gzip"})
        assert len(packed.body) <= len(asset.body)


@pytest.mark.parametrize("file", VENDORED, ids=lambda file: file.name)
def test_vendored_file_is_the_released_one_and_has_its_licence(file: Any) -> None:  # noqa: ANN401 - a VendoredFile
    assert hashlib.sha256(read_file(f"static/vendor/{file.name}")).hexdigest() == file.sha256
    assert len(read_file(f"static/vendor/{file.license}")) > 500


async def test_pages_are_not_part_of_the_api_description(admin: InMemoryAdmin) -> None:
    paths = (await admin.request("GET", "/openapi.json")).json["paths"]
    assert not [path for path in paths if path.startswith("/dashboard") or path == "/"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/dashboard/none", 404, "unknown-path"), ("/dashboard/errors?x=1", 400, "malformed-query")],
)
async def test_failure_is_a_page_a_part_or_json_as_the_client_shows_it(
    admin: InMemoryAdmin, path: str, status: int, code: str
) -> None:
    page = await get(admin, path)
    part = await admin.request("GET", path, headers={"hx-request": "true"})
    program = await admin.request("GET", path)
    assert page.status == part.status == program.status == status
    assert page.body.startswith(b"<!doctype html>")
    assert part.body.startswith(b"<p class=")
    assert program.code == code
    for response in (page, part):
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert code in visible(response)
    assert b"<nav" in page.body
    stranger = await get(admin, path, **{"sec-fetch-site": "cross-site"})
    assert (stranger.status, b"<nav" in stranger.body) == (403, False)
    assert "a link of another site led here" in visible(stranger)
    changed_host = WINDOW | {"origin": "https://admin.example", "sec-fetch-site": "same-origin"}
    refused = await admin.request("POST", "/dashboard/login", headers=changed_host)
    assert (refused.status, "A proxy has to pass Host and Origin" in visible(refused)) == (403, True)


async def test_unforeseen_error_is_a_page_without_its_words(
    admin: InMemoryAdmin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(admin, "workers")
    page = await get(admin, "/dashboard/now")
    assert page.status == 500
    assert b"Attribute" not in page.body
    assert "internal" in visible(page)
    assert "no attribute 'workers'" in caplog.text


# ----------------------------------------------------------------------------------------------- login


async def test_login_leads_to_pages_with_a_way_out() -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,))
    assert (await get(admin, "/dashboard/now")).headers["location"] == "/dashboard/login"
    form = await get(admin, "/dashboard/login")
    assert "Admin token" in visible(form)
    answer = await admin.request(
        "POST", "/dashboard/login", body=f"token=+{TOKEN}%0A".encode(), headers=WINDOW
    )
    assert (answer.status, answer.headers["location"]) == (303, "/dashboard/now")
    cookie = answer.headers["set-cookie"].partition(";")[0]
    page = await get(admin, "/dashboard/now", cookie=cookie)
    assert "Sign out" in visible(page)
    again = await get(admin, "/dashboard/login", cookie=cookie)
    assert again.headers["location"] == "/dashboard/now"
    matched = re.search(r'X-CSRF-Token": "(\w+)"', page.body.decode())
    assert matched is not None
    headers = {"cookie": cookie, "x-csrf-token": matched[1]}
    assert (
        await admin.request("PUT", "/originals/g/a.jpg", body=b"photograph", headers=headers)
    ).status == 201
    out = await admin.request("POST", "/dashboard/logout", headers=headers | {"hx-request": "true"})
    assert (out.status, out.headers["hx-redirect"]) == (204, "/dashboard/login")
    assert [one.outcome for one in admin.audits] == ["logged-in", "created", "logged-out"]
    name = hashlib.sha256(TOKEN.encode()).hexdigest()[:8]
    assert {one.who for one in admin.audits} == {f"session {name}"}


@pytest.mark.parametrize(
    ("scheme", "origin", "is_secure"),
    [
        ("http", {}, False),
        ("http", {"origin": "http://127.0.0.1:9000"}, False),
        ("http", {"origin": "https://127.0.0.1:9000"}, True),  # a proxy in front ends TLS
        ("https", {}, True),
        ("https", {"origin": "https://127.0.0.1:9000"}, True),
    ],
)
async def test_cookie_is_secure_where_the_browser_has_tls(
    scheme: str, origin: dict[str, str], *, is_secure: bool
) -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,))
    body = f"token={TOKEN}".encode()
    answer = await admin.request(
        "POST", "/dashboard/login", body=body, headers=WINDOW | origin, scheme=scheme
    )
    written = answer.headers["set-cookie"]
    assert (written.startswith("__Host-"), written.endswith("; Secure")) == (is_secure, is_secure)
    cookie = written.partition(";")[0]
    assert (await get(admin, "/dashboard/now", cookie=cookie)).status == 200


async def test_login_without_tokens_leads_to_the_pages(admin: InMemoryAdmin) -> None:
    assert (await get(admin, "/dashboard/login")).headers["location"] == "/dashboard/now"
    answer = await admin.request("POST", "/dashboard/login", body=b"token=x", headers=WINDOW)
    assert answer.status == 401
    assert "This is not one of the admin tokens." in visible(answer)


async def test_bearer_token_opens_pages_too() -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,), is_local=False)
    page = await get(admin, "/dashboard/now", authorization=f"Bearer {TOKEN}")
    assert page.status == 200


async def test_page_that_is_not_found_without_a_session_answers_programs_with_401() -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,))
    response = await admin.request("GET", "/dashboard/now")
    assert (response.status, response.code) == (401, "unauthorized")


# ----------------------------------------------------------------------------------------------- now


async def test_now_without_requests_says_so(admin: InMemoryAdmin) -> None:
    page = await get(admin, "/dashboard/now")
    text = visible(page)
    assert "No request failed." in text
    assert "No worker runs." in text
    assert "The first values come within 10 seconds." in text
    assert series(page)["time"] == []


async def test_now_shows_the_last_minute_the_targets_and_the_hour(admin: InMemoryAdmin) -> None:
    taken = admin.dashboard.sampler
    taken.sample()
    for _ in range(97):
        record(admin, result="hit")
    record(admin, result="stored")
    record(admin, result="miss", stages_ms={"render": 200.0}, duration_ms=300.0)
    record(admin, status=404, reason="no-such-original")
    admin.workers[:] = [WorkerFacts(11, Phase.WORKING, 3, 50_000_000), WorkerFacts(12, Phase.STARTING, 0, 0)]
    admin.now_s += INTERVAL_S
    taken.sample()
    page = await get(admin, "/dashboard/now")
    text = visible(page)
    for shown in (
        "Requests 10.0 / s 100.0 kB in a minute",
        "Hits 98.98 % 97.97 % from memory",
        "95 % of hits within 2.4 ms",
        "Errors 1.000 % 1 in a minute",
        "Targets of the last minute",
        "met Hit ratio, memory and store",
        "met Time to a rendered picture, 95 %",
        "missed Error responses (4xx, 5xx)",
        "unknown Renditions stored on the last day",
        "no-such-original There is no photograph of this name. 1",
        "11 at work 3 50.0 MB",
        "12 starting 0 –",
    ):
        assert shown in text
    values = series(page)
    assert {
        name: column[-1] for name, column in values.items() if name in {"requests", "errors", "busy"}
    } == {
        "requests": 10.0,
        "errors": 0.1,
        "busy": 2,
    }
    assert len({len(column) for column in values.values()}) == 1


async def test_now_keeps_an_hour_of_samples(admin: InMemoryAdmin) -> None:
    for _ in range(400):
        admin.dashboard.sampler.sample()
        admin.now_s += INTERVAL_S
    page = await get(admin, "/dashboard/now")
    assert len(series(page)["time"]) == HISTORY_S / INTERVAL_S
    assert "of the last 60 minutes" in visible(page)
    assert visible(page).count(":") > 12


async def test_samples_are_taken_again_and_again_until_the_end(
    admin: InMemoryAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "INTERVAL_S", 0.0)
    taken, sample, is_third = admin.dashboard.sampler, admin.dashboard.sampler.sample, asyncio.Event()

    def count() -> None:
        sample()
        if len(taken.history) == 3:
            is_third.set()

    monkeypatch.setattr(taken, "sample", count)
    admin.dashboard.start()
    await asyncio.wait_for(is_third.wait(), 30)
    await admin.dashboard.close()
    number = len(taken.history)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(taken.history) == number


async def test_part_of_now_updates_what_is_below_the_charts_too(admin: InMemoryAdmin) -> None:
    part = await admin.request("GET", "/dashboard/now/figures", headers={"hx-request": "true"})
    for name in ("lists", "hour"):
        assert f'<div id="{name}" hx-swap-oob="innerHTML">'.encode() in part.body
    assert b"<!doctype" not in part.body


@pytest.mark.parametrize(
    ("per_second", "shown"),
    [
        (0, "0.0"),
        (0.0123, "0.012"),
        (0.5, "0.5"),
        (1, "1.0"),
        (99.94, "99.9"),
        (100.4, "100"),
        (12_345.6, "12,346"),
    ],
)
def test_rate_has_decimals_where_it_is_small(per_second: float, shown: str) -> None:
    assert rate(per_second) == shown


# -------------------------------------------------------------------------------------------- errors


async def test_errors_say_what_happened_and_what_to_do(admin: InMemoryAdmin) -> None:
    assert "No request failed since the server started." in visible(await get(admin, "/dashboard/errors"))
    record(admin, result="hit")
    record(admin, status=503, reason="queue-full", request_id="1f-2", detail="waits 9 s")
    record(admin, status=404, reason="no-such-original", request_id="1f-3", path="/resize/tiny/<b>&amp;")
    page = await get(admin, "/dashboard/errors")
    text = visible(page)
    for shown in (
        "1 × queue-full Too many pictures are being rendered; try again in a moment.",
        ADVICE["queue-full"],
        "2025-12-01 10:00:00 503 queue-full GET /resize/tiny/g/a.jpg waits 9 s 1f-2",
    ):
        assert shown in text
    assert text.index("1f-3") < text.index("1f-2")  # the latest first
    assert b"<b>" not in page.body
    assert b"&lt;b&gt;&amp;amp;" in page.body


async def test_errors_of_one_code_are_selected(admin: InMemoryAdmin) -> None:
    record(admin, status=503, reason="queue-full", request_id="1f-2")
    record(admin, status=404, reason="no-such-original", request_id="1f-3")
    page = await get(admin, "/dashboard/errors?code=queue-full")
    assert "1f-2" in visible(page)
    assert "1f-3" not in visible(page)
    none = await get(admin, "/dashboard/errors?code=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "None of the errors that are kept has this code." in visible(none)
    assert b"<script>alert" not in none.body


async def test_viewer_who_left_is_no_error(admin: InMemoryAdmin) -> None:
    record(admin, status=499, reason="disconnected", result="miss")
    assert not admin.telemetry.recent_errors


async def test_errors_are_bounded(admin: InMemoryAdmin) -> None:
    for number in range(1000):
        record(admin, status=404, reason="no-such-original", request_id=f"n{number}")
    kept = admin.telemetry.recent_errors
    assert [one.request_id for one in kept] == [f"n{number}" for number in range(700, 1000)]
    page = await get(admin, "/dashboard/errors")
    assert page.body.count(b"<tr>") == 101
    assert len(page.body) < 100_000


def codes() -> Iterator[str]:
    for code, kind in by_code().items():
        if not issubclass(kind, CommandError) and code != "disconnected":
            yield code


def test_every_error_has_advice() -> None:
    assert set(ADVICE) == set(codes())
    assert all(one.endswith(".") and one.count("`") % 2 == 0 for one in ADVICE.values())
    settings = {word for one in ADVICE.values() for word in re.findall(r"`([a-z_]+)`", one)}
    assert settings <= set(Settings.__struct_fields__)
