"""The access log writes whole JSON lines, and its reader cannot delay responses; counters and request ids."""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.app import server
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from galerly_cdn.telemetry import (
    AccessLog,
    AccessRecord,
    Counters,
    GalleryBytes,
    Telemetry,
    TrafficStatistics,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer


def record(number: int = 0, **fields: str) -> AccessRecord:
    return AccessRecord(
        time_s=1.5,
        request_id=f"run-{number}",
        client="192.0.2.1",
        method="GET",
        path=fields.get("path", "/"),
        status=200,
        bytes=10,
        duration_ms=0.25,
        reason=fields.get("reason", ""),
        detail=fields.get("detail", ""),
    )


class StalledReader(io.BytesIO):
    """A pipe that is not read: the first write waits until it is."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stalled = threading.Event()
        self.is_read = threading.Event()

    def write(self, data: Buffer, /) -> int:
        self.is_stalled.set()
        self.is_read.wait()
        return super().write(data)


class EndedReader(io.BytesIO):
    def write(self, data: Buffer, /) -> int:  # noqa: ARG002 - the reader has ended
        raise BrokenPipeError


def lines(stream: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_close_writes_every_record_in_order() -> None:
    stream = io.BytesIO()
    log = AccessLog(stream, Counters())
    for number in range(1000):
        log.write(record(number))
    log.close()
    assert [line["request_id"] for line in lines(stream)] == [f"run-{number}" for number in range(1000)]


def test_line_omits_empty_fields() -> None:
    stream = io.BytesIO()
    log = AccessLog(stream, Counters())
    log.write(record())
    log.close()
    assert lines(stream) == [
        {
            "time_s": 1.5,
            "request_id": "run-0",
            "client": "192.0.2.1",
            "method": "GET",
            "path": "/",
            "status": 200,
            "bytes": 10,
            "duration_ms": 0.25,
        }
    ]


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_any_text_is_one_line(path: str, detail: str) -> None:
    stream = io.BytesIO()
    log = AccessLog(stream, Counters())
    log.write(record(path=path, detail=detail))
    log.close()
    (line,) = stream.getvalue().split(b"\n")[:-1]
    assert not any(byte < 0x20 for byte in line)
    record_on_line = json.loads(line)
    assert (record_on_line["path"], record_on_line.get("detail", "")) == (path, detail)


def test_stalled_reader_does_not_block_writers() -> None:
    stream, counters = StalledReader(), Counters()
    log = AccessLog(stream, counters)
    log.write(record())
    stream.is_stalled.wait()
    for number in range(10_005):
        log.write(record(number))
    assert counters.snapshot() == {"access-record-dropped": 5}
    stream.is_read.set()
    log.close()
    assert len(lines(stream)) == 10_001


def test_stalled_reader_does_not_block_close() -> None:
    stream = StalledReader()
    log = AccessLog(stream, Counters())
    log.write(record())
    stream.is_stalled.wait()
    log.close(timeout_s=0.0)
    assert stream.getvalue() == b""
    stream.is_read.set()
    log.close()


def test_records_for_an_ended_reader_are_counted_as_dropped() -> None:
    counters = Counters()
    log = AccessLog(EndedReader(), counters)
    for number in range(3):
        log.write(record(number))
    log.close()
    assert counters.snapshot() == {"access-record-dropped": 3}


def test_records_for_a_closed_stream_are_counted_as_dropped() -> None:
    stream, counters = io.BytesIO(), Counters()
    stream.close()
    log = AccessLog(stream, counters)
    log.write(record())
    log.close()
    assert counters.snapshot() == {"access-record-dropped": 1}


def test_counts_of_two_threads_add_up() -> None:
    counters, start = Counters(), threading.Barrier(2)

    def count() -> None:
        start.wait()
        for _ in range(20_000):
            counters.count("event")

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.snapshot() == {"event": 40_000}


def test_snapshot_does_not_change() -> None:
    counters = Counters()
    counters.count("a", 2)
    snapshot = counters.snapshot()
    counters.count("a")
    assert (snapshot, counters.snapshot()) == ({"a": 2}, {"a": 3})


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 100)), max_size=80))
def test_gallery_bytes_keep_every_gallery_above_its_share(sent: list[tuple[str, int]]) -> None:
    galleries = GalleryBytes(max_galleries=3)
    exact: Counter[str] = Counter()
    for gallery, length_bytes in sent:
        galleries.add(f"{gallery}/a.jpg", length_bytes)
        exact[gallery] += length_bytes
        counted = galleries.largest(100)
        assert len(counted) <= 6
        assert all(exact[one] >= count for one, count in counted.items())
        assert list(counted.values()) == sorted(counted.values(), reverse=True)
    if exact:
        gallery, most = exact.most_common(1)[0]
        assert gallery in galleries.largest(100) or most * 3 <= exact.total()


def test_gallery_bytes_are_those_of_the_folder_of_successful_answers() -> None:
    traffic = TrafficStatistics()
    for key, reason in {"a/b/1.jpg": "", "a/b/2.jpg": "", "a/3.jpg": "no-such-original", "4.jpg": ""}.items():
        traffic.add(replaced(record(reason=reason), key=key), "hit")
    assert traffic.galleries.largest(9) == {"a/b": 20}


def test_error_code_is_counted_without_a_log() -> None:
    counters = Counters()
    telemetry = Telemetry(counters, None)
    telemetry.record(record(reason="queue-full"))
    telemetry.record(record())
    telemetry.close()
    assert counters.snapshot() == {"queue-full": 1}


def test_request_ids_are_unique_within_and_across_runs() -> None:
    runs = [Telemetry(Counters(), None) for _ in range(2)]
    ids = [run.next_request_id() for _ in range(100) for run in runs]
    assert len(set(ids)) == 200


def test_telemetry_writes_to_its_log() -> None:
    stream = io.BytesIO()
    telemetry = Telemetry(Counters(), AccessLog(stream, Counters()))
    telemetry.record(record(7))
    telemetry.close()
    assert [line["request_id"] for line in lines(stream)] == ["run-7"]


@pytest.mark.parametrize(
    ("settings", "writers"),
    [
        (Settings(access_log=False), 0),
        (Settings(access_log=True), 1),
        (Settings(access_log=False, admin_port=0), 1),  # its audit log
        (Settings(access_log=True, admin_port=0), 1),
    ],
)
def test_log_thread_runs_only_if_a_log_is_on(settings: Settings, writers: int) -> None:
    before = set(threading.enumerate())
    telemetry = server._open_telemetry(settings)
    started = [one.name for one in set(threading.enumerate()) - before]
    telemetry.close()
    assert started == ["access-log"] * writers
