"""33 attacks on the login and on sessions. Each fails: it shows no page, makes no change, leaks nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.admin.sessions import COOKIE, IDLE_S, LIFETIME_S, MAX_SESSIONS, SECURE_COOKIE
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import TOKEN, AdminResponse, InMemoryAdmin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Attack = Callable[["Victim"], Awaitable[None]]

HOST = "admin.example"
WINDOW = {"host": HOST, "accept": "text/html,*/*;q=0.8"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
OWN = {"origin": f"https://{HOST}", "sec-fetch-site": "same-origin"}
EVIL = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
LOGIN = "/dashboard/login"
PAGES = ("/", "/dashboard", "/dashboard/now", "/dashboard/now/figures", "/dashboard/errors")
CHANGES = (("DELETE", "/originals/g/a.jpg"), ("POST", "/purge/g/a.jpg"), ("POST", "/dashboard/logout"))
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__] = function
    return function


@dataclass
class Victim:
    """An admin side on a public address with a photograph, and a browser that is logged in over TLS."""

    admin: InMemoryAdmin = field(
        default_factory=lambda: InMemoryAdmin(Settings(), tokens=("f" * 40, TOKEN), is_local=False)
    )
    session_id: str = ""
    csrf: str = ""

    async def prepare(self) -> None:
        bearer = {"authorization": f"Bearer {TOKEN}", "host": HOST}
        assert (
            await self.admin.request("PUT", "/originals/g/a.jpg", body=b"photograph", headers=bearer)
        ).status == 201
        self.session_id = session_of(await self.log_in())
        page = await self.get("/dashboard/now")
        assert page.status == 200
        self.csrf = csrf_of(page)

    @property
    def cookie(self) -> dict[str, str]:
        return {"cookie": f"{SECURE_COOKIE}={self.session_id}"}

    async def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b"", client: str = "192.0.2.7"
    ) -> AdminResponse:
        return await self.admin.request(
            method, path, headers=WINDOW | headers, body=body, client=client, scheme="https"
        )

    async def get(self, path: str, headers: dict[str, str] | None = None) -> AdminResponse:
        """A request by the browser that is logged in."""
        return await self.send("GET", path, self.cookie | (headers or {}))

    async def log_in(
        self, token: str = TOKEN, client: str = "192.0.2.7", headers: dict[str, str] | None = None
    ) -> AdminResponse:
        body = f"token={token}".encode()
        return await self.send("POST", LOGIN, FORM | OWN | (headers or {}), body, client)

    async def is_logged_in(self, cookie: str) -> bool:
        return (await self.send("GET", "/dashboard/now", {"cookie": cookie})).status == 200

    async def assert_unchanged(self) -> None:
        """The photograph is there, and the browser is still logged in."""
        assert (await self.get("/originals/g/a.jpg")).status == 200
        assert await self.is_logged_in(self.cookie["cookie"])


def session_of(response: AdminResponse) -> str:
    matched = re.match(rf"{SECURE_COOKIE}=([^;]+);", response.headers["set-cookie"])
    assert matched is not None
    return matched[1]


def csrf_of(page: AdminResponse) -> str:
    matched = re.search(rb"X-CSRF-Token&#34;: &#34;|X-CSRF-Token\": \"(\w+)", page.body)
    assert matched is not None
    return matched[1].decode()


@attack
async def fixed_session_id_is_not_adopted_by_a_login(victim: Victim) -> None:
    fixed = "A" * 43
    response = await victim.log_in(headers={"cookie": f"{SECURE_COOKIE}={fixed}"})
    assert session_of(response) != fixed
    assert not await victim.is_logged_in(f"{SECURE_COOKIE}={fixed}")


@attack
async def session_before_a_login_is_not_that_after_it(victim: Victim) -> None:
    response = await victim.log_in(headers=victim.cookie)
    assert session_of(response) != victim.session_id
    assert not await victim.is_logged_in(victim.cookie["cookie"])


@attack
async def form_of_another_site_changes_nothing(victim: Victim) -> None:
    for method, path in CHANGES:
        response = await victim.send(method, path, victim.cookie | EVIL)
        assert response.status == 403
    await victim.assert_unchanged()


@attack
async def page_of_a_sibling_domain_changes_nothing(victim: Victim) -> None:
    sibling = {"origin": "https://blog.example", "sec-fetch-site": "same-site"}
    for method, path in CHANGES:
        assert (
            await victim.send(method, path, victim.cookie | sibling | {"x-csrf-token": victim.csrf})
        ).status == 403
    await victim.assert_unchanged()


@attack
async def sandboxed_frame_with_a_null_origin_changes_nothing(victim: Victim) -> None:
    for method, path in CHANGES:
        assert (await victim.send(method, path, victim.cookie | {"origin": "null"})).status == 403
    await victim.assert_unchanged()


@attack
async def change_by_the_cookie_alone_is_refused(victim: Victim) -> None:
    """As an old browser sends it, without Origin and Sec-Fetch-Site."""
    for method, path in CHANGES:
        response = await victim.send(method, path, victim.cookie | {"accept": "*/*"})
        assert (response.status, response.code) == (403, "csrf-token-mismatch")
    await victim.assert_unchanged()


@attack
async def csrf_token_of_another_session_is_refused(victim: Victim) -> None:
    other = {"cookie": f"{SECURE_COOKIE}={session_of(await victim.log_in())}"}
    token = csrf_of(await victim.send("GET", "/dashboard/now", other))
    assert token != victim.csrf
    for method, path in CHANGES:
        headers = victim.cookie | OWN | {"x-csrf-token": token}
        assert (await victim.send(method, path, headers)).status == 403
    await victim.assert_unchanged()


@attack
async def guessed_csrf_token_is_refused(victim: Victim) -> None:
    digest = hashlib.sha256(victim.session_id.encode()).hexdigest()
    for token in (
        "",
        "0" * 64,
        victim.csrf[:-1],
        victim.csrf.upper() + "x",
        f"{victim.csrf}, {victim.csrf}",
        digest,
    ):
        headers = victim.cookie | OWN | {"x-csrf-token": token}
        assert (await victim.send("DELETE", "/originals/g/a.jpg", headers)).status == 403
    await victim.assert_unchanged()


@attack
async def csrf_token_in_the_query_the_body_or_a_cookie_is_refused(victim: Victim) -> None:
    path = f"/purge/g/a.jpg?X-CSRF-Token={victim.csrf}&csrf={victim.csrf}"
    cookie = {"cookie": f"{victim.cookie['cookie']}; X-CSRF-Token={victim.csrf}"}
    body = f"X-CSRF-Token={victim.csrf}".encode()
    assert (await victim.send("POST", path, cookie | OWN | FORM, body)).status == 403
    await victim.assert_unchanged()


@attack
async def method_override_is_no_method(victim: Victim) -> None:
    headers = {"x-http-method-override": "DELETE", "x-http-method": "DELETE", "x-method-override": "DELETE"}
    for query in ("", "?_method=DELETE", "?method=DELETE"):
        response = await victim.get(f"/originals/g/a.jpg{query}", headers)
        assert response.status in {200, 400}
    assert (await victim.send("DELETE ", "/originals/g/a.jpg", victim.cookie)).status == 405
    await victim.assert_unchanged()


@attack
async def picture_that_logs_out_does_not(victim: Victim) -> None:
    for method in ("GET", "HEAD"):
        response = await victim.send(method, "/dashboard/logout", victim.cookie)
        assert response.status == 405
        assert "set-cookie" not in response.headers
    await victim.assert_unchanged()


@attack
async def login_form_of_another_site_logs_nobody_in(victim: Victim) -> None:
    for headers in (
        EVIL,
        {"origin": "null"},
        {"sec-fetch-site": "same-site"},
        {"origin": f"https://{HOST}.evil.example"},
    ):
        response = await victim.send("POST", LOGIN, FORM | headers, f"token={TOKEN}".encode())
        assert response.status == 403
        assert "set-cookie" not in response.headers


@attack
async def replayed_cookie_after_the_logout_is_refused(victim: Victim) -> None:
    response = await victim.send(
        "POST", "/dashboard/logout", victim.cookie | OWN | {"x-csrf-token": victim.csrf}
    )
    assert response.status == 303
    assert "Max-Age=0" in response.headers["set-cookie"]
    for path in PAGES:
        assert (await victim.get(path)).headers["location"] == LOGIN
    headers = victim.cookie | OWN | {"x-csrf-token": victim.csrf, "accept": "*/*"}
    assert (await victim.send("DELETE", "/originals/g/a.jpg", headers)).status == 401


@attack
async def cookie_of_an_idle_session_is_refused(victim: Victim) -> None:
    victim.admin.now_s += IDLE_S
    assert not await victim.is_logged_in(victim.cookie["cookie"])


@attack
async def cookie_is_refused_after_the_lifetime_however_much_it_is_used(victim: Victim) -> None:
    for _ in range(LIFETIME_S // 600 - 1):
        victim.admin.now_s += 600
        assert await victim.is_logged_in(victim.cookie["cookie"])
    victim.admin.now_s += 600
    assert not await victim.is_logged_in(victim.cookie["cookie"])


@attack
async def page_that_is_left_open_keeps_no_session_alive(victim: Victim) -> None:
    for _ in range(IDLE_S // 600 - 1):
        victim.admin.now_s += 600
        assert (await victim.get("/dashboard/now/figures")).status == 200
    victim.admin.now_s += 600
    response = await victim.get("/dashboard/now/figures", {"hx-request": "true"})
    assert (response.status, response.headers["hx-redirect"]) == (401, LOGIN)


async def guess(victim: Victim, clients: list[str], headers: dict[str, str] | None = None) -> list[int]:
    """The statuses of a wrong token from each client, one after the other."""
    return [(await victim.log_in("0" * 32, client, headers)).status for client in clients]


@attack
async def guesses_are_throttled_even_the_right_one(victim: Victim) -> None:
    assert await guess(victim, ["192.0.2.1"] * 8) == [401] * 5 + [429] * 3
    response = await victim.log_in(client="192.0.2.1")
    assert (response.status, response.headers["retry-after"]) == (429, "60")
    assert "set-cookie" not in response.headers
    victim.admin.now_s += 60
    assert (await victim.log_in(client="192.0.2.1")).status == 303


@attack
async def forged_forwarded_addresses_do_not_avoid_the_throttle(victim: Victim) -> None:
    statuses = []
    for number in range(8):
        forged = {
            "x-forwarded-for": f"203.0.113.{number}",
            "forwarded": f"for=203.0.113.{number}",
            "x-real-ip": f"203.0.113.{number}",
            "cf-connecting-ip": f"203.0.113.{number}",
        }
        statuses += await guess(victim, ["192.0.2.1"], forged)
    assert statuses == [401] * 5 + [429] * 3


@attack
async def addresses_of_one_ipv6_network_do_not_avoid_the_throttle(victim: Victim) -> None:
    assert await guess(victim, [f"2001:db8::{number:x}" for number in range(1, 9)]) == [401] * 5 + [429] * 3


@attack
async def many_clients_together_are_throttled(victim: Victim) -> None:
    statuses = await guess(victim, [f"198.51.100.{number}" for number in range(40)])
    assert statuses == [401] * 30 + [429] * 10


@attack
async def concurrent_guesses_do_not_avoid_the_throttle(victim: Victim) -> None:
    responses = await asyncio.gather(*(victim.log_in("0" * 32, "192.0.2.1") for _ in range(12)))
    assert sorted(response.status for response in responses) == [401] * 5 + [429] * 7


@attack
async def cookie_that_a_sibling_domain_sets_is_ignored(victim: Victim) -> None:
    """Cookie tossing: it cannot set `__Host-`, and the unprefixed name carries no session of TLS."""
    assert not await victim.is_logged_in(f"{COOKIE}={victim.session_id}")
    assert await victim.is_logged_in(f"{COOKIE}={'A' * 43}; {victim.cookie['cookie']}")
    assert await victim.is_logged_in(f"{victim.cookie['cookie']}; {COOKIE}={'A' * 43}")


@attack
async def cookie_that_is_sent_twice_is_ignored(victim: Victim) -> None:
    other = f"{SECURE_COOKIE}={'A' * 43}"
    for cookie in (f"{victim.cookie['cookie']}; {other}", f"{other}; {victim.cookie['cookie']}"):
        assert not await victim.is_logged_in(cookie)


@attack
async def misspelt_cookies_are_ignored(victim: Victim) -> None:
    digest = hashlib.sha256(victim.session_id.encode()).hexdigest()
    for cookie in (
        f"{SECURE_COOKIE.lower()}={victim.session_id}",
        f'{SECURE_COOKIE}="{victim.session_id}"',
        f"{SECURE_COOKIE}={victim.session_id}%00",
        f"{SECURE_COOKIE}={victim.session_id.swapcase()}",
        f"{SECURE_COOKIE}={digest}",
        f"{SECURE_COOKIE}={digest[:43]}",
        f"{SECURE_COOKIE}={TOKEN}",
        f"{SECURE_COOKIE}=",
        f"{SECURE_COOKIE}",
        "=" + victim.session_id,
    ):
        assert not await victim.is_logged_in(cookie), cookie


@attack
async def session_id_elsewhere_than_in_the_cookie_is_ignored(victim: Victim) -> None:
    for headers in (
        {"authorization": f"Bearer {victim.session_id}"},
        {"x-session-id": victim.session_id, "set-cookie": victim.cookie["cookie"]},
    ):
        assert (await victim.send("GET", "/dashboard/now", headers)).status == 303
    for query in (f"?{SECURE_COOKIE}={victim.session_id}", f";{COOKIE}={victim.session_id}"):
        assert (await victim.send("GET", f"/dashboard/now{query}", {})).status == 303


@attack
async def rebound_domain_on_loopback_sees_nothing(victim: Victim) -> None:
    admin = InMemoryAdmin(Settings())
    for path in (*PAGES, "/originals"):
        response = await admin.request("GET", path, headers=WINDOW | {"host": "evil.example"})
        assert response.status == 421
        assert b"figures" not in response.body
    with_token = InMemoryAdmin(Settings(), tokens=(TOKEN,))
    for path in PAGES:
        response = await with_token.request("GET", path, headers=WINDOW | {"host": "evil.example"})
        assert (response.status, response.headers["location"]) == (303, LOGIN)
    await victim.assert_unchanged()


@attack
async def page_on_another_port_of_the_host_sees_and_changes_nothing(victim: Victim) -> None:
    headers = victim.cookie | {"origin": f"https://{HOST}:3000"}
    for path in PAGES:
        assert (await victim.send("GET", path, headers)).status == 403
    for method, path in CHANGES:
        assert (await victim.send(method, path, headers | {"x-csrf-token": victim.csrf})).status == 403
    await victim.assert_unchanged()


@attack
async def no_response_can_be_framed_cached_sniffed_or_told_to_other_sites(victim: Victim) -> None:
    responses = [
        await victim.get(path) for path in (*PAGES, LOGIN, "/dashboard/none", "/dashboard/errors?x=1")
    ]
    responses += [await victim.send("GET", path, {}) for path in (*PAGES, LOGIN, "/dashboard/none")]
    responses += [await victim.log_in(), await victim.log_in("wrong"), await victim.get(LOGIN, EVIL)]
    responses += [await victim.get("/dashboard/none", {"hx-request": "true"})]
    for response in responses:
        policy = response.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert policy.startswith("default-src 'none'; script-src 'self'; ")
        assert "unsafe" not in policy
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "same-origin"
        assert response.headers["cross-origin-opener-policy"] == "same-origin"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert not {name for name in response.headers if name.startswith("access-control-")}
        assert "content-encoding" not in response.headers  # BREACH


@attack
async def no_address_leads_a_login_to_another_site(victim: Victim) -> None:
    for place in ("https://evil.example/", "//evil.example/", "\\\\evil.example", "/dashboard/../../x"):
        response = await victim.send("POST", f"{LOGIN}?next={place}", FORM | OWN, f"token={TOKEN}".encode())
        assert response.headers["location"] == "/dashboard/now"
        form = f"token={TOKEN}&next={place}".encode()
        assert (await victim.send("POST", LOGIN, FORM | OWN, form)).status == 400
        response = await victim.send(
            "GET", f"/dashboard/now?next={place}", {"x-forwarded-host": "evil.example"}
        )
        assert response.headers["location"] == LOGIN
    assert (await victim.send("GET", "//evil.example/dashboard", {"accept": "*/*"})).status == 401


@attack
async def token_in_an_address_is_no_login_and_no_secret_is_logged(victim: Victim) -> None:
    for path in (
        f"{LOGIN}?token={TOKEN}",
        f"/dashboard/now?token={TOKEN}",
        f"/dashboard?access_token={TOKEN}",
    ):
        response = await victim.send("GET", path, {})
        assert "set-cookie" not in response.headers
        assert b"figures" not in response.body
    wrong = TOKEN[::-1]
    refused = await victim.log_in(wrong)
    assert wrong.encode() not in refused.body
    logged = str(victim.admin.audits)
    for secret in (TOKEN, wrong, victim.session_id, victim.csrf):
        assert secret not in logged
    failed, accepted = (
        [one for one in victim.admin.audits if one.action == f"POST {LOGIN}" and one.outcome == outcome]
        for outcome in ("unauthorized", "logged-in")
    )
    assert [(one.status, one.client, one.who) for one in failed] == [(401, "192.0.2.7", "")]
    name = hashlib.sha256(TOKEN.encode()).hexdigest()[:8]
    assert [(one.status, one.who) for one in accepted] == [(303, f"session {name}")]


@attack
async def comparison_takes_no_time_that_depends_on_the_token(victim: Victim) -> None:
    """Every token's digest is compared, whole, whatever was sent."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hmac, "compare_digest", compare)
        for token in ("x", TOKEN[:-1] + "x", "f" * 40, TOKEN, "%C3%A9" * 100):
            await victim.log_in(token)
    assert compared == [(32, 32)] * 10


