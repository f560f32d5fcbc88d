"""The viewer function says what the Python edge says, of every address, in Node and in njs."""

from __future__ import annotations

import json
import random
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.aws.viewer import source as viewer
from galerly_cdn.errors import SettingsError, SignatureRequired, by_code
from galerly_cdn.http import responses
from galerly_cdn.settings.table import Settings
from tests.support import viewer_functions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SETTINGS = Settings(
    sizes=(*Settings().sizes, "wide 1600x900 webp=80", "320x240"), private_prefixes=("clients", "studio/2026")
)
EVENTS = {
    "node": viewer_functions.cloudfront,
    "njs": viewer_functions.cloudfront,
    "node-edge": viewer_functions.lambda_edge,
}
ENGINES = [
    pytest.param("node", marks=pytest.mark.server("node")),
    pytest.param("njs", marks=pytest.mark.server("njs")),
    pytest.param("node-edge", marks=pytest.mark.server("node"), id="lambda-edge"),
]
every_engine = pytest.mark.parametrize("engine", ENGINES)
both = pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
PAIRS = 20_000
EVERY_ANSWER = {
    "400 malformed-key",
    "403 format-not-allowed",
    "403 signature-required",
    "403 size-not-allowed",
    "404 unknown-path",
    "405 method-not-allowed",
}

SEGMENTS = [
    *(str(rule.size) for rule in SETTINGS.size_rules),
    *(rule.name or "" for rule in SETTINGS.size_rules),
    *("801x600", "800x0600", "Tiny", "", "__proto__", "800x600.png.webp", "320x240", "wide"),
]
FORMATS = ["", "", "", ".webp", ".avif", ".jpeg", ".png", ".gif", ".", ".WEBP", ".constructor"]
KEY_PIECES = [
    *(
        "a",
        "Z",
        "0",
        "-",
        ".",
        "_",
        "~",
        "/",
        "/",
        "+",
        "&",
        "'",
        "(",
        "*",
        ",",
        ";",
        "=",
        ":",
        "@",
        "$",
        "!",
    ),
    *(
        "..",
        "./",
        "//",
        "%2e",
        "%2E%2e/",
        "%2f",
        "%5c",
        "\\",
        "%00",
        "%7F",
        "%c2%85",
        "%20",
        " ",
        "%",
        "%4",
        "%zz",
    ),
    *(
        "%c3%a9",
        "%C3%A9",
        "%e2%82%ac",
        "%F0%9F%93%B7",
        "%c3",
        "%a9",
        "%ed%a0%80",
        "%c0%ae",
        "%f4%90%80%80",
        "%ff",
    ),
    *(
        "?",
        "#",
        '"',
        "<",
        "[",
        "|",
        "\xe9",
        "\x00",
        "%25",
        "%2b",
        "%61",
        "clients/",
        "%63lients/",
        "studio/2026/",
    ),
]
ACCEPT_PIECES = [
    *("image/avif", "image/webp", "IMAGE/AVIF", "image/*", "*/*", "a/b", "image", "/", "image/avif-x"),
    *(",", ",", ", ", ";", ";q=0", ";q=0.5", ";q=1", ";Q=0.000", ";q=1.001", ";q=", ";a=b", ";a", ' ;q="1"'),
    *(" ", "\t", "\x00", "\xff", "\x0b"),
]


def generated(dice: random.Random) -> dict[str, str]:
    """An address and an `Accept`, most of them nearly right."""
    key = "".join(dice.choices(KEY_PIECES, k=dice.randrange(1, 9)))
    if dice.random() < 0.5:
        key = dice.choice(["g/", "clients/smith/", "studio/2026/x/", "clients/a/clients/"]) + key
    if dice.random() < 0.02:
        key += dice.choice(["a", "%61", "%c3%a9"]) * dice.randrange(300, 903)
    start = dice.choices(["/resize/", "/original/", "/Resize/", "/resized/", "//resize/"], [90, 4, 2, 2, 2])[
        0
    ]
    path = f"{start}{dice.choice(SEGMENTS)}{dice.choice(FORMATS)}/{key}"
    accept = "".join(dice.choices(ACCEPT_PIECES, k=dice.randrange(8)))
    return {"path": path, "accept": accept}


