"""Stored keys: every key has a name of its own without escapes, which tells the key unless it is too long."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.stored_keys import Shard, key_of, parse_shard, stored_key

SAFE = re.compile(r"[A-Za-z0-9._-]+")
SEGMENTS = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\")
    | st.sampled_from(" -~%.+_2Dé\N{COMBINING ACUTE ACCENT}\N{CAMERA}"),
    min_size=1,
    max_size=300,
).filter(lambda segment: segment[0] != ".")
KEYS = st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join).filter(lambda key: len(key.encode()) <= 900)
PLAIN = st.from_regex(
    re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}){0,3}"),
    fullmatch=True,
)


def digest(spelled: str) -> str:
    return f".--{hashlib.sha256(spelled.encode()).hexdigest()}"


ALL = "-C3-A9" * 42  # 252 bytes with the dot: the longest of these that stays
LONG = ".-C3-A9" + "-C3-A9" * 42
C825, C826 = f".a-20b/{'c' * 825}/{'e' * 68}", f".a-20b/{'c' * 826}/{'e' * 67}"
EXAMPLES = {
    "gallery123/photo456.jpg": "gallery123/photo456.jpg",
    "g/IMG_0001-2.jpg": "g/IMG_0001-2.jpg",
    "a..b": "a..b",
    "my photo.jpg": ".my-20photo.jpg",
    "my gallery/a.jpg": ".my-20gallery/a.jpg",
    "a-b c": ".a-2Db-20c",
    "a+b": ".a-2Bb",
    "100%": ".100-25",
    "a%20b": ".a-2520b",
    "~a": ".-7Ea",
    "café": ".caf-C3-A9",
    "cafe\N{COMBINING ACUTE ACCENT}": ".cafe-CC-81",
    "\N{CAMERA}/\N{CAMERA}.jpg": ".-F0-9F-93-B7/.-F0-9F-93-B7.jpg",
    "a'(b)!*.jpg": ".a-27-28b-29-21-2A.jpg",
    "é" * 42: f".{ALL}",
    "é" * 43: digest(LONG),
    "g/" + "é" * 43: f"g/{digest('g/' + LONG)}",
    "g/h/" + "é" * 43 + "/a": f"g/h/{digest('g/h/' + LONG + '/a')}",
    "a" * 900: "a" * 900,
    "a b/" + "a" * 892: ".a-20b/" + "a" * 892,
    "a b/" + "a" * 895: f".a-20b/{digest('.a-20b/' + 'a' * 895)}",
    "a b/" + "c" * 824 + "/d/" + "e" * 65: ".a-20b/" + "c" * 824 + "/d/" + "e" * 65,
    f"a b/{'c' * 825}/{'e' * 68}": f".a-20b/{'c' * 825}/{digest(C825)}",
    f"a b/{'c' * 826}/{'e' * 67}": f".a-20b/{digest(C826)}",
    "a" * 833 + "/b c/" + "d" * 61: digest("a" * 833 + "/.b-20c/" + "d" * 61),
}  # fmt: skip


@pytest.mark.parametrize(("key", "stored"), EXAMPLES.items(), ids=range(len(EXAMPLES)))
def test_stored_key_of_example_is_that_of_the_decision(key: str, stored: str) -> None:
    assert stored_key(key) == stored
    assert key_of(stored) == (None if ".--" in stored else key)


@given(KEYS)
def test_stored_key_of_any_key_needs_no_escape_and_tells_the_key(key: str) -> None:
    stored = stored_key(key)
    segments = stored.split("/")
    assert all(SAFE.fullmatch(one) and one not in {".", ".."} for one in segments)
    assert len(stored) <= 900
    assert all(len(one) <= 255 for one in segments if one.startswith("."))
    assert key_of(stored) == (None if segments[-1].startswith(".--") else key)


@given(KEYS, KEYS)
def test_stored_keys_of_two_keys_differ(key: str, other: str) -> None:
    assert (stored_key(key) == stored_key(other)) is (key == other)


@given(PLAIN.filter(lambda key: len(key) <= 900))
def test_stored_key_of_plain_key_is_the_key(key: str) -> None:
    assert stored_key(key) == key == key_of(key)


@given(KEYS, SEGMENTS)
def test_stored_key_begins_with_that_of_the_gallery_or_is_a_digest(gallery: str, name: str) -> None:
    stored = stored_key(f"{gallery}/{name}")
    assert stored.startswith(f"{stored_key(gallery)}/") or ".--" in stored


def test_digest_is_the_name_of_no_other_key() -> None:
    """A segment ` …` or `-…` is spelled with a `-` after its dot, and hexadecimal digits after that."""
    stored = stored_key("é" * 43)
    for first in (" ", "-", "~", "!"):
        others = (first + stored[3:], first + " " + stored[3:], first + first + stored[3:], stored[1:])
        assert stored not in {stored_key(other) for other in others}


@pytest.mark.parametrize(
    "name",
    [".", "..", ".a", ".hidden.jpg", "a/.", ".a-2", ".a-zz", ".a-2db", ".-FF", ".a%20b", "a b", ".a-41-20b",
     digest(""), f"g/{digest('')}", ".-ED-A0-80"],
)  # fmt: skip
def test_name_that_is_no_stored_key_has_no_key(name: str) -> None:
    assert key_of(name) is None


@given(st.text(), st.integers(1, 50))
def test_every_name_is_in_one_shard(name: str, shards: int) -> None:
    found = [number for number in range(1, shards + 1) if Shard(number, shards).has(name)]
    assert len(found) == 1


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_shard_is_parsed_if_there_is_one_of_this_number(shard: int, shards: int) -> None:
    text = f"{shard}/{shards}"
    if shard > shards:
        with pytest.raises(ValueError, match="shard such as"):
            parse_shard(text)
    else:
        assert parse_shard(text) == (shard, shards)
        assert str(parse_shard(text)) == text


@pytest.mark.parametrize(
    "text", ["", "1", "1/", "/2", "0/2", "1/0", "-1/2", "1/10001", "1/2/3", "a/b", " 1/2"]
)
def test_shard_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="shard such as"):
        parse_shard(text)
