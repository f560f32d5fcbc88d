"""Tests of the packets between the server and a hit process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.server.processes import messages
from galerly_cdn.server.processes.channel import Channel, channel_pair
from galerly_cdn.server.processes.hit_server import _MAX_RECORDS
from galerly_cdn.telemetry import AccessRecord

if TYPE_CHECKING:
    import socket

LONGEST = AccessRecord(
    time_s=1.5,
    request_id="0" * 20,
    client="f" * 40,
    method="HEAD",
    path="\\xff" * 1024,
    status=200,
    bytes=2**40,
    duration_ms=0.001,
    key="\x7f\u0080" * 300,
    size="2560x2560",
    format="avif",
    cache="hit; detail=store",
)


@given(st.integers(0), st.booleans(), st.binary())
def test_decode_is_the_inverse_of_encode(number: int, is_used: bool, data: bytes) -> None:  # noqa: FBT001 - Hypothesis
    message = messages.Return(number, is_used)
    assert messages.decode(messages.encode(message, data)) == (message, data)


@pytest.mark.parametrize("packet", [b"", b"g", b'g{"number":1}', b"x{}\n", b'g{"number":"a"}\n', b"g{\n"])
def test_decode_other_packet_raises(packet: bytes) -> None:
    with pytest.raises(messages.ProtocolError):
        messages.decode(packet)


def test_longest_records_fit_into_one_packet() -> None:
    records = (messages.ResultRecord(LONGEST, "stored"),) * _MAX_RECORDS
    packet = messages.encode(messages.Records(records, {}, 0))
    assert len(packet) <= messages.MAX_PACKET_BYTES
    assert messages.decode(packet)[0] == messages.Records(records, {}, 0)


async def test_messages_arrive_in_order_when_the_other_end_is_slow() -> None:
    """More than the kernel's buffer holds, with descriptors, before the other end reads."""
    own, other = channel_pair()
    loop = asyncio.get_running_loop()
    got: list[tuple[int, bytes, bool]] = []
    done = asyncio.Event()
    sender = Channel(own, loop, lambda *_: None, lambda: None)
    given_away, its_peer = channel_pair()
    fd = given_away.fileno()
    sent = [(number, bytes([number]) * messages.DATA_BYTES, number % 2 == 0) for number in range(50)]
    for number, data, has_fd in sent:
        sender.send(messages.Data(number), data, fd if has_fd else -1)
    assert sender.unsent
    assert not sender.try_send(messages.Give(0), fd)
    given_away.close()
    its_peer.close()

    def on_message(message: messages.Message, data: bytes, connection: socket.socket | None) -> None:
        assert isinstance(message, messages.Data)
        if connection is not None:
            connection.close()
        got.append((message.number, data, connection is not None))

    receiver = Channel(other, loop, on_message, done.set)
    await sender.flush()
    sender.close()
    await done.wait()
    receiver.close()
    assert got == sent