def source(engine: str, *, signed: bool, settings: Settings = SETTINGS) -> str:
    make = viewer.lambda_edge if engine == "node-edge" else viewer.function
    return make(settings, signed=signed)


def run(
    engine: str,
    asked: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    signed: bool = False,
    settings: Settings = SETTINGS,
) -> list[dict[str, Any]]:
    events = [EVENTS[engine](one) for one in asked]
    return viewer_functions.run(engine, source(engine, signed=signed, settings=settings), events, folder)


def header(answer: Mapping[str, Any], name: str) -> str | None:
    """Of either kind of answer: `{value}` or `[{key, value}]`."""
    found = answer["headers"].get(name)
    if found is None:
        return None
    return str(found[0]["value"] if isinstance(found, list) else found["value"])


def expected(asked: Mapping[str, str], *, signed: bool) -> str:
    answer = asked.get("signed", asked["answer"]) if signed else asked["answer"]
    is_error_to_head = asked.get("method") == "HEAD" and answer[0] != "/"
    return answer.partition(" ")[0] if is_error_to_head else answer


def test_the_table_is_long_and_holds_every_kind_of_answer() -> None:
    answers = {one["answer"].partition("/g/")[0] for one in viewer_functions.vectors()}
    assert len(viewer_functions.vectors()) >= 300
    assert answers >= EVERY_ANSWER
    assert {f"/resized/800x600{suffix}" for suffix in ("", ".webp", ".avif", ".png", ".jpeg")} <= answers


@both
def test_the_python_edge_answers_the_table(*, signed: bool) -> None:
    edge = viewer_functions.PythonEdge(SETTINGS, signed=signed)
    wrong = [one for one in viewer_functions.vectors() if edge.answer(one) != expected(one, signed=signed)]
    assert wrong == []


@both
@every_engine
def test_the_function_answers_the_table(engine: str, *, signed: bool, tmp_path: Path) -> None:
    asked = viewer_functions.vectors()
    told = [viewer_functions.line(one) for one in run(engine, asked, tmp_path, signed=signed)]
    wrong = [
        (one, line) for one, line in zip(asked, told, strict=True) if line != expected(one, signed=signed)
    ]
    assert wrong == []


@both
@every_engine
def test_the_function_and_the_edge_agree_on_generated_addresses(
    engine: str,
    *,
    signed: bool,
    tmp_path: Path,
) -> None:
    dice = random.Random(random.random())  # pytest-randomly prints the seed
    asked = [generated(dice) for _ in range(PAIRS)]
    edge = viewer_functions.PythonEdge(SETTINGS, signed=signed)
    answers = [edge.answer(one) for one in asked]
    told = [viewer_functions.line(one) for one in run(engine, asked, tmp_path, signed=signed)]
    compared = zip(asked, answers, told, strict=True)
    assert [row for row in compared if row[1] != row[2]] == []
    assert {one.partition("/")[0] for one in answers} >= {
        "",
        *(EVERY_ANSWER - {"405 method-not-allowed"}),
    } - ({"403 signature-required"} if signed else set())


