"""Sessions: ids, expiry, cookies and CSRF tokens."""

from __future__ import annotations

import pytest

from galerly_cdn.admin import sessions
from galerly_cdn.admin.sessions import COOKIE, IDLE_S, LIFETIME_S, MAX_SESSIONS, SECURE_COOKIE, Sessions


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def carrying(*cookies: str) -> dict[bytes, bytes]:
    return {b"cookie": "; ".join(cookies).encode()}


@pytest.mark.parametrize(
    ("steps", "is_over"),
    [
        ([IDLE_S - 1], False),
        ([IDLE_S], True),
        ([IDLE_S - 1, IDLE_S - 1], False),
        ([IDLE_S - 1] * (LIFETIME_S // IDLE_S), False),
        ([IDLE_S - 1] * (LIFETIME_S // IDLE_S) + [LIFETIME_S // IDLE_S], True),
    ],
)
def test_session_expires_idle_and_absolutely(steps: list[float], *, is_over: bool) -> None:
    clock = Clock()
    kept = Sessions(clock)
    headers = carrying(f"{COOKIE}={kept.begin('who', is_secure=False)}")
    for step_s in steps[:-1]:
        clock.now_s += step_s
        assert kept.find(headers) is not None
    clock.now_s += steps[-1]
    assert (kept.find(headers) is None) is is_over
    assert len(kept) == (not is_over)


def test_session_that_is_only_polled_expires() -> None:
    clock = Clock()
    kept = Sessions(clock)
    headers = carrying(f"{COOKIE}={kept.begin('who', is_secure=False)}")
    clock.now_s += IDLE_S - 1
    assert kept.find(headers, is_use=False) is not None
    clock.now_s += 1
    assert kept.find(headers, is_use=False) is None


def test_sessions_are_bounded_and_the_least_used_one_ends() -> None:
    clock = Clock()
    kept = Sessions(clock)
    first, second, *_ = (kept.begin(str(number), is_secure=False) for number in range(MAX_SESSIONS))
    clock.now_s += 1
    assert kept.find(carrying(f"{COOKIE}={first}")) is not None
    kept.begin("one more", is_secure=False)
    assert len(kept) == MAX_SESSIONS
    assert kept.find(carrying(f"{COOKIE}={first}")) is not None
    assert kept.find(carrying(f"{COOKIE}={second}")) is None


def test_expired_sessions_are_forgotten_at_the_next_login() -> None:
    clock = Clock()
    kept = Sessions(clock)
    kept.begin("who", is_secure=False)
    clock.now_s += IDLE_S
    kept.begin("who", is_secure=False)
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("cookies", "is_secure", "is_found"),
    [
        ([f"{COOKIE}={{id}}"], False, True),
        ([f"{SECURE_COOKIE}={{id}}"], True, True),
        (["a=b", f"{COOKIE}={{id}}", "c"], False, True),
        ([f"{COOKIE}={{other}}", f"{SECURE_COOKIE}={{id}}"], True, True),
        ([f"{COOKIE}={{id}}", f"{SECURE_COOKIE}={{other}}"], False, False),
        ([f"{COOKIE}={{id}}"], True, False),
        ([f"{SECURE_COOKIE}={{id}}"], False, False),
        ([f"{COOKIE}={{id}}", f"{COOKIE}={{other}}"], False, False),
        ([f"{COOKIE}={{id}}", f"{COOKIE}={{id}}"], False, False),
        ([f'{COOKIE}="{{id}}"'], False, False),
        ([f"{COOKIE}={{id}}="], False, False),
        ([f"{COOKIE.upper()}={{id}}"], False, False),
        ([f"{COOKIE}={{id}}, {COOKIE}={{id}}"], False, False),
        ([f"{COOKIE}="], False, False),
        ([COOKIE], False, False),
        (["{id}"], False, False),
        ([], False, False),
    ],
)
def test_cookie_is_read_only_where_it_is_unambiguous(
    cookies: list[str], *, is_secure: bool, is_found: bool
) -> None:
    kept = Sessions(Clock())
    session_id = kept.begin("who", is_secure=is_secure)
    headers = carrying(*(one.format(id=session_id, other="x" * 43) for one in cookies))
    assert (kept.find(headers) is not None) is is_found


@pytest.mark.parametrize(
    ("is_secure", "written"),
    [
        (False, b"galerly_session=ID; Path=/; HttpOnly; SameSite=Strict"),
        (True, b"__Host-galerly_session=ID; Path=/; HttpOnly; SameSite=Strict; Secure"),
    ],
)
def test_cookie_has_the_attributes_that_protect_it(*, is_secure: bool, written: bytes) -> None:
    assert sessions.cookie("ID", is_secure=is_secure) == written
    expired = sessions.expired_cookie(is_secure=is_secure)
    assert expired == written.replace(b"ID", b"") + b"; Max-Age=0"


def test_csrf_token_is_of_the_session_and_is_not_its_id() -> None:
    kept = Sessions(Clock())
    one, other = (carrying(f"{COOKIE}={kept.begin('who', is_secure=False)}") for _ in range(2))
    token = sessions.csrf_token(one)
    assert token == sessions.csrf_token(one) != sessions.csrf_token(other)
    assert token.encode() not in one[b"cookie"]
    assert sessions.has_csrf_token(one | {b"x-csrf-token": token.encode()})
    assert not sessions.has_csrf_token(other | {b"x-csrf-token": token.encode()})
    assert not sessions.has_csrf_token({b"x-csrf-token": b""})
    assert not sessions.csrf_token({})
