"""Tests of the grammar of `expire`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.settings.expire import ExpireRule, parse_expire, rule_for


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("clients 90", ExpireRule("clients", 90)),
        ("  clients/*   90  ", ExpireRule("clients/*", 90)),
        ("** 365 originals", ExpireRule("**", 365, with_originals=True)),
        ("My wedding 2024 30", ExpireRule("My wedding 2024", 30)),
        ("originals 7 originals", ExpireRule("originals", 7, with_originals=True)),
        ("a 36500", ExpireRule("a", 36_500)),
    ],
)
def test_line_is_parsed(line: str, rule: ExpireRule) -> None:
    assert parse_expire([line]) == (rule,)


@pytest.mark.parametrize(
    "line",
    [
        *("", "clients", "90", "clients 0", "clients 36501", "clients -1", "clients 1.5", "clients 90d"),
        *("clients 90 original", "clients 90 ORIGINALS", "/clients 90", "clients/ 90", "a//b 90"),
        *(".hidden 90", "a/../b 90", ". 90", "clients 90 originals now"),
    ],
)
def test_line_that_is_no_rule_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"expected|gallery"):
        parse_expire([line])


def test_pattern_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"listed twice: a/\*"):
        parse_expire(["a/* 1", "b 1", "a/* 2 originals"])


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("clients", ["clients"], ["clients/a", "client", "Clients", "a/clients", ""]),
        ("clients/*", ["clients/a", "clients/a b"], ["clients", "clients/a/b"]),
        ("clients/**", ["clients/a", "clients/a/b"], ["clients"]),
        ("*", ["a", "clients"], ["a/b"]),
        ("**", ["", "a", "a/b"], []),
        ("*/2024-*", ["a/2024-05"], ["a/2025-05", "2024-05", "a/b/2024-05"]),
        ("a+b (c)", ["a+b (c)"], ["aab c", "a+b c"]),
    ],
)
def test_pattern_matches_galleries(pattern: str, matched: list[str], others: list[str]) -> None:
    rule = ExpireRule(pattern, 1)
    assert [one for one in [*matched, *others] if rule.matches(one)] == matched


def test_first_rule_that_matches_counts() -> None:
    rules = parse_expire(["clients/smith 1000", "clients/* 30"])
    assert rule_for(rules, "clients/smith") == rules[0]
    assert rule_for(rules, "clients/jones") == rules[1]
    assert rule_for(rules, "others") is None


SEGMENTS = st.text(st.characters(exclude_characters="/*", exclude_categories=["C", "Z"]), min_size=1).filter(
    lambda text: not text.startswith(".")
)


@given(st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join), st.integers(1, 36_500), st.booleans())
def test_line_of_a_gallery_matches_that_gallery(gallery: str, days: int, with_originals: bool) -> None:  # noqa: FBT001 - drawn
    (rule,) = parse_expire([f"{gallery} {days}{' originals' if with_originals else ''}"])
    assert rule == ExpireRule(gallery, days, with_originals)
    assert rule.matches(gallery)
    assert not rule.has_expired(0.0, days * 86_400 - 1)
    assert rule.has_expired(0.0, days * 86_400)