MISTAKES = [
    ("request.method !== 'HEAD'", "false"),
    ("'/original/'", "'/originals/'"),
    ("'/resize/')", "'/resize')"),
    ("has(TABLES.sizes, size)", "size in TABLES.sizes"),
    ("dot >= 0 && ", ""),
    ("indexOf(format) < 0", "indexOf(format) > 0"),
    ("slash < 0 ? null : ", ""),
    ("|| /%2f/i.test(encoded)", ""),
    ("3 * TABLES", "2 * TABLES"),
    ("bytes > TABLES", "key.length > TABLES"),
    ("\\x7f-\\x9f", "\\x7f"),
    ("-\\x9f\\\\]", "-\\x9f]"),
    ("segments[i] === '' ||", ""),
    ("|| segments[i] === '.' ||", "||"),
    ("|| segments[i] === '..'", ""),
    ("[!'()*]/g", "[!'()]/g"),
    (".replace(/%2F/g, '/')", ""),
    (".toUpperCase()", ""),
    ("spell(key) ", "key "),
    ("starts(key + '/',", "starts(key,"),
    (".length !== 2", ".length < 2"),
    ("&& !SIGNED", "&& SIGNED"),
    ("isSecret || rest !== null", "rest !== null"),
    ("isSecret || rest !== null", "isSecret"),
    ("has(taken, name) || taken[name]", "has(taken, name) || true"),
    ("=== 0);", "=== 1);"),
    ("text.length > TABLES.maxAcceptBytes", "text.length >= TABLES.maxAcceptBytes"),
    ("!PARAMETER.test(parameter) ||", ""),
    ("!WEIGHT.test(parameter)", "false"),
    (".toLowerCase()", ""),
    ("offered.indexOf(format) >= 0 &&", ""),
    (" || text[from] === '\\t'", ""),
]


@pytest.mark.server("node")
@pytest.mark.parametrize(("right", "wrong"), MISTAKES)
def test_the_table_notices_a_planted_mistake(right: str, wrong: str, tmp_path: Path) -> None:
    text = source("node", signed=False)
    assert right in text
    asked = viewer_functions.vectors()
    events = [viewer_functions.cloudfront(one) for one in asked]
    try:
        answers = viewer_functions.run("node", text.replace(right, wrong), events, tmp_path)
    except subprocess.CalledProcessError:
        return  # it throws: noticed
    told = [viewer_functions.line(one) for one in answers]
    assert told != [expected(one, signed=False) for one in asked]


@every_engine
def test_another_allow_list_makes_another_function(engine: str, tmp_path: Path) -> None:
    settings = Settings(sizes=("320x240 webp=80", "wide 1600x900 jpeg=80"), private_prefixes=("/",))
    paths = [
        "/resize/320x240/g/a",
        "/resize/wide/g/a",
        "/resize/wide.webp/g/a",
        "/resize/tiny/g/a",
        "/resize/wide/a",
    ]
    asked = [{"path": path, "accept": "image/avif,image/webp"} for path in paths]
    told = [
        viewer_functions.line(one) for one in run(engine, asked, tmp_path, signed=True, settings=settings)
    ]
    assert told == [
        "/resized/320x240.webp/g/a",
        "/resized/1600x900/g/a",
        "403 format-not-allowed",
        "403 size-not-allowed",
        "400 malformed-key",
    ]


@every_engine
@pytest.mark.parametrize("signed", [None, "/resize/tiny/clients/smith/1.jpg"], ids=["public", "private"])
def test_an_error_is_the_edge_s_own(engine: str, signed: str | None, tmp_path: Path) -> None:
    paths = ["/nowhere", "/resize/1x1/a", "/resize/tiny.gif/a", "/resize/tiny/a//b", "/original//a"]
    asked = [{"path": path} for path in ([signed, "/original/a"] if signed else paths)]
    asked.append({"path": "/resize/tiny/a", "method": "POST"})
    for told in run(engine, asked, tmp_path):
        status, code = viewer_functions.line(told).split()
        error = by_code()[code]()
        is_private = isinstance(error, SignatureRequired) and signed is not None
        wanted = responses.failure(error, "the-request", SETTINGS, is_private=is_private)
        headers = {name.decode(): value.decode() for name, value in wanted.headers}
        del headers["content-length"]  # CloudFront's to write
        assert int(status) == wanted.status
        assert {name: header(told, name) for name in told["headers"]} == headers
        body = told["body"]
        assert (body["data"] if isinstance(body, dict) else body).encode() == wanted.body


