"""Tests of the frames and messages between the server and a worker."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.model import Format, Rendered, Size, Target
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.pool import protocol
from tests.support.fact_records import FACTS
from tests.support.worker_pool import JOB

MESSAGES: list[protocol.Message] = [
    protocol.Request(5, JOB),
    protocol.Request(5, None),
    protocol.Request(5, JOB, is_known_good=True),
    protocol.Continue(),
    protocol.Abandon(),
    protocol.Ready("8.18.7", ("jpeg",), ("memory",)),
    protocol.MemoryNeeded(7, OriginalFormat.TIFF),
    protocol.Done(1, Rendered(Target(Size(4, 4)), Format.AVIF, 1, 2, 3, "md5", ("gps",))),
    protocol.Done(1, Rendered(Target(Size(4, 4)), Format.AVIF, 1, 2, 3, "md5"), FACTS),
    protocol.Done(1, facts=FACTS),
    protocol.Failed(1, "undecodable", "Ünïcödé\n\x00"),
    protocol.Failed(1, "unsupported-format", "detail", "A sentence for people.", FACTS),
]


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_message_is_decoded_as_it_was_encoded(message: protocol.Message) -> None:
    frame = protocol.encode_frame(message, 9)
    head, text = frame[: protocol.HEADER.size], frame[protocol.HEADER.size :]
    assert protocol.decode_lengths(head) == (len(text), 9)
    assert protocol.decode_message(head, text) == message


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_message_may_arrive_byte_by_byte(message: protocol.Message) -> None:
    server_end, worker_end = socket.socketpair()

    def send_slowly() -> None:
        with server_end:
            for byte in protocol.encode_frame(message):
                server_end.send(bytes([byte]))

    with worker_end:
        thread = threading.Thread(target=send_slowly)
        thread.start()
        assert protocol.receive_message(worker_end) == (message, [])
        with pytest.raises(EOFError):
            protocol.receive_message(worker_end)
        thread.join()


def test_connection_that_ends_within_a_message_raises_eof() -> None:
    server_end, worker_end = socket.socketpair()
    with worker_end:
        with server_end:
            server_end.send(protocol.encode_frame(protocol.Continue())[:-1])
        with pytest.raises(EOFError):
            protocol.receive_message(worker_end)


@given(st.binary(min_size=protocol.HEADER.size, max_size=protocol.HEADER.size))
def test_frame_header_is_within_limits_or_a_protocol_error(head: bytes) -> None:
    try:
        message_bytes, body_bytes = protocol.decode_lengths(head)
    except protocol.ProtocolError:
        return
    assert message_bytes <= 64 * 1024
    assert body_bytes <= 256 * 1024 * 1024


@given(st.sampled_from(sorted("rcaRMDF")), st.binary(max_size=40))
def test_message_is_valid_or_a_protocol_error(letter: str, text: bytes) -> None:
    try:
        message = protocol.decode_message(letter.encode() + bytes(8), text)
    except protocol.ProtocolError:
        return
    assert (
        protocol.decode_message(protocol.encode_frame(message)[:9], protocol.encode_frame(message)[9:])
        == message
    )
