"""`Accept` chooses one of three: AVIF, WebP, or the original's own format."""

from __future__ import annotations

import sys
import time
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.model import Format

AVIF, WEBP = Format.AVIF, Format.WEBP
BOTH = (AVIF, WEBP)
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # RFC 9110 §5.6.2

BROWSERS = {
    "chrome": (b"image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", AVIF),
    "firefox": (b"image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", AVIF),
    "firefox 65": (b"image/webp,*/*", WEBP),
    "safari": (b"image/webp,image/avif,video/*;q=0.8,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", AVIF),
    "safari 13": (b"image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", None),
    "a page opened": (b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", AVIF),
    "curl": (b"*/*", None),
    "nothing sent": (b"", None),
}


@pytest.mark.parametrize(("accept", "chosen"), BROWSERS.values(), ids=BROWSERS)
def test_accept_of_browsers_chooses_their_best_format(accept: bytes, chosen: Format | None) -> None:
    assert negotiate(accept, BOTH) is chosen


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (b"image/*", None),
        (b"image/avif;q=0", None),
        (b"image/avif;q=0.000", None),
        (b"image/avif;q=0,image/webp", WEBP),
        (b"image/avif;q=0.001", AVIF),
        (b"image/avif;q=0.1,image/webp;q=0.9", AVIF),
        (b"image/avif;q=1", AVIF),
        (b"image/avif;q=1.", AVIF),
        (b"image/avif;q=1.000", AVIF),
        (b"image/avif;q=0.", None),
        (b"image/avif;Q=0", None),
        (b"IMAGE/AVIF", AVIF),
        (b"Image/WebP", WEBP),
        (b" \timage/avif\t ", AVIF),
        (b"image/avif \t; \tq=0.5", AVIF),
        (b"image/avif;", AVIF),
        (b"image/avif;;q=0", None),
        (b",image/avif", AVIF),
        (b",, ,image/avif, ,", AVIF),
        (b"image/avif;profile=x;q=0", None),
        (b"image/avif;q=0;profile=x", None),
        (b"image/avif,image/avif;q=0", None),
        (b"image/avif;q=0,image/avif", None),
        (b"image/avif-sequence", None),
        (b"image/avifx,ximage/avif", None),
        (b"text/image/avif", None),
        (b"*/avif", None),
        (b"image/avif," + b" " * 1013, AVIF),
        (b"image/avif" + b"," * 31, AVIF),
        (b"a/b," * 31 + b"image/avif", AVIF),
    ],
)
def test_format_is_accepted_if_named_with_a_weight_above_zero(accept: bytes, chosen: Format | None) -> None:
    assert negotiate(accept, BOTH) is chosen


@pytest.mark.parametrize(
    "accept",
    [
        b"image/avif;q=",
        b"image/avif;q=x",
        b"image/avif;q=-1",
        b"image/avif;q=+1",
        b"image/avif;q=2",
        b"image/avif;q=1.001",
        b"image/avif;q=0.0001",
        b"image/avif;q=.5",
        b"image/avif;q=0,5",
        b"image/avif;q = 0",
        b"image/avif;q= 0",
        b"image/avif;q",
        b"image/avif;=1",
        b"image/avif;q=1e0",
        b"image/avif;q=nan",
        b"image/avif;q=\xd9\xa1",
        b"image/avif,/",
        b"image/avif,a/",
        b"image/avif,/b",
        b"image/avif,a/b/c",
        b"image/avif,a b/c",
        b"image/avif,webp",
        b"image/avif image/webp",
        b"image/avif\x00",
        b"image/avif\r\nx: y",
        b"image/avif\x0b",
        b"image/avif,\xff/\xff",
        b'image/avif;x="a,b"',
        b'text/plain;x=",image/avif,a/b;"',
        b"image/avif" + b",a/b" * 2000,
        b"image/avif," + b" " * 1014,
        b"image/avif" + b"," * 32,
        b"a/b," * 32 + b"image/avif",
    ],
    ids=lambda accept: repr(accept[:40]),
)
def test_malformed_accept_accepts_neither_format(accept: bytes) -> None:
    assert negotiate(accept, BOTH) is None


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(BOTH, AVIF), ((WEBP,), WEBP), ((AVIF,), AVIF), ((), None), ((Format.JPEG,), None)],
)
def test_only_offered_formats_are_chosen(offered: tuple[Format, ...], chosen: Format | None) -> None:
    assert negotiate(b"image/webp,image/avif", offered) is chosen


