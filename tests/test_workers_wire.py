from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.model import Format, Rendered, Size, Target
from galerly_cdn.render import wire
from tests.crews import JOB

MESSAGES: list[wire.Message] = [
    wire.Order(5, JOB),
    wire.Order(5, None),
    wire.Go(),
    wire.Stop(),
    wire.Hello("8.18.7", ("jpeg",), ("memory",)),
    wire.Weighed(7),
    wire.Done(1, Rendered(Target(Size(4, 4)), Format.AVIF, 1, 2, 3, "md5", ("gps",))),
    wire.Failed(1, "undecodable", "Ünïcödé\n\x00"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_a_message_is_read_as_it_was_written(message: wire.Message) -> None:
    frame = wire.frame(message, 9)
    head, text = frame[: wire.HEAD.size], frame[wire.HEAD.size :]
    assert wire.lengths(head) == (len(text), 9)
    assert wire.message(head, text) == message


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_a_message_may_arrive_byte_by_byte(message: wire.Message) -> None:
    ours, theirs = socket.socketpair()

    def drip() -> None:
        with ours:
            for byte in wire.frame(message):
                ours.send(bytes([byte]))

    with theirs:
        thread = threading.Thread(target=drip)
        thread.start()
        assert wire.hear(theirs) == (message, None)
        with pytest.raises(EOFError):
            wire.hear(theirs)
        thread.join()


def test_a_server_that_ends_within_a_message_has_ended() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.send(wire.frame(wire.Go())[:-1])
        with pytest.raises(EOFError):
            wire.hear(theirs)


@given(st.binary(min_size=wire.HEAD.size, max_size=wire.HEAD.size))
def test_a_head_is_bounded_or_garbage(head: bytes) -> None:
    try:
        message_bytes, body_bytes = wire.lengths(head)
    except wire.Garbage:
        return
    assert message_bytes <= 64 * 1024
    assert body_bytes <= 256 * 1024 * 1024


@given(st.sampled_from(sorted("ogshwdf")), st.binary(max_size=40))
def test_a_message_is_one_or_garbage(letter: str, text: bytes) -> None:
    try:
        message = wire.message(letter.encode() + bytes(8), text)
    except wire.Garbage:
        return
    assert wire.message(wire.frame(message)[:9], wire.frame(message)[9:]) == message
