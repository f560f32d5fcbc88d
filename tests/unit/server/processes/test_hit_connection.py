"""Tests of a connection in a hit process: what it answers, and what it returns to the server unparsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.server import serve
from galerly_cdn.server.listener import ListenerState
from galerly_cdn.server.processes.hit_connection import HitConnection
from galerly_cdn.server.processes.hit_server import application
from tests.support.fake_connection import SETTINGS, FakeLoop, FakeTransport
from tests.support.raw_http import Echo, get
from tests.unit.server.test_request_smuggling import REFUSED, SECOND, SERVED, SERVED_LAST

if TYPE_CHECKING:
    from galerly_cdn.http.exchange import HitAnswer
    from galerly_cdn.http.request import Scope


class FakeHitConnection:
    """A connection over a fake transport, and its owner, which records what returns to the server."""

    def __init__(self, *, is_draining: bool = False) -> None:
        self.is_draining = is_draining
        self.loop = FakeLoop()
        self.echo = Echo(miss=application)
        self.returned: list[tuple[int, bytes, bool]] = []
        self.ends: list[int] = []
        self.state = ListenerState(application, SETTINGS, serve.refuse, answer_hit=self._answer_hit)
        self.protocol = HitConnection(self.state, self, 7, cast("Any", self.loop))
        self.transport = FakeTransport("192.0.2.1")
        self.protocol.connection_made(cast("Any", self.transport))

    def _answer_hit(self, scope: Scope) -> HitAnswer | None:
        return self.echo.answer_hit(scope)

    def take_back(self, number: int, fd: int, data: bytes, *, is_used: bool) -> None:
        assert fd == self.transport.fileno()
        self.returned.append((number, data, is_used))

    def ended(self, number: int) -> None:
        self.ends.append(number)

    def feed(self, raw: bytes) -> None:
        self.protocol.data_received(raw)

    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.transport.sent.split(b"HTTP/1.1 ")[1:]]


def test_hits_are_answered_and_the_connection_stays() -> None:
    connection = FakeHitConnection()
    for _ in range(3):
        connection.feed(get())
    assert connection.statuses() == [200] * 3
    assert connection.returned == []


UNANSWERED = {
    **{name: raw for name, (raw, _) in REFUSED.items()},
    **{name: raw for name, (raw, _) in SERVED_LAST.items()},
    "a miss": get("/miss"),
    "an incomplete request": get()[:-1],
    "an empty line": b"\r\n",
    "two requests": get() + get(),
}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("raw", UNANSWERED.values(), ids=UNANSWERED.keys())
def test_other_bytes_are_returned_unparsed(raw: bytes, *, is_first: bool) -> None:
    connection = FakeHitConnection()
    if not is_first:
        connection.feed(get())
    sent = connection.transport.sent
    connection.feed(raw)
    assert connection.transport.sent == sent
    assert connection.returned == [(7, raw, not is_first)]
    assert connection.transport.ended == "aborted"
    connection.protocol.connection_lost(None)
    assert connection.ends == []


@pytest.mark.parametrize(("raw", "path", "_query"), SERVED.values(), ids=SERVED.keys())
def test_unambiguous_request_is_answered_or_returned(raw: bytes, path: str, _query: str) -> None:
    connection = FakeHitConnection()
    connection.feed(raw)
    answered = [one.decode() for one in connection.echo.raw_paths]
    returned = [data for _, data, _ in connection.returned]
    assert (answered, returned) in (([path], []), ([], [raw]))


@given(
    st.lists(st.sampled_from([get(), get("/miss"), SECOND, *UNANSWERED.values()]), min_size=1, max_size=4),
    st.lists(st.integers(0, 400), max_size=5),
)
def test_every_byte_is_answered_or_returned(parts: list[bytes], cuts: list[int]) -> None:
    """However the bytes arrive: what was answered is a sequence of whole requests, and the rest goes back."""
    connection = FakeHitConnection()
    raw, ends = b"".join(parts), sorted({*cuts, 1_200_000})
    fed = 0
    for end in ends:
        if not connection.returned and raw[fed:end]:
            connection.feed(raw[fed:end])
            fed = min(end, len(raw))
    returned = connection.returned[0][1] if connection.returned else b""
    answered = raw[: fed - len(returned)]
    requests = answered.split(b"\r\n\r\n")[:-1]
    assert answered == b"".join(one + b"\r\n\r\n" for one in requests)
    assert raw[:fed] == answered + returned
    assert connection.statuses() == [200] * len(requests)


def test_request_behind_an_unread_response_is_returned_once_that_is_read() -> None:
    connection = FakeHitConnection()
    connection.feed(get())
    connection.protocol.pause_writing()
    connection.feed(get("/next"))
    assert connection.returned == []
    assert connection.transport.is_paused
    connection.protocol.resume_writing()
    assert connection.returned == [(7, get("/next"), True)]


def test_unread_response_ends_the_connection_at_the_write_deadline() -> None:
    connection = FakeHitConnection()
    connection.feed(get())
    connection.transport.unsent_bytes = 1
    connection.protocol.pause_writing()
    connection.feed(get("/next"))
    connection.loop.advance(30.1)
    assert connection.transport.ended == "aborted"
    connection.protocol.connection_lost(None)
    assert connection.returned == []
    assert connection.ends == [7]


def test_idle_connection_is_closed_after_idle_s() -> None:
    connection = FakeHitConnection()
    connection.loop.advance(59.9)
    assert not connection.transport.has_sent_end
    connection.loop.advance(0.2)
    assert connection.transport.has_sent_end
    connection.feed(get())
    assert connection.returned == []


def test_stop_returns_idle_connections_at_once_and_others_when_read() -> None:
    idle, unread = FakeHitConnection(), FakeHitConnection()
    unread.protocol.pause_writing()
    for connection in (idle, unread):
        connection.protocol.shutdown()
    assert idle.returned == [(7, b"", False)]
    assert unread.returned == []
    unread.protocol.resume_writing()
    assert unread.returned == [(7, b"", False)]


def test_connection_that_arrives_during_a_stop_is_returned() -> None:
    assert FakeHitConnection(is_draining=True).returned == [(7, b"", False)]
