"""The four targets: met, missed or not known, each with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from galerly_cdn.insight.targets import judge
from galerly_cdn.serialization import replaced
from tests.support.logs import DAY_S, MONDAY_S, access_line, cloudfront_line, rendered, report_on_lines, swept

if TYPE_CHECKING:
    from galerly_cdn.insight.report import Target

HIT = access_line()
ERROR = access_line(cache="", status=503, reason="queue-full")


def new_renditions(*by_day: int) -> list[bytes]:
    """So many renders on each day."""
    return [
        rendered(time_s=MONDAY_S + day * DAY_S) for day, number in enumerate(by_day) for _ in range(number)
    ]


CASES: dict[str, tuple[str, list[bytes], bool | None, str]] = {
    "hit ratio above 95 %": ("hit-ratio", [HIT] * 96 + [rendered()] * 4, True, "96.00 %"),
    "hit ratio of 95 %": ("hit-ratio", [HIT] * 95 + [rendered()] * 5, False, "95.00 %"),
    "store hits on one machine": ("hit-ratio", [access_line(cache="hit; detail=store")], True, "100.00 %"),
    "store hits behind CloudFront": ("hit-ratio", [cloudfront_line(result="Miss")], False, "0.00 %"),
    "no picture": ("hit-ratio", [ERROR], None, ""),
    "renders under 2 s": ("render-time", [rendered(1989.0)], True, "2.00 s"),
    "a render of 2 s": ("render-time", [rendered(1990.0)], False, "2.00 s"),
    "one slow render of twenty": ("render-time", [rendered(9.0)] * 19 + [rendered(9000.0)], True, "19.0 ms"),
    "no render": ("render-time", [HIT], None, ""),
    "renders unknown": ("render-time", [cloudfront_line()], None, ""),
    "one error of 1001": ("errors", [HIT] * 1000 + [ERROR], True, "0.099 %"),
    "one error of 1000": ("errors", [HIT] * 999 + [ERROR], False, "0.100 %"),
    "steady growth": ("growth", new_renditions(80, 80, 120), True, "120, 80 a day before"),
    "more than twice": ("growth", new_renditions(80, 80, 161), False, "161, 80 a day before"),
    "much more than hardly any": ("growth", new_renditions(1, 100), True, "100, 1 a day before"),
    "growth of one day": ("growth", new_renditions(80), None, ""),
    "growth unknown": ("growth", [cloudfront_line()], None, ""),
}


def target_of(name: str, lines: list[bytes]) -> Target:
    return next(target for target in report_on_lines(*lines).targets if target.name == name)


@pytest.mark.parametrize(("name", "lines", "is_met", "value"), CASES.values(), ids=CASES)
def test_target_is_met_missed_or_unknown(
    name: str,
    lines: list[bytes],
    is_met: bool | None,  # noqa: FBT001 - a column of the table
    value: str,
) -> None:
    target = target_of(name, lines)
    assert (target.is_met, target.value) == (is_met, value)
    assert target.is_met or target.advice


ADVICE: dict[str, tuple[str, list[bytes], str]] = {
    "one gallery replaced": (
        "hit-ratio",
        [HIT] + [access_line("smith/1.jpg", "fwd=stale; stored", render_ms=9.0)] * 5,
        "Most renders replace renditions",
    ),
    "new pictures": (
        "hit-ratio",
        [HIT, rendered()],
        "Most renders are of pictures that nobody had requested",
    ),
    "the store has it already": (
        "hit-ratio",
        [cloudfront_line(result="Miss")] * 9 + [rendered(tier="resizer")],
        "Most misses are in the store already",
    ),
    "a client sweeps": (
        "hit-ratio",
        [HIT, *swept(50), rendered()],
        "Most renders are of one client, 198.51.100.7",
    ),
    "several causes": (
        "hit-ratio",
        [HIT, *swept(50), *[rendered(client=f"203.0.113.{number}") for number in range(60)]],
        "Several causes have the renders: see the lowest day.",
    ),
    "CloudFront alone": ("render-time", [cloudfront_line()], "add the lines of the resizer's log"),
    "slow original": ("render-time", [rendered(9000.0)], "The slowest originals: coast/1.jpg."),
    "own errors": ("errors", [ERROR], "1 × 503. Most are the CDN's own"),
    "a sweep": (
        "errors",
        [access_line(f"none/{number}", "", 404) for number in range(50)],
        "Most are of one client: unless it is yours, block its address. 203.0.113.1 alone tried 50 keys.",
    ),
    "a sweep among other errors": (
        "errors",
        [access_line(f"none/{number}", "", 404) for number in range(50)]
        + [access_line(cache="", status=404, client=f"203.0.113.{number}") for number in range(2, 62)],
        "look at the pages that link there. 203.0.113.1 alone tried 50 keys.",
    ),
    "a gallery grows": ("growth", new_renditions(1, 300), "Most are in the gallery coast (301)."),
    "a sweep grows the store": (
        "growth",
        [HIT, *new_renditions(1), *swept(150, time_s=MONDAY_S + DAY_S)],
        "On the last day 198.51.100.7 alone had 150 misses.",
    ),
}


def test_advice_without_names_of_originals_is_of_renders_alone() -> None:
    report = replaced(report_on_lines(rendered(9000.0)), slowest_originals=())
    (target,) = (one for one in judge(report) if one.name == "render-time")
    assert target.advice.startswith("Large or progressive originals take longest;")


@pytest.mark.parametrize(("name", "lines", "advice"), ADVICE.values(), ids=ADVICE)
def test_advice_names_the_cause(name: str, lines: list[bytes], advice: str) -> None:
    assert advice in target_of(name, lines).advice
