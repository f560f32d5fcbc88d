"""Lines of logs as each tier writes them, and the report on them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.http.urls import AllowList
from galerly_cdn.insight import figures, log_files
from galerly_cdn.insight.database import LogDatabase, Selection
from galerly_cdn.serialization import to_json
from galerly_cdn.settings.table import Settings
from galerly_cdn.telemetry import AccessRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from galerly_cdn.insight.report import Report

MONDAY_S = 1_795_996_800.0
"""2026-11-30 at midnight, UTC."""
DAY_S = 86_400.0
LONG_KEY = (
    'portraits/a gallery with a very long name & <b>markup</b>, "quoted"/IMG_0001_without_a_break_at_all.jpg'
)
SEGMENTS = AllowList(Settings().size_rules).segments()


def access_line(
    key: str = "coast/1.jpg",
    cache: str = "hit",
    status: int = 200,
    size: str = "800x600",
    *,
    time_s: float = MONDAY_S,
    tier: str = "server",
    render_ms: float | None = None,
    **fields: object,
) -> bytes:
    """A line of the access log of `serve`, or of the resizer."""
    values: dict[str, object] = {
        "time_s": time_s,
        "request_id": "3f2a91c0-1f",
        "client": "203.0.113.1",
        "method": "GET",
        "path": f"/{'resized' if tier == 'resizer' else 'resize'}/{size}/{key}",
        "status": status,
        "bytes": 1000,
        "duration_ms": 1.0 if render_ms is None else render_ms + 10,
        "key": key,
        "size": size,
        "format": "own",
        "cache": cache,
        "stages_ms": None if render_ms is None else {"open": 1.0, "render": render_ms, "store": 2.0},
    }
    return to_json(AccessRecord(**{**values, **fields}))  # type: ignore[arg-type]  # the caller names fields


def rendered(render_ms: float = 100.0, **fields: object) -> bytes:
    """A line of a picture that was rendered and stored."""
    return access_line(cache="fwd=uri-miss; stored", render_ms=render_ms, **fields)  # type: ignore[arg-type]  # the caller names fields


def swept(number: int, *, time_s: float = MONDAY_S, cache: str = "fwd=uri-miss; stored") -> list[bytes]:
    """Renders of one client, one a second, of two sizes and two formats."""
    return [
        access_line(
            f"coast/{second // 4}.jpg",
            cache,
            size=("400x400", "800x600")[second % 2],
            format=("own", "webp")[second // 2 % 2],
            client="198.51.100.7",
            render_ms=9.0,
            time_s=time_s + second,
        )
        for second in range(number)
    ]


def cloudfront_line(
    path: str = "/resize/800x600/coast/1.jpg", result: str = "Hit", status: int = 200, **fields: str
) -> bytes:
    """A line of CloudFront's standard log in JSON; `_` in the names of fields stands for `-`."""
    values = {
        "date": "2026-11-30",
        "time": "00:00:00",
        "x-edge-location": "FRA56-P1",
        "c-ip": "203.0.113.1",
        "cs-method": "GET",
        "cs-uri-stem": path,
        "sc-status": f"{status:03}",
        "sc-bytes": "1500",
        "sc-content-type": "image/avif",
        "time-to-first-byte": "0.012",
        "x-edge-result-type": result,
        "x-edge-response-result-type": result,
    }
    return to_json({**values, **{name.replace("_", "-"): value for name, value in fields.items()}})


def nginx_line(
    path: str = "/resize/800x600/coast/1.jpg", result: str = "HIT", status: int = 200, **fields: object
) -> bytes:
    """A line of a front's access log."""
    values = {
        "time_s": MONDAY_S,
        "request_id": "0123456789abcdef0123456789abcdef",
        "client": "203.0.113.1",
        "method": "GET",
        "path": path,
        "status": status,
        "bytes": 1200,
        "request_time_s": 0.012,
        "content_type": "image/avif",
        "nginx_cache": result,
        "node": "10.0.0.1:8000",
    }
    return to_json({**values, **fields})


def month() -> Iterator[bytes]:
    """A month with hits, renders, refused sizes and a sweep, which misses targets."""
    for day in range(31):
        time_s = MONDAY_S + day * DAY_S
        for number in range(20 - day % 5):
            key = LONG_KEY if number % 3 else f"coast/{number}.jpg"
            yield access_line(key, time_s=time_s, size=("150x150", "800x600", "2000x2000")[number % 3])
        yield access_line(cache="fwd=uri-miss; stored", render_ms=3000.0 + day, time_s=time_s)
        yield access_line(
            "",
            "",
            403,
            "",
            path=f"/resize/{day}x{day}/{LONG_KEY}",
            format="",
            reason="size-not-allowed",
            time_s=time_s,
        )
    for number in range(60):
        yield access_line(f"none/{number}.jpg", "", 404, reason="no-such-original", time_s=MONDAY_S)
    yield b"galerly-cdn serves http://127.0.0.1:8000/"


def report_on(*paths: Path, originals: Iterable[tuple[str, int]] = (), **selected: object) -> Report:
    """The report on log files; `selected` are the fields of a `Selection`."""
    lengths = list(originals)
    with (
        tempfile.TemporaryDirectory() as scratch,
        LogDatabase(Path(scratch), SEGMENTS) as database,
    ):
        tier = database.load(log_files.find(paths), Selection(**selected))  # type: ignore[arg-type]  # the caller names fields
        database.insert_originals(lengths)
        return figures.read_report(database, tier, with_originals=bool(lengths))


def report_on_lines(*lines: bytes, **options: object) -> Report:
    """The report on lines."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "access.log"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return report_on(path, **options)  # type: ignore[arg-type]  # the caller names fields
