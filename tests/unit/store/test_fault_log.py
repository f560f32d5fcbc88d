"""Tests the log of a store's faults: each kind once a minute, and every one counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.errors import DiskError, DiskFull, StoreUnreachable
from galerly_cdn.store.fault_log import FaultLog

if TYPE_CHECKING:
    import pytest


def test_fault_is_logged_once_a_minute_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    now_s, counted = 0.0, list[str]()
    log = FaultLog(counted.append, lambda: now_s)
    for _ in range(3):
        log.add("rendition-not-stored", DiskFull("[Errno 28] No space left on device"))
    log.add("rendition-not-stored", DiskError())
    log.add("rendition-unreadable", StoreUnreachable("refused"))
    now_s = 60.0
    log.add("rendition-not-stored", DiskFull("[Errno 28] No space left on device"))
    assert caplog.messages == [
        "rendition-not-stored: disk-full: [Errno 28] No space left on device",
        f"rendition-not-stored: disk-error: {DiskError.public}",
        "rendition-unreadable: store-unreachable: refused",
        "rendition-not-stored: disk-full: [Errno 28] No space left on device (2 more since the last line)",
    ]
    assert counted == [*["rendition-not-stored"] * 4, "rendition-unreadable", "rendition-not-stored"]
