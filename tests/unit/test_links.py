"""Tests links: addresses that the server can parse, widths that it will answer, and safe HTML."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.access.signing import Signer, new_pair
from galerly_cdn.errors import FormatNotAllowed, MalformedKey, SizeNotAllowed
from galerly_cdn.http.urls import AllowList, PictureRequest, parse
from galerly_cdn.links import Links
from galerly_cdn.model import Format
from galerly_cdn.settings.table import Settings
from tests.unit.http.test_urls import keys

LINKS = Links("https://cdn.example.com")
KEY = "wedding/first dance.jpg"
ALLOWED = AllowList(Settings().size_rules)


@pytest.mark.parametrize(
    ("size", "form", "path"),
    [
        ("thumbnail", None, "/resize/800x600/wedding/first%20dance.jpg"),
        ("800x600", None, "/resize/800x600/wedding/first%20dance.jpg"),
        ("tiny", Format.AVIF, "/resize/150x150.avif/wedding/first%20dance.jpg"),
        ("medium", Format.PNG, "/resize/2000x2000.png/wedding/first%20dance.jpg"),
    ],
)
def test_src_is_the_canonical_address(size: str, form: Format | None, path: str) -> None:
    assert LINKS.src(KEY, size, form) == "https://cdn.example.com" + path


@pytest.mark.parametrize(
    ("base_url", "start"),
    [
        ("", "/resize/"),
        ("https://x.test/", "https://x.test/resize/"),
        ("https://x.test/cdn", "https://x.test/cdn/resize/"),
    ],
)
def test_address_starts_with_the_base_url(base_url: str, start: str) -> None:
    assert Links(base_url).src("a", "tiny").startswith(start)


@pytest.mark.parametrize(
    ("key", "size", "form", "error"),
    [
        ("a", "huge", None, SizeNotAllowed),
        ("a", "800x601", None, SizeNotAllowed),
        ("../a", "tiny", None, MalformedKey),
        ("", "tiny", None, MalformedKey),
        ("a\\b", "tiny", None, MalformedKey),
        ("a\udcff", "tiny", None, MalformedKey),
    ],
)
def test_src_with_invalid_key_or_size_raises(
    key: str, size: str, form: Format | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        LINKS.src(key, size, form)


def test_src_with_format_not_offered_by_the_size_raises() -> None:
    links = Links(sizes=["a 10x10 webp=80", "b 20x20"])
    assert links.src("k", "a", Format.WEBP) == "/resize/10x10.webp/k"
    with pytest.raises(FormatNotAllowed):
        links.src("k", "b", Format.WEBP)


def test_srcset_omits_sizes_without_the_format() -> None:
    links = Links(sizes=["10x10 webp=80", "20x20"])
    assert links.srcset("k", 100, 100, Format.WEBP) == "/resize/10x10.webp/k 10w"
    with pytest.raises(FormatNotAllowed):
        links.srcset("k", 100, 100, Format.AVIF)


@pytest.mark.parametrize(
    ("width", "height", "srcset"),
    [
        (6000, 4000, [
            ("150x150", 150), ("280x280", 280), ("400x400", 400), ("540x540", 540), ("800x600", 800),
            ("880x880", 880), ("1200x1200", 1200), ("2000x2000", 2000), ("2560x2560", 2560),
        ]),
        (4000, 6000, [
            ("150x150", 100), ("280x280", 187), ("400x400", 267), ("540x540", 360), ("800x600", 400),
            ("880x880", 587), ("1200x1200", 800), ("2000x2000", 1333), ("2560x2560", 1707),
        ]),
        (300, 200, [("150x150", 150), ("280x280", 280), ("400x400", 300)]),
        (100, 100, [("150x150", 100)]),
        (1, 6000, [("150x150", 1)]),
    ],
)  # fmt: skip
def test_srcset_lists_every_width_once_in_ascending_order(
    width: int, height: int, srcset: list[tuple[str, int]]
) -> None:
    expected = ", ".join(f"https://cdn.example.com/resize/{size}/k {width_px}w" for size, width_px in srcset)
    assert LINKS.srcset("k", width, height) == expected


@given(keys, st.integers(1, 60_000), st.integers(1, 60_000), st.sampled_from([None, *Format]))
def test_every_address_is_parsed_by_the_server(
    key: str, width: int, height: int, form: Format | None
) -> None:
    candidates = Links().srcset(key, width, height, form).split(", ")
    widths = []
    for candidate in candidates:
        matched = re.fullmatch(r"(\S+) ([0-9]+)w", candidate)
        assert matched is not None
        request = parse(matched[1].encode("ascii"), ALLOWED)
        assert isinstance(request, PictureRequest)
        assert (request.key, request.target.format) == (key, form)
        assert request.target.size.fit(width, height)[0] == int(matched[2])
        widths.append(int(matched[2]))
    assert widths == sorted(set(widths))
    assert max(widths) <= width


def test_dimensions_are_those_of_the_rendition() -> None:
    assert LINKS.dimensions(6000, 4000, "thumbnail") == (800, 533)
    assert LINKS.dimensions(60, 40, "800x600") == (60, 40)
    with pytest.raises(SizeNotAllowed):
        LINKS.dimensions(6000, 4000, "thumbnail.webp")


def test_sizes_limits_the_width_to_the_rendition() -> None:
    assert LINKS.sizes(6000, 4000, "thumbnail") == "(max-width: 800px) 100vw, 800px"


@pytest.mark.parametrize(
    "key", ["a,b", "a, b", "a b", "ab,", "a\N{NO-BREAK SPACE}b", 'a"b', "a'b", "a<b", "a&b"]
)
def test_address_in_srcset_has_no_space_or_final_comma(key: str) -> None:
    """HTML, srcset attribute: a URL ends at white space and must neither begin nor end with a comma."""
    (address, _) = Links(sizes=["10x10"]).srcset(key, 5, 5).split(" ")
    assert address.isascii()
    assert not address.endswith(",")
    assert not set('"<> ') & set(address)


# replaced photographs


@pytest.mark.parametrize(
    ("version", "query"),
    [
        ("", ""),
        ("2", "?v=2"),
        ("2026-03-01T12:00", "?v=2026-03-01T12%3A00"),
        ("1a-2b-3c", "?v=1a-2b-3c"),
        ('"&<>*,ä #?', "?v=%22%26%3C%3E%2A%2C%C3%A4%20%23%3F"),
    ],
)
def test_version_is_appended_as_query_to_every_address(version: str, query: str) -> None:
    address = LINKS.src("g/a.jpg", "tiny", version=version)
    assert address == f"https://cdn.example.com/resize/150x150/g/a.jpg{query}"
    srcset = LINKS.srcset("g/a.jpg", 200, 100, version=version)
    assert [one.split(" ")[0].partition("g/a.jpg")[2] for one in srcset.split(", ")] == [query, query]
    picture = LINKS.picture("g/a.jpg", 200, 100, "tiny", alt="", version=version)
    addresses = [picture.src, *(one.srcset for one in picture.sources)]
    assert all(f"/g/a.jpg{query}" in one for one in addresses)


# <picture>


class Elements(HTMLParser):
    """Every start tag of an HTML text with its attributes."""

    def __init__(self, text: object) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(str(text))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        raise AssertionError(f"unexpected text: {data!r}")


def test_picture_lists_avif_first_and_reserves_its_space() -> None:
    picture = LINKS.picture(KEY, 6000, 4000, "thumbnail", alt="The first dance")
    sizes = "(max-width: 800px) 100vw, 800px"
    assert Elements(picture).tags == [
        ("picture", {}),
        *(
            (
                "source",
                {"type": f"image/{one}", "srcset": LINKS.srcset(KEY, 6000, 4000, one), "sizes": sizes},
            )
            for one in (Format.AVIF, Format.WEBP)
        ),
        (
            "img",
            {
                "src": LINKS.src(KEY, "thumbnail"),
                "srcset": LINKS.srcset(KEY, 6000, 4000),
                "sizes": sizes,
                "width": "800",
                "height": "533",
                "alt": "The first dance",
                "loading": "lazy",
                "decoding": "async",
            },
        ),
    ]
    assert Elements(picture.image()).tags == Elements(picture).tags[-1:]


def test_picture_options_set_sizes_loading_and_decoding() -> None:
    picture = LINKS.picture(
        KEY, 60, 40, "medium", alt="", sizes="(min-width: 40em) 33vw, 100vw", loading="eager", decoding="sync"
    )
    *sources, (_, image) = Elements(picture).tags
    assert [source["sizes"] for _, source in sources[1:]] == ["(min-width: 40em) 33vw, 100vw"] * 2
    attributes = {name: image[name] for name in ("sizes", "loading", "decoding", "width", "height", "alt")}
    assert attributes == {
        "sizes": "(min-width: 40em) 33vw, 100vw",
        "loading": "eager",
        "decoding": "sync",
        "width": "60",
        "height": "40",
        "alt": "",
    }


def test_picture_has_sources_for_offered_formats_only() -> None:
    some = Links(sizes=["10x10 webp=80", "20x20"]).picture("k", 9, 9, "20x20", alt="")
    assert [one.type for one in some.sources] == ["image/webp"]
    plain = Links(sizes=["10x10"]).picture("k", 9, 9, "10x10", alt="")
    assert [tag for tag, _ in Elements(plain).tags] == ["picture", "img"]


@pytest.mark.parametrize(
    ("sizes", "original_px", "types"),
    [
        pytest.param(["400x400 webp=86 avif=74", "1600x900 webp=84"], (6000, 4000), ["webp"], id="less wide"),
        pytest.param(["400x400 webp=86 avif=74", "1600x900"], (6000, 4000), [], id="none is as wide"),
        pytest.param(["400x400", "1600x900 avif=70"], (6000, 4000), ["avif"], id="only the widest"),
        pytest.param(
            ["400x400 avif=74", "800x800 webp=8", "1600x900 avif=70 webp=84"],
            (6000, 4000),
            ["avif", "webp"],
            id="the middle lacks it",
        ),
        pytest.param(["400x400 avif=74", "1600x900"], (300, 200), ["avif"], id="original is small"),
        pytest.param(["400x400 avif=74", "1600x400"], (300, 600), ["avif"], id="equally wide"),
        pytest.param(["400x400 avif=74", "1600x400"], (1600, 400), [], id="as a panorama less wide"),
    ],
)
def test_picture_leaves_out_sources_that_are_less_wide_than_the_image(
    sizes: list[str], original_px: tuple[int, int], types: list[str]
) -> None:
    """Chromium takes the first `<source>` of a type that it supports, and enlarges what it finds there."""
    picture = Links(sizes=sizes).picture("k", *original_px, sizes[0].partition(" ")[0], alt="")
    assert [one.type for one in picture.sources] == [f"image/{name}" for name in types]
    widest = {one.rpartition(" ")[2] for one in (picture.srcset, *(each.srcset for each in picture.sources))}
    assert len(widest) == 1


@given(st.text(), keys, st.text(st.characters(codec="utf-8")))
def test_picture_escapes_alt_key_and_version(alt: str, key: str, version: str) -> None:
    picture = LINKS.picture(key, 100, 50, "tiny", alt=alt, version=version)
    tags = Elements(picture).tags
    assert [tag for tag, _ in tags] == ["picture", "source", "source", "img"]
    assert tags[-1][1] == {
        "src": picture.src,
        "srcset": picture.srcset,
        "sizes": picture.sizes,
        "width": "100",
        "height": "50",
        "alt": alt,
        "loading": "lazy",
        "decoding": "async",
    }


def test_picture_is_not_escaped_again_by_templates() -> None:
    from jinja2 import Environment

    picture = LINKS.picture(KEY, 6000, 4000, "small", alt='"')
    assert Environment(autoescape=True).from_string("{{ picture }}").render(picture=picture) == str(picture)


def test_docs_examples_run() -> None:
    page = (Path(__file__).parents[2] / "docs" / "links.md").read_text("utf-8")
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, namespace)
    assert {"links", "picture", "private"} <= set(namespace)


def test_links_module_imports_no_part_of_the_server() -> None:
    """Applications use links in their own processes."""
    script = (
        "import sys, galerly_cdn.links; "
        "print(*sorted({'asyncio', 'pyvips', 'httptools', 'galerly_cdn.edge', 'socket'} & set(sys.modules)))"
    )
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=unmeasured
    )
    assert done.stdout.strip() == ""


def test_signer_without_expiry_is_an_error() -> None:
    """The unsigned address would be refused, by a server that the page's author does not see."""
    _, private_pem = new_pair(ecdsa=True)
    signed = Links("https://cdn.test", signer=Signer("K1", private_pem))
    for make in (
        lambda: signed.src("clients/smith/1.jpg", "small"),
        lambda: signed.original("clients/smith/1.jpg"),
        lambda: signed.srcset("clients/smith/1.jpg", 300, 200),
        lambda: signed.picture("clients/smith/1.jpg", 300, 200, "small", alt=""),
    ):
        with pytest.raises(ValueError, match="expires_s"):
            make()
    assert "Signature=" in signed.src("clients/smith/1.jpg", "small", expires_s=1_800_000_000)