@attack
async def oversize_and_malformed_input_is_refused(victim: Victim) -> None:
    for body in (
        b"token=" + b"x" * 20_000,
        b"token=a&token=" + TOKEN.encode(),
        b"token",
        b"",
        b"\xff\xfe",
        b'{"token": "' + TOKEN.encode() + b'"}',
        b"token=%ff%fe",
        b"&" * 100,
    ):
        response = await victim.send("POST", LOGIN, FORM | OWN, body)
        assert response.status == 400, body
        assert "set-cookie" not in response.headers
    assert not await victim.is_logged_in("; ".join(f"c{number}=v" for number in range(1000)))
    assert not await victim.is_logged_in(f"{SECURE_COOKIE}=" + "A" * 20_000)
    injected = await victim.log_in("a%0d%0aset-cookie:%20evil=1")
    assert (injected.status, "set-cookie" in injected.headers) == (401, False)


@attack
async def nothing_without_a_session_shows_what_exists_or_uses_up_the_sessions(victim: Victim) -> None:
    for path in (*PAGES, "/dashboard/none", "/dashboard/galleries/g", "/dashboard/logout"):
        response = await victim.send("GET", path, {})
        assert (response.status, response.headers["location"], response.body) == (303, LOGIN, b"")
        head = await victim.send("HEAD", path, {"accept": "*/*"})
        assert head.status == 401
    for _ in range(MAX_SESSIONS * 2):
        await victim.send("GET", LOGIN, {"cookie": f"{SECURE_COOKIE}={'B' * 43}"})
    await victim.assert_unchanged()


@pytest.mark.parametrize("name", ATTACKS)
async def test_attack_on_login_or_session_fails(name: str) -> None:
    victim = Victim()
    await victim.prepare()
    await ATTACKS[name](victim)


def test_there_are_33_attacks() -> None:
    assert len(ATTACKS) == 33
