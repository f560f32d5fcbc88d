"""Tests what a service manager is told, with a real datagram socket and a fake event loop's clock."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import pytest

from galerly_cdn.server.notifier import Notifier
from tests.support.fake_connection import FakeLoop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    fake = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: fake)
    return fake


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{tmp_path}")
        listening.setblocking(False)
        yield listening


def told(manager: socket.socket) -> list[str]:
    """All that has arrived."""
    received = []
    while True:
        try:
            received.append(manager.recv(4096).decode())
        except BlockingIOError:
            return received


def address(manager: socket.socket) -> str:
    return cast("bytes", manager.getsockname()).decode().replace("\0", "@")


def test_watchdog_is_told_at_each_half_of_its_time_until_the_end(
    loop: FakeLoop, manager: socket.socket
) -> None:
    notifier = Notifier(address(manager), watchdog_s=10)
    loop.advance(20)
    assert told(manager) == []
    notifier.ready("serves")
    assert told(manager) == ["READY=1\nSTATUS=serves", "WATCHDOG=1"]
    loop.advance(4.9)
    assert told(manager) == []
    loop.advance(5.2)
    assert told(manager) == ["WATCHDOG=1"] * 2
    notifier.stopping("ends")
    loop.advance(5)
    assert told(manager) == ["STOPPING=1\nSTATUS=ends", "WATCHDOG=1"]
    notifier.close()
    loop.advance(20)
    assert told(manager) == []


def test_without_watchdog_only_ready_and_stopping_are_told(loop: FakeLoop, manager: socket.socket) -> None:
    notifier = Notifier(address(manager))
    notifier.ready("serves")
    loop.advance(1000)
    notifier.stopping("ends")
    assert told(manager) == ["READY=1\nSTATUS=serves", "STOPPING=1\nSTATUS=ends"]


def test_service_manager_that_does_not_read_stops_nothing(
    loop: FakeLoop, manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(address(manager), watchdog_s=1)
    notifier.ready("serves")
    loop.advance(5000)  # far more datagrams than a socket's queue takes
    assert caplog.text.count("Resource temporarily unavailable") == 1
    assert told(manager)[0] == "READY=1\nSTATUS=serves"


@pytest.mark.parametrize("where", ["", "{folder}/none", "vsock:2:1234", "@" + "a" * 200])
def test_service_manager_that_is_not_there_stops_nothing(
    loop: FakeLoop, tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(where.format(folder=tmp_path), watchdog_s=1)
    notifier.ready("serves")
    loop.advance(1)
    notifier.stopping("ends")
    notifier.close()
    assert ("NOTIFY_SOCKET" in caplog.text) == bool(where)