@every_engine
def test_an_error_to_head_has_no_body(engine: str, tmp_path: Path) -> None:
    (told,) = run(engine, [{"path": "/nowhere", "method": "HEAD"}], tmp_path)
    assert viewer_functions.line(told) == "404"
    assert header(told, "content-type") == "application/json"


@pytest.mark.parametrize(
    ("query", "stored"),
    [
        ("", None),
        ("stored=1", "1"),
        ("v=2&stored=1", "1"),
        ("stored=0", None),
        ("stored=", None),
        ("stored", None),
        ("Stored=1", None),
        ("stored=11", None),
        ("__proto__=1", None),
    ],
)
@every_engine
def test_a_query_reaches_nothing_but_the_mark_of_a_followed_redirect(
    engine: str, query: str, stored: str | None, tmp_path: Path
) -> None:
    parameters = (part.partition("=") for part in query.split("&"))
    folded = {name: {"value": value} for name, _, value in parameters if name}
    (told,) = run(engine, [{"path": "/resize/tiny/a", "query": query, "querystring": folded}], tmp_path)
    assert told["querystring"] in ("", {})
    assert header(told, "x-galerly-stored") == stored


@pytest.mark.parametrize("name", ["x-galerly-stored", "x-galerly-private"])
@every_engine
def test_a_viewer_cannot_speak_for_the_function(engine: str, name: str, tmp_path: Path) -> None:
    forged = [{"key": name.title(), "value": "1"}] if engine == "node-edge" else {"value": "1"}
    (told,) = run(engine, [{"path": "/resize/tiny/a", "headers": {name: forged}}], tmp_path, signed=True)
    assert header(told, name) is None
    assert header(told, "host") == "d111111abcdef8.cloudfront.net"


@pytest.mark.parametrize(("key", "marked"), [("clients/smith/1.jpg", "1"), ("open/smith/1.jpg", None)])
@every_engine
def test_the_origin_is_told_that_a_key_is_private(
    engine: str, key: str, marked: str | None, tmp_path: Path
) -> None:
    (told,) = run(engine, [{"path": f"/resize/tiny/{key}"}], tmp_path, signed=True)
    assert header(told, "x-galerly-private") == marked


@every_engine
def test_a_repeated_accept_is_one_list(engine: str, tmp_path: Path) -> None:
    values = ["image/png", "image/webp"]
    listed = [{"key": "Accept", "value": value} for value in values]
    folded = {"value": values[0], "multiValue": [{"value": value} for value in values]}
    headers = {"accept": listed if engine == "node-edge" else folded}
    (told,) = run(engine, [{"path": "/resize/tiny/a", "headers": headers}], tmp_path)
    assert viewer_functions.line(told) == "/resized/150x150.webp/a"


@pytest.mark.parametrize(
    ("parameters", "answer"),
    [
        ({"v": ["2"]}, "/resized/150x150/clients/jones/1.jpg"),
        ({"x": ["/clients/smith/"]}, "403 signature-invalid"),
        ({"x": ["%2Fclients%2fsmith%2f"]}, "403 signature-invalid"),
        ({"/clients/smith/": ["1"]}, "403 signature-invalid"),
        ({"__proto__": ["/clients/smith/"]}, "403 signature-invalid"),
        ({"x": ["/clients/smith/", "1"]}, "403 signature-invalid"),
        ({"x": ["1", "/clients/smith/"]}, "403 signature-invalid"),
    ],
)
@every_engine
def test_a_query_cannot_pass_for_another_gallery(
    engine: str, parameters: dict[str, list[str]], answer: str, tmp_path: Path
) -> None:
    """A signed policy's `*` matches across `?` at CloudFront: `/clients/smith/` may stand in the query."""
    query = "&".join(f"{name}={value}" for name, values in parameters.items() for value in values)
    folded = {
        name: {"value": values[0], "multiValue": [{"value": value} for value in values]}
        for name, values in parameters.items()
    }
    asked = {"path": "/resize/tiny/clients/jones/1.jpg", "query": query, "querystring": folded}
    (told,) = run(engine, [asked], tmp_path, signed=True)
    assert viewer_functions.line(told) == answer


