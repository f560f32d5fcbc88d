"""Reading logs of every kind, and the figures of the report on them."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galerly_cdn.insight.database import UnreadableLog
from galerly_cdn.insight.figures import MIN_SWEEP
from galerly_cdn.insight.outcomes import Tier
from galerly_cdn.insight.report import Percentiles
from galerly_cdn.serialization import to_json
from galerly_cdn.telemetry import AuditRecord
from tests.support.logs import (
    DAY_S,
    MONDAY_S,
    access_line,
    cloudfront_line,
    nginx_line,
    report_on,
    report_on_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RENDERED = access_line(cache="fwd=uri-miss; stored", render_ms=400.0)
LINES = (
    access_line(),
    access_line(key="coast/2.jpg", cache="hit; detail=store", size="400x400"),
    RENDERED,
    access_line(key="forest/1.jpg", cache="", status=404, reason="no-such-original"),
)


def lines_of(*lines: bytes) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def test_report_on_one_machine_counts_each_outcome() -> None:
    report = report_on_lines(
        *LINES,
        access_line(cache="fwd=uri-miss; stored; collapsed"),
        access_line(cache="fwd=stale; stored", render_ms=800.0),
        access_line(cache="", status=499),
        access_line(size="", cache="", format="", path="/original/coast/1.jpg", bytes=9000),
    )
    assert report.tier is Tier.SERVER
    assert (report.requests, report.pictures, report.errors, report.left) == (8, 5, 1, 1)
    assert (report.cache_hits, report.store_hits, report.renders, report.shared_renders) == (1, 1, 2, 1)
    assert (report.hits, report.hit_ratio) == (2, 2 / 5)
    assert report.bytes == 7 * 1000 + 9000
    assert report.error_ratio == 1 / 8
    assert report.growth is not None
    assert (report.growth.renditions, report.growth.bytes) == (1, 1000)
    assert report.render_time == Percentiles(p50_ms=410.0, p95_ms=810.0, p99_ms=810.0)
    assert report.hit_time == Percentiles(p50_ms=1.0, p95_ms=1.0, p99_ms=1.0)
    by_gallery = {group.name: group for group in report.by_gallery}
    assert by_gallery.keys() == {"coast"}, "a gallery of which there is nothing but errors is not listed"
    assert (by_gallery["coast"].requests, by_gallery["coast"].renders, by_gallery["coast"].outdated) == (
        7,
        2,
        1,
    )
    assert [(one.name, one.pictures) for one in report.by_size] == [("800x600", 4), ("400x400", 1)]
    assert [one.key for one in report.top_photographs] == ["coast/1.jpg", "coast/2.jpg"]
    assert [(one.status, one.requests) for one in report.by_status] == [(404, 1)]
    assert [(one.reason, one.requests) for one in report.by_reason] == [("no-such-original", 1)]
    assert [(one.key, one.renders, one.max_ms) for one in report.slowest_originals] == [
        ("coast/1.jpg", 2, 810.0)
    ]


def test_report_on_cloudfront_alone_does_not_know_renders() -> None:
    report = report_on_lines(cloudfront_line(), cloudfront_line(result="Miss"))
    assert report.tier is Tier.CLOUDFRONT
    assert (report.pictures, report.hits, report.hit_ratio) == (2, 1, 0.5)
    assert (report.renders, report.store_hits, report.growth) == (None, None, None)
    assert [group.renders for group in report.by_gallery] == [None]
    assert [(one.name, one.requests) for one in report.by_format] == [("avif", 2)]
    assert report.hit_time == Percentiles(p50_ms=12.0, p95_ms=12.0, p99_ms=12.0)


def test_report_on_two_tiers_counts_requests_of_the_outermost_and_renders_of_the_inner() -> None:
    report = report_on_lines(
        cloudfront_line(),
        cloudfront_line(result="Miss"),
        cloudfront_line("/resize/400x400/coast/1.jpg", result="Miss"),
        cloudfront_line("/resize/1x1/coast/1.jpg", result="FunctionGeneratedResponse", status=403),
        access_line(tier="resizer", cache="fwd=uri-miss; stored", render_ms=300.0),
    )
    assert (report.lines.counted, report.lines.inner) == (4, 1)
    assert (report.requests, report.pictures, report.hits, report.errors) == (4, 3, 1, 1)
    assert (report.renders, report.store_hits) == (1, 1)
    assert [(one.name, one.requests, one.renders) for one in report.by_gallery] == [("coast", 4, 1)]
    assert [(one.size, one.requests) for one in report.refused_sizes] == [("1x1", 1)]


def test_report_on_nginx_counts_its_hits_and_the_renders_of_the_nodes() -> None:
    lines = (
        nginx_line(),
        nginx_line("/resize/thumbnail/coast/2%20b.jpg", content_type="image/jpeg"),
        nginx_line(result="MISS"),
        nginx_line("/resize/400x400/coast/1.jpg", result="MISS"),
        nginx_line("/resize/1x1/coast/1.jpg", result="", status=403, content_type="application/json"),
    )
    report = report_on_lines(*lines, RENDERED, access_line(cache="hit; detail=store"))
    assert report.tier is Tier.NGINX
    assert (report.lines.counted, report.lines.inner, report.lines.malformed) == (5, 2, 0)
    assert (report.requests, report.pictures, report.hits, report.errors) == (5, 4, 2, 1)
    assert (report.renders, report.store_hits, report.bytes) == (1, 1, 6000)
    assert {(one.name, one.requests) for one in report.by_format} == {("avif", 3), ("own", 1)}
    assert {one.key for one in report.top_photographs} == {"coast/1.jpg", "coast/2 b.jpg"}
    assert report.hit_time == Percentiles(p50_ms=12.0, p95_ms=12.0, p99_ms=12.0)
    assert [(one.size, one.requests) for one in report.refused_sizes] == [("1x1", 1)]
    alone = report_on_lines(*lines)
    assert (alone.renders, alone.store_hits) == (None, None)
    assert any("the nodes' logs" in one.advice for one in alone.targets)
    behind = report_on_lines(cloudfront_line(), *lines)
    assert (behind.tier, behind.requests, behind.lines.inner) == (Tier.CLOUDFRONT, 1, 5)


def test_cloudfront_path_is_decoded_and_a_size_s_name_is_its_box() -> None:
    report = report_on_lines(
        cloudfront_line("/resize/thumbnail.webp/caf%C3%A9/my%20photo.jpg", sc_content_type="image/webp"),
        cloudfront_line("/resize/thumbnail/caf%C3%A9/my%20photo.jpg", sc_content_type="image/jpeg"),
    )
    assert [one.key for one in report.top_photographs] == ["café/my photo.jpg"]
    assert [one.name for one in report.by_size] == ["800x600"]
    assert {one.name for one in report.by_format} == {"webp", "own"}


def test_report_on_every_kind_of_file_is_the_same(tmp_path: Path) -> None:
    content = lines_of(*LINES)
    wanted = report_on_lines(*LINES)
    for name, file in {
        "plain": content,
        "without an end of line": content[:-1],
        "gzip": gzip.compress(content),
        "gzip of two parts": gzip.compress(content[:100]) + gzip.compress(content[100:]),
    }.items():
        path = tmp_path / name / "access.log.1"
        path.parent.mkdir()
        path.write_bytes(file)
        assert report_on(path) == wanted, name


def test_rotated_set_in_a_folder_is_read_whole(tmp_path: Path) -> None:
    for name, file in {
        "access.log": LINES[0] + b"\n",
        "access.log.1": LINES[1] + b"\n",
        "access.log.2.gz": gzip.compress(LINES[2] + b"\n"),
        "2026/access.log.3.gz": gzip.compress(LINES[3] + b"\n"),
        "access.log.4": b"",
        ".access.log.swp": LINES[0],
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(file)
    assert report_on(tmp_path) == report_on_lines(*LINES)


def test_file_name_is_no_pattern(tmp_path: Path) -> None:
    for name in ("access[12].log", "access1.log", "access*.log", "it's ?.log"):
        (tmp_path / name).write_bytes(lines_of(*LINES))
    assert report_on(tmp_path / "access[12].log").requests == len(LINES)
    assert report_on(tmp_path / "access*.log").requests == len(LINES)
    assert report_on(tmp_path).requests == 4 * len(LINES)


@pytest.mark.parametrize("fields", ["all", "few"])
def test_parquet_of_cloudfront_is_read_as_its_json(tmp_path: Path, fields: str) -> None:
    lines = [
        json.loads(line)
        for line in (cloudfront_line(), cloudfront_line(result="Miss"), cloudfront_line(status=404))
    ]
    if fields == "few":  # the fields of a delivery are of the operator's choice
        for line in lines:
            del line["sc-content-type"], line["x-edge-response-result-type"], line["c-ip"]
    (tmp_path / "json").write_bytes(lines_of(*map(to_json, lines)))
    columns = ", ".join(f'"{name}" AS {name.replace("-", "_")}' for name in lines[0])
    duckdb.sql(
        f"COPY (SELECT {columns} FROM read_json('{tmp_path}/json')) TO '{tmp_path}/parquet' (FORMAT parquet)"
    )
    assert (tmp_path / "parquet").read_bytes()[:4] == b"PAR1"
    report = report_on(tmp_path / "parquet")
    assert report == report_on(tmp_path / "json")
    assert report.requests == 3


@pytest.mark.parametrize("damaged", [gzip.compress(lines_of(*LINES * 100))[:-20], b"PAR1 and no more"])
def test_damaged_archive_is_an_error_not_a_shorter_log(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "access.log").write_bytes(damaged)
    with pytest.raises(UnreadableLog) as raised:
        report_on(tmp_path / "access.log")
    assert f"{tmp_path}/access.log" in raised.value.detail


AUDIT = to_json(AuditRecord(1.0, "r-1", "127.0.0.1", "loopback", "PUT /originals/{key}", "created", 201, 3.0))
PREWARM = b'{"key":"coast/1.jpg","made":11,"was_there":1}'
NO_REQUESTS = (
    AUDIT,
    PREWARM,
    b'{"_aws":{"Timestamp":1},"RenderTime":3}',
    b'{"key":"a/b","deleted":1,"invalidated":true}',
    b'{"time":"2026-11-30T00:00:00Z","type":"platform.report","record":{}}',
)


def test_lines_that_are_no_requests_are_counted_apart() -> None:
    report = report_on_lines(*LINES, *NO_REQUESTS)
    assert (report.lines.other, report.lines.malformed, report.requests) == (5, 0, 4)
    assert report.growth is not None
    assert (report.growth.renditions, report.growth.prewarmed) == (12, 11)


START = (
    b"galerly-cdn serves http://127.0.0.1:8000/",
    b"galerly-cdn is administered at https://[::1]:8001/",
)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_start_lines_of_a_redirected_output_are_not_malformed(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    cut_off, text = RENDERED[:40], b"galerly-cdn serves nobody"
    day = lines_of(*START, *LINES, *START, cut_off, text)
    for name in ("access.log", "access.log.1"):
        (tmp_path / name).write_bytes(compress(day))
    report = report_on(tmp_path)
    assert (report.requests, report.lines.other, report.lines.malformed) == (8, 8, 4)


@given(
    st.lists(
        st.sampled_from(LINES)
        | st.tuples(st.sampled_from(LINES), st.integers(1, 60)).map(lambda cut: cut[0][: cut[1]])
        | st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=40
        )
        .map(str.encode)
        .filter(lambda line: bool(line.strip())),
        max_size=12,
    )
)
@settings(max_examples=20, deadline=None)
def test_malformed_lines_are_counted_exactly(lines: list[bytes]) -> None:
    report = report_on_lines(*lines)
    whole = sum(line in LINES for line in lines)
    assert (report.requests, report.lines.malformed) == (whole, len(lines) - whole)


def test_since_leaves_out_older_requests() -> None:
    lines = [access_line(time_s=MONDAY_S + day * DAY_S) for day in range(3)]
    report = report_on_lines(*lines, since_s=MONDAY_S + DAY_S)
    assert (report.requests, report.lines.left_out, report.lines.read) == (2, 1, 3)
    assert [day.name for day in report.by_day] == ["2026-12-01", "2026-12-02"]
    assert (report.first, report.last, report.days) == ("2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z", 1.0)


@pytest.mark.parametrize(("gallery", "requests"), [("coast", 2), ("coast/day 1", 1), ("coas", 0)])
def test_gallery_selects_by_whole_segments(gallery: str, requests: int) -> None:
    lines = [access_line(key=key) for key in ("coast/1.jpg", "coast/day 1/1.jpg", "coaster/1.jpg", "1.jpg")]
    assert report_on_lines(*lines, gallery=gallery).requests == requests


def test_saved_bytes_are_those_of_originals_that_are_known() -> None:
    report = report_on_lines(*LINES, originals=[("coast/1.jpg", 5_000_000), ("other/1.jpg", 1)])
    assert report.saved_bytes == 2 * (5_000_000 - 1000)
    assert report_on_lines(*LINES).saved_bytes is None


def test_sweeps_of_keys_and_sizes_name_the_client() -> None:
    missing = [
        access_line(key=f"none/{number}.jpg", cache="", status=404, client="198.51.100.7")
        for number in range(MIN_SWEEP)
    ]
    refused = [
        access_line(
            key="",
            size="",
            format="",
            cache="",
            status=403,
            reason="size-not-allowed",
            client="198.51.100.8",
            path=f"/resize/{number}x1/coast/1.jpg",
        )
        for number in range(MIN_SWEEP)
    ]
    report = report_on_lines(*LINES, *missing, *refused, *refused)
    assert [(one.client, one.kind, one.different, one.requests) for one in report.sweeps] == [
        ("198.51.100.7", "keys", MIN_SWEEP, MIN_SWEEP),
        ("198.51.100.8", "sizes", MIN_SWEEP, 2 * MIN_SWEEP),
    ]
    assert report.refused_sizes[0].requests == 2
    assert report_on_lines(*missing[1:], *refused[1:]).sweeps == ()


def test_report_on_nothing_has_no_ratios() -> None:
    report = report_on_lines()
    assert (report.tier, report.requests, report.hit_ratio, report.error_ratio) == (None, 0, None, None)
    assert (report.first, report.by_day, report.hit_time) == ("", (), None)
    assert {target.is_met for target in report.targets} == {None}
