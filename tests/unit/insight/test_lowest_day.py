"""The day with the lowest hit ratio: where its misses are, and what caused them."""

from __future__ import annotations

import pytest

from galerly_cdn.insight.lowest_day import causes, describe_day
from galerly_cdn.insight.report import Share
from tests.support.logs import (
    DAY_S,
    MONDAY_S,
    access_line,
    cloudfront_line,
    rendered,
    report_on_lines,
    swept,
)

HIT = access_line()


def replaced(number: int, gallery: str = "smith", **fields: object) -> list[bytes]:
    """Renders of replaced originals, one a minute, each of another client."""
    return [
        access_line(
            f"{gallery}/{minute}.jpg",
            "fwd=stale; stored",
            render_ms=9.0,
            **{"client": f"203.0.113.{minute}", "time_s": MONDAY_S + 3600 + 60 * minute, **fields},  # type: ignore[arg-type]  # fields of a record
        )
        for minute in range(number)
    ]


DAYS: dict[str, tuple[list[bytes], str]] = {
    "one gallery replaced": (
        [HIT] * 5 + [access_line("smith/1.jpg", "fwd=stale; stored", render_ms=9.0)] * 5,
        "Misses: 5, 5 of replaced originals or changed settings; most by gallery smith (5), size 800x600 ",
    ),
    "one client sweeps": (
        [rendered()] * 2 + [rendered(size=f"{side}x{side}", client="198.51.100.7") for side in range(3)],
        "client 198.51.100.7 (3)",
    ),
    "the second of two": (
        [HIT, HIT, access_line(time_s=MONDAY_S + DAY_S), rendered(time_s=MONDAY_S + DAY_S)],
        "2026-12-01, 50.00 %. Misses: 1; most by gallery coast (1)",
    ),
    "behind CloudFront": (
        [cloudfront_line(result="Miss"), rendered(tier="resizer")],
        "2026-11-30, 0.00 %. Misses: 1; most by gallery coast (1)",
    ),
}


@pytest.mark.parametrize(("lines", "sentence"), DAYS.values(), ids=DAYS)
def test_lowest_day_says_where_its_misses_are(lines: list[bytes], sentence: str) -> None:
    day = report_on_lines(*lines).lowest_day
    assert day is not None
    assert sentence in describe_day(day)


def test_days_without_a_miss_have_no_lowest() -> None:
    assert report_on_lines(HIT).lowest_day is None


SWEEP = (
    "60 misses are of the client 198.51.100.7, 00:00 – 00:00 UTC: 15 photographs in 2 sizes and 2 formats, "
    "0 hits, at most 60 misses a minute."
)
REPLACED = (
    "60 misses are renders of replaced originals or changed settings. The gallery smith has 60 of them, "
    "01:00 – 01:59 UTC: 60 photographs in 1 size and 1 format."
)
WARM = "`galerly-cdn warm --gallery smith` at once."
SETTING = "a changed setting or release in all. Warm what changed."

CAUSES: dict[str, tuple[list[bytes], list[tuple[str, str]]]] = {
    "a sweep and a replaced gallery": (
        [HIT, *swept(60), *replaced(60), rendered()],
        [(SWEEP, "block its address at the firewall."), (REPLACED, WARM), ("1 misses are others.", "")],
    ),
    "beside the days before": (
        [
            *[HIT, HIT, rendered()] * 9,
            *[HIT] * 99,
            *[access_line(time_s=MONDAY_S + DAY_S), rendered(time_s=MONDAY_S + DAY_S)] * 7,
            *swept(60, time_s=MONDAY_S + DAY_S),
        ],
        [(SWEEP, ""), ("7 misses are others.", "All misses of the other days: 9 to 9 a day.")],
    ),
    "the client that sweeps renders the replaced gallery": (
        [HIT, *swept(60, cache="fwd=stale; stored"), *replaced(60)],
        [(SWEEP, ""), ("120 misses are renders of replaced", SETTING), ("0 misses are others.", "")],
    ),
    "settings changed": (
        [HIT, *replaced(60), *replaced(40, "jones")],
        [("100 misses are renders", SETTING), ("0 misses are others.", "")],
    ),
    "one gallery alone": ([*replaced(60)], [(REPLACED, SETTING), ("0 misses are others.", "")]),
    "a gallery that a shell would split": (
        [HIT, *replaced(60, "a b;c")],
        [("60 misses", "warm --gallery 'a b;c'` at once."), ("0 misses are others.", "")],
    ),
    "behind CloudFront": (
        [
            *[cloudfront_line(result="Miss", c_ip="198.51.100.7")] * 60,
            cloudfront_line("/resize/800x600/smith/1.jpg"),
            *replaced(60, tier="resizer"),
        ],
        [
            ("60 misses are of the client 198.51.100.7, 00:00 – 00:00 UTC: 1 photographs", ""),
            (REPLACED, WARM),
        ],
    ),
    "an address with more hits": ([*[access_line(client="198.51.100.7")] * 61, *swept(60)], []),
    "few misses": ([HIT, *swept(49)], []),
    "less than a fifth": ([*swept(60), *[rendered(client=f"203.0.113.{n % 200}") for n in range(241)]], []),
    "a day that met the target": ([*[HIT] * 1200, *swept(60)], []),
}


@pytest.mark.parametrize(("lines", "wanted"), CAUSES.values(), ids=CAUSES)
def test_lowest_day_names_each_main_cause(lines: list[bytes], wanted: list[tuple[str, str]]) -> None:
    found = causes(report_on_lines(*lines))
    assert len(found) == len(wanted), found
    for line, (start, end) in zip(found, wanted, strict=True):
        assert line.startswith(start)
        assert line.endswith(end)


def test_misses_of_a_client_are_counted_with_their_times() -> None:
    elsewhere = access_line(client="198.51.100.7", time_s=MONDAY_S + 9000)
    day = report_on_lines(
        *swept(90), elsewhere, rendered(), access_line("", "", 403, "", client="")
    ).lowest_day
    assert day is not None
    assert day.client == Share(
        name="198.51.100.7",
        misses=90,
        outdated=0,
        hits=1,
        most_in_a_minute=60,
        photographs=23,
        sizes=2,
        formats=2,
        first="2026-11-30T00:00:00Z",
        last="2026-11-30T00:01:29Z",
    )


def test_logs_without_clients_have_no_client_of_the_lowest_day() -> None:
    day = report_on_lines(rendered(client="")).lowest_day
    assert day is not None
    assert (day.misses, day.client) == (1, None)