@both
@pytest.mark.parametrize("status", [200, 206, 304, 403, 404, 503])
@every_engine
def test_what_is_behind_a_signature_is_private_and_every_other_original_immutable(
    engine: str,
    status: int,
    *,
    signed: bool,
    tmp_path: Path,
) -> None:
    event = EVENTS[engine]({"path": "/original/smith/1.jpg"})
    if engine == "node-edge":
        cf = event["Records"][0]["cf"]
        cf["config"]["eventType"] = "viewer-response"
        stored = [{"key": "Cache-Control", "value": "as stored"}]
        cf["response"] = {"status": str(status), "headers": {"cache-control": stored}}
    else:
        event["context"]["eventType"] = "viewer-response"
        event["response"] = {"statusCode": status, "headers": {"cache-control": {"value": "as stored"}}}
    (told,) = viewer_functions.run(engine, source(engine, signed=signed), [event], tmp_path)
    lifetime = (responses.PRIVATE if signed else responses.IMMUTABLE).decode()
    assert header(told, "cache-control") == (lifetime if status < 400 else "as stored")


@every_engine
def test_originals_are_for_everybody_where_the_settings_say_so(engine: str, tmp_path: Path) -> None:
    settings = Settings(sign_originals=False, private_prefixes=("clients",))
    asked = [{"path": f"/original/{key}"} for key in ("g/a b.jpg", "g/a%20b.jpg", "clients/smith/1.jpg")]
    told = [viewer_functions.line(one) for one in run(engine, asked, tmp_path, settings=settings)]
    edge = viewer_functions.PythonEdge(settings, signed=False)
    assert told == [edge.answer(one) for one in asked]
    assert told == ["400 malformed-key", "/originals/g/a%20b.jpg", "403 signature-required"]


def test_a_key_is_spelt_as_s3_signs_it() -> None:
    """The unreserved characters of RFC 3986 §2.3 bare, everything else escaped in upper case; and `/`."""
    spelt = [one["answer"] for one in viewer_functions.vectors() if one["answer"].startswith("/resized/")]
    assert [one for one in spelt if not re.fullmatch(r"(?:[A-Za-z0-9\-._~/]|%[0-9A-F]{2})+", one)] == []
    assert {"a%2Bb", "caf%C3%A9", "a%28b%29", "a~b"} <= {one.rpartition("/")[2] for one in spelt}


@pytest.mark.parametrize("signed", [False, True])
def test_the_function_is_small_enough_for_cloudfront(*, signed: bool) -> None:
    text = viewer.function(SETTINGS, signed=signed)
    assert len(text.encode()) <= 10_240
    assert text.isascii()


def test_settings_that_make_it_too_large_are_refused() -> None:
    many = tuple(f"{side}x{side} jpeg=85 webp=85 avif=70" for side in range(1, 200))
    with pytest.raises(SettingsError, match="sizes, private_prefixes: the viewer function would have"):
        viewer.function(Settings(sizes=many), signed=False)


def test_nothing_newer_than_ecmascript_5_is_used() -> None:
    text = viewer.function(SETTINGS, signed=False)
    newer = r"=>|`(?!\|)|\.\.\.|\b(?:let|const|class|async|await|yield|import|export|of)\b(?=[ ({])"
    code = re.sub(r"/\^.*?\$/|'[^']*'|^var TABLES.*", "", text, flags=re.MULTILINE)
    assert re.findall(newer, code) == []
    assert json.loads(text.partition("var TABLES = ")[2].partition(";\n")[0])["maxKeyBytes"] == 900
