"""The report as text and as a page: numbers for people, and nothing of a request that controls the output."""

from __future__ import annotations

import pytest

from galerly_cdn.insight import html, text, units
from tests.support.logs import access_line, report_on_lines


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (units.percent(1.0), "100.00 %"),
        (units.percent(0.99999), "99.99 %"),
        (units.percent(0.29), "29.00 %"),
        (units.percent(0.95, 0), "95 %"),
        (units.percent(None), "–"),
        (units.count(1_234_567), "1,234,567"),
        (units.count(None), "?"),
        (units.length(1), "1 byte"),
        (units.length(999), "999 bytes"),
        (units.length(1000), "1.0 kB"),
        (units.length(-2_500_000), "-2.5 MB"),
        (units.length(3 * 10**18), "3000.0 PB"),
        (units.duration(0.4), "0.4 ms"),
        (units.duration(1000.0), "1.00 s"),
    ],
)
def test_number_is_written_with_its_unit(shown: str, wanted: str) -> None:
    assert shown == wanted


HOSTILE = "coast/\x1b[2J<script>alert(1)</script>\u202e.jpg"


def test_key_cannot_control_a_terminal() -> None:
    slow = access_line(f"{HOSTILE}/1.jpg", "fwd=uri-miss; stored", render_ms=9000.0)
    shown = text.terminal_report(report_on_lines(access_line(HOSTILE), slow))
    assert "<script>" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_key_is_text_in_the_page() -> None:
    page = html.page(report_on_lines(access_line(HOSTILE)))
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_page_needs_no_other_file() -> None:
    page = html.page(report_on_lines(access_line()))
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not any(mark in page for mark in ("http://", "https://", " src=", "url(", "@import", "<link"))


def test_tables_name_what_is_left_out_and_what_is_malformed() -> None:
    lines = [access_line(f"gallery{number:02}/1.jpg") for number in range(text.ROWS + 2)]
    shown = text.terminal_report(report_on_lines(*lines, b"cut off"))
    assert "Malformed lines, not in these figures: 1 of 13." in shown
    assert "… and 2 more" in shown
    assert f"gallery{text.ROWS - 1:02}" in shown
    assert f"gallery{text.ROWS:02}" not in shown.partition("photograph")[0]