def oracle(accept: bytes) -> frozenset[str]:
    """The accepted formats, by a slow implementation that shares no code with the tested one."""
    accepted: dict[str, bool] = {}
    for element in accept.split(b","):
        parts = [part.strip(b" \t") for part in element.split(b";")]
        if parts == [b""]:
            continue
        kind, *subtypes = parts[0].split(b"/")
        if len(subtypes) != 1 or not _is_token(kind) or not _is_token(subtypes[0]):
            return frozenset()
        weights = []
        for part in filter(None, parts[1:]):
            parameter, equals, value = part.partition(b"=")
            if not equals or not _is_token(parameter) or not _is_token(value):
                return frozenset()
            if parameter in {b"q", b"Q"}:
                weights.append(value.decode("latin-1"))
        thousandths = [WEIGHTS.get(weight) for weight in weights]
        if None in thousandths:
            return frozenset()
        name = parts[0].decode("ascii").lower()
        accepted[name] = accepted.get(name, True) and 0 not in thousandths
    return frozenset(name for name, is_accepted in accepted.items() if is_accepted)


def _is_token(part: bytes) -> bool:
    return part != b"" and all(one in TOKEN for one in part)


WEIGHTS = {
    f"{value / 1000:.3f}"[:length]: value
    for value in range(1001)
    for length in range(1, 6)
    if value % 10 ** (5 - max(length, 2)) == 0
}
"""Every spelling of a weight (RFC 9110 §12.4.2) in thousandths: 0, 0., 0.5, 0.50, 0.500, …, 1.000."""

pieces = st.sampled_from(
    [b"image/avif", b"image/webp", b"image/*", b"*/*", b"IMAGE/AVIF", b"text/html", b"a/b/c", b"x", b"",
     b",", b",", b";", b";", b" ", b"\t", b"q=", b"Q=", b"q=0", b"q=1", b"q=0.5", b"q=0.000", b"q=1.001",
     b"=", b"v=b3", b'"', b"\x00", b"\xe9", b"/"]
)  # fmt: skip


@given(st.lists(pieces, max_size=12).map(b"".join))
def test_any_accept_gives_the_result_of_the_oracle(accept: bytes) -> None:
    accepted = oracle(accept)
    for count in range(3):
        for offered in combinations(BOTH, count):
            expected = next((one for one in offered if one.media_type in accepted), None)
            assert negotiate(accept, offered) is expected


@given(st.binary(max_size=200))
def test_any_accept_chooses_one_of_the_three(accept: bytes) -> None:
    assert negotiate(accept, BOTH) in {AVIF, WEBP, None}


@pytest.mark.parametrize(
    "unit", [b",", b";", b" ", b"a/b,", b"a/b;", b"; ;", b"q=", b"image/avif;q=0.", b"a/"]
)
def test_hostile_accept_takes_less_than_ten_milliseconds(unit: bytes) -> None:
    """CPU time, the best of five; each header is another, so that none is cached."""
    spent_s = []
    for number in range(5):
        accept = b"a/b%d," % number + unit * (65_000 // len(unit))
        shorter = accept[:1024]
        started_s = time.process_time()
        negotiate(accept, BOTH)
        negotiate(shorter, BOTH)
        spent_s.append(time.process_time() - started_s)
    limit_s = 0.010 if sys.gettrace() is None else 0.100  # coverage traces every line
    assert min(spent_s) < limit_s
