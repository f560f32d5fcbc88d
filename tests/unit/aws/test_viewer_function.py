"""Tests that the viewer function gives the results of the Python edge, in Node, njs and Lambda@Edge."""

from __future__ import annotations

import json
import random
import re
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from galerly_cdn.aws.viewer import source as viewer
from galerly_cdn.errors import SettingsError, SignatureRequired, by_code
from galerly_cdn.http import lifetimes, responses, urls
from galerly_cdn.http.urls import AllowList
from galerly_cdn.settings.table import Settings
from tests.support import exhaustive, viewer_functions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SETTINGS = Settings(
    sizes=(*Settings().sizes, "wide 1600x900 webp=80", "320x240"), private_prefixes=("clients", "studio/2026")
)
ALLOWED = AllowList(SETTINGS.size_rules)
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
GENERATED = exhaustive.count(20_000, sample=2_000)
ERRORS = {
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


def generated(random_numbers: random.Random) -> dict[str, str]:
    """A path and an Accept header, most of them nearly valid."""
    key = "".join(random_numbers.choices(KEY_PIECES, k=random_numbers.randrange(1, 9)))
    if random_numbers.random() < 0.5:
        key = random_numbers.choice(["g/", "clients/smith/", "studio/2026/x/", "clients/a/clients/"]) + key
    if random_numbers.random() < 0.02:
        key += random_numbers.choice(["a", "%61", "%c3%a9"]) * random_numbers.randrange(300, 903)
    start = random_numbers.choices(
        ["/resize/", "/original/", "/Resize/", "/resized/", "//resize/"], [90, 4, 2, 2, 2]
    )[0]
    path = f"{start}{random_numbers.choice(SEGMENTS)}{random_numbers.choice(FORMATS)}/{key}"
    accept = "".join(random_numbers.choices(ACCEPT_PIECES, k=random_numbers.randrange(8)))
    return {"path": path, "accept": accept}


def source(engine: str, *, signed: bool, settings: Settings = SETTINGS) -> str:
    make = viewer.lambda_edge if engine == "node-edge" else viewer.function
    return make(settings, signed=signed)


def run(
    engine: str,
    requests: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    signed: bool = False,
    settings: Settings = SETTINGS,
) -> list[dict[str, Any]]:
    events = [EVENTS[engine](request) for request in requests]
    return viewer_functions.run(engine, source(engine, signed=signed, settings=settings), events, folder)


def header(answer: Mapping[str, Any], name: str) -> str | None:
    """The value of a header in either form: `{value}` or `[{key, value}]`."""
    found = answer["headers"].get(name)
    if found is None:
        return None
    return str(found[0]["value"] if isinstance(found, list) else found["value"])


def expected(vector: Mapping[str, str], *, signed: bool) -> str:
    result = vector.get("signed", vector["answer"]) if signed else vector["answer"]
    is_error_of_head = vector.get("method") == "HEAD" and result[0] != "/"
    return result.partition(" ")[0] if is_error_of_head else result


def passes_key(result: Mapping[str, Any], line: str) -> bool:
    """Whether the function passes the key of a rendition, as the resizer reads it, and nothing for others."""
    passed = viewer_functions.passed_key(result)
    if passed is None or not line.startswith("/resized/"):
        return passed is None and not line.startswith("/resized/")
    target, _ = urls.parse_stored(line.encode(), passed.encode(), ALLOWED)
    return line == urls.format_stored(target, unquote(passed))


def test_vectors_have_every_kind_of_result() -> None:
    answers = {one["answer"].partition("/g/")[0] for one in viewer_functions.vectors()}
    assert len(viewer_functions.vectors()) >= 300
    assert answers >= ERRORS
    assert {f"/resized/800x600{suffix}" for suffix in ("", ".webp", ".avif", ".png", ".jpeg")} <= answers


@both
def test_python_edge_gives_results_of_vectors(*, signed: bool) -> None:
    edge = viewer_functions.PythonEdge(SETTINGS, signed=signed)
    wrong = [one for one in viewer_functions.vectors() if edge.result(one) != expected(one, signed=signed)]
    assert wrong == []


@both
@every_engine
def test_viewer_function_gives_results_of_vectors(engine: str, *, signed: bool, tmp_path: Path) -> None:
    requests = viewer_functions.vectors()
    results = run(engine, requests, tmp_path, signed=signed)
    lines = [viewer_functions.line(one) for one in results]
    compared = zip(requests, lines, strict=True)
    assert [(one, line) for one, line in compared if line != expected(one, signed=signed)] == []
    assert [line for one, line in zip(results, lines, strict=True) if not passes_key(one, line)] == []


@both
@every_engine
@pytest.mark.exhaustive
def test_viewer_function_and_edge_agree_on_generated_requests(
    engine: str,
    *,
    signed: bool,
    tmp_path: Path,
) -> None:
    random_numbers = random.Random(random.random())  # pytest-randomly prints the seed
    requests = [generated(random_numbers) for _ in range(GENERATED)]
    edge = viewer_functions.PythonEdge(SETTINGS, signed=signed)
    answers = [edge.result(one) for one in requests]
    results = run(engine, requests, tmp_path, signed=signed)
    lines = [viewer_functions.line(one) for one in results]
    compared = zip(requests, answers, lines, strict=True)
    assert [row for row in compared if row[1] != row[2]] == []
    assert [line for one, line in zip(results, lines, strict=True) if not passes_key(one, line)] == []
    assert {one.partition("/")[0] for one in answers} >= {
        "",
        *(ERRORS - {"405 method-not-allowed"}),
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
    ("(^|\\/)(", "^("),
    ("(^|\\/)(", "(\\/)("),
    ("(\\.|\\/|(?![", "(\\/|(?!["),
    ("(\\.|\\/|(?![", "(\\.|(?!["),
    ("(\\.|\\/|(?![\\s\\S]))", "(\\.|\\/)"),
    ("(\\.|\\/|(?![", "(\\.\\.?\\/|\\/|(?!["),
    ("length > TABLES.maxAcceptElements", "length >= TABLES.maxAcceptElements"),
    ("/[%~]/.test(one)", "/%/.test(one)"),
    ("swap(one, '-', '%2D')", "one"),
    ("swap(name, '~', '%7E')", "name"),
    ("{255}", "{256}"),
    ("(^|\\/)\\.[^", "(^|\\/)[^"),
    ("length <= 900", "length <= 901"),
    ("cut < 0 ? 832", "cut < 0 ? 833"),
    ("Math.min(832, cut)", "cut"),
    ("Math.min(832, cut)", "832"),
    ("'.--'", "'.-'"),
    ("update(name)", "update(spelled)"),
    ("')', '*']", "')']"),
    ("'%2F', '/')", "'%2F', '%2F')"),
    (".toUpperCase()", ""),
    ("spell(key) ", "key "),
    ("starts(key + '/',", "starts(key,"),
    (".length !== 2", ".length < 2"),
    ("&& !SIGNED", "&& SIGNED"),
    ("isSecret || rest !== null", "rest !== null"),
    ("isSecret || rest !== null", "isSecret"),
    ("&& !REFUSED[i].test(text)", ""),
    ("NAMED[i].test(text) && ", ""),
    ("q=0(?:\\\\.0*)?", "q=0"),
    (";(?:[^,]*;)?[ ", ";[ "),
    ("[ \\\\t]*(?=[,;]|' + END + ')'); }", "'); }"),
    ("(?:^|,)[ ", "[ "),
    ("+ rest, 'i')", "+ rest)"),
    ("text.length > TABLES.maxAcceptBytes", "text.length >= TABLES.maxAcceptBytes"),
    ("ACCEPT.test(text) ? ", "true ? "),
    ("|(?![qQ]=)", "|"),
    ("0{0,3}", "[0-9]{0,3}"),
    (")?)*)?';", ")*)?';"),
    ("+ ')*' + END", "+ ')*'"),
    ("offered.indexOf(TABLES.preference[i]) >= 0 &&", ""),
]


@pytest.mark.server("node")
@pytest.mark.parametrize(("right", "wrong"), MISTAKES)
def test_vectors_detect_planted_mistake(right: str, wrong: str, tmp_path: Path) -> None:
    text = source("node", signed=False)
    assert right in text
    requests = viewer_functions.vectors()
    events = [viewer_functions.cloudfront(one) for one in requests]
    try:
        answers = viewer_functions.run("node", text.replace(right, wrong), events, tmp_path)
    except subprocess.CalledProcessError:
        return  # it throws: detected
    results = [viewer_functions.line(one) for one in answers]
    assert results != [expected(one, signed=False) for one in requests]


@every_engine
def test_viewer_function_follows_allow_list(engine: str, tmp_path: Path) -> None:
    settings = Settings(sizes=("320x240 webp=80", "wide 1600x900 jpeg=80"), private_prefixes=("/",))
    paths = [
        "/resize/320x240/g/a",
        "/resize/wide/g/a",
        "/resize/wide.webp/g/a",
        "/resize/tiny/g/a",
        "/resize/wide/a",
    ]
    requests = [{"path": path, "accept": "image/avif,image/webp"} for path in paths]
    results = [
        viewer_functions.line(one) for one in run(engine, requests, tmp_path, signed=True, settings=settings)
    ]
    assert results == [
        "/resized/320x240.webp/g/a",
        "/resized/1600x900/g/a",
        "403 format-not-allowed",
        "403 size-not-allowed",
        "400 malformed-key",
    ]


@every_engine
@pytest.mark.parametrize("signed", [None, "/resize/tiny/clients/smith/1.jpg"], ids=["public", "private"])
def test_viewer_function_error_equals_edge_error(engine: str, signed: str | None, tmp_path: Path) -> None:
    paths = ["/nowhere", "/resize/1x1/a", "/resize/tiny.gif/a", "/resize/tiny/a//b", "/original//a"]
    requests = [{"path": path} for path in ([signed, "/original/a"] if signed else paths)]
    requests.append({"path": "/resize/tiny/a", "method": "POST"})
    for result in run(engine, requests, tmp_path):
        status, code = viewer_functions.line(result).split()
        error = by_code()[code]()
        is_private = isinstance(error, SignatureRequired) and signed is not None
        wanted = responses.failure(error, "the-request", SETTINGS, is_private=is_private)
        headers = {name.decode(): value.decode() for name, value in wanted.headers}
        del headers["content-length"]  # CloudFront writes it
        assert int(status) == wanted.status
        assert {name: header(result, name) for name in result["headers"]} == headers
        body = result["body"]
        assert (body["data"] if isinstance(body, dict) else body).encode() == wanted.body


@every_engine
def test_viewer_function_error_to_head_has_no_body(engine: str, tmp_path: Path) -> None:
    (result,) = run(engine, [{"path": "/nowhere", "method": "HEAD"}], tmp_path)
    assert viewer_functions.line(result) == "404"
    assert header(result, "content-type") == "application/json"


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
def test_viewer_function_query_sets_only_stored_header(
    engine: str, query: str, stored: str | None, tmp_path: Path
) -> None:
    parameters = (part.partition("=") for part in query.split("&"))
    folded = {name: {"value": value} for name, _, value in parameters if name}
    (result,) = run(engine, [{"path": "/resize/tiny/a", "query": query, "querystring": folded}], tmp_path)
    assert result["querystring"] in ("", {})
    assert header(result, "x-galerly-stored") == stored


@pytest.mark.parametrize("name", ["x-galerly-stored", "x-galerly-private"])
@every_engine
def test_viewer_function_deletes_forged_headers(engine: str, name: str, tmp_path: Path) -> None:
    forged = [{"key": name.title(), "value": "1"}] if engine == "node-edge" else {"value": "1"}
    (result,) = run(engine, [{"path": "/resize/tiny/a", "headers": {name: forged}}], tmp_path, signed=True)
    assert header(result, name) is None
    assert header(result, "host") == "d111111abcdef8.cloudfront.net"


@pytest.mark.parametrize(
    ("path", "passed"),
    [("/resize/tiny/clients/a/b%2D%2b.jpg", "clients/a/b-%2B.jpg"), ("/original/clients/a/b.jpg", None)],
)
@every_engine
def test_viewer_function_replaces_forged_key(
    engine: str, path: str, passed: str | None, tmp_path: Path
) -> None:
    forged = [{"key": "X-Galerly-Key", "value": "other"}] if engine == "node-edge" else {"value": "other"}
    (result,) = run(engine, [{"path": path, "headers": {"x-galerly-key": forged}}], tmp_path, signed=True)
    assert header(result, "x-galerly-key") == passed


@pytest.mark.parametrize(("key", "marked"), [("clients/smith/1.jpg", "1"), ("open/smith/1.jpg", None)])
@every_engine
def test_viewer_function_marks_private_keys(
    engine: str, key: str, marked: str | None, tmp_path: Path
) -> None:
    (result,) = run(engine, [{"path": f"/resize/tiny/{key}"}], tmp_path, signed=True)
    assert header(result, "x-galerly-private") == marked


@every_engine
def test_viewer_function_joins_repeated_accept(engine: str, tmp_path: Path) -> None:
    values = ["image/png", "image/webp"]
    listed = [{"key": "Accept", "value": value} for value in values]
    folded = {"value": values[0], "multiValue": [{"value": value} for value in values]}
    headers = {"accept": listed if engine == "node-edge" else folded}
    (result,) = run(engine, [{"path": "/resize/tiny/a", "headers": headers}], tmp_path)
    assert viewer_functions.line(result) == "/resized/150x150.webp/a"


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
def test_viewer_function_signed_query_with_slash_is_refused(
    engine: str, parameters: dict[str, list[str]], answer: str, tmp_path: Path
) -> None:
    """In CloudFront a policy's `*` matches `?`, so `/clients/smith/` in the query could match a policy."""
    query = "&".join(f"{name}={value}" for name, values in parameters.items() for value in values)
    folded = {
        name: {"value": values[0], "multiValue": [{"value": value} for value in values]}
        for name, values in parameters.items()
    }
    request = {"path": "/resize/tiny/clients/jones/1.jpg", "query": query, "querystring": folded}
    (result,) = run(engine, [request], tmp_path, signed=True)
    assert viewer_functions.line(result) == answer


@both
@pytest.mark.parametrize("status", [200, 206, 304, 403, 404, 503])
@every_engine
def test_viewer_response_sets_cache_control(
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
    (result,) = viewer_functions.run(engine, source(engine, signed=signed), [event], tmp_path)
    lifetime = (lifetimes.PRIVATE if signed else lifetimes.IMMUTABLE).decode()
    assert header(result, "cache-control") == (lifetime if status < 400 else "as stored")


@every_engine
def test_viewer_function_serves_originals_if_not_signed(engine: str, tmp_path: Path) -> None:
    settings = Settings(sign_originals=False, private_prefixes=("clients",))
    requests = [{"path": f"/original/{key}"} for key in ("g/a b.jpg", "g/a%20b.jpg", "clients/smith/1.jpg")]
    results = [viewer_functions.line(one) for one in run(engine, requests, tmp_path, settings=settings)]
    edge = viewer_functions.PythonEdge(settings, signed=False)
    assert results == [edge.result(one) for one in requests]
    assert results == ["400 malformed-key", "/originals/g/a%20b.jpg", "403 signature-required"]


@pytest.mark.parametrize(
    ("folder", "characters", "names"),
    [
        ("/resized/", r"[A-Za-z0-9\-._/]+", {".a-2Bb", ".caf-C3-A9", ".a-28b-29", ".a-7Eb"}),
        ("/originals/", r"(?:[A-Za-z0-9\-._~/]|%[0-9A-F]{2})+", {"a%2Bb", "caf%C3%A9", "a~b"}),
    ],
)
def test_vectors_spell_renditions_without_escapes_and_originals_as_s3_signs_them(
    folder: str, characters: str, names: set[str]
) -> None:
    """S3 signs unreserved characters (RFC 3986 §2.3) and `/` bare, all others escaped in upper case."""
    answers = [one.get("signed", one["answer"]) for one in viewer_functions.vectors()]
    spelled = [one for one in answers if one.startswith(folder)]
    assert [one for one in spelled if not re.fullmatch(characters, one)] == []
    assert names <= {one.rpartition("/")[2] for one in spelled}


MANY = Settings(
    sizes=tuple(f"name{side} {side}00x{side}00 jpeg=85 webp=85 avif=70" for side in range(1, 10)),
    private_prefixes=tuple(f"clients/customer-{number:02}" for number in range(30)),
)


@pytest.mark.parametrize("settings", [SETTINGS, MANY], ids=["few", "9 sizes and 30 private prefixes"])
@pytest.mark.parametrize("signed", [False, True])
def test_viewer_function_fits_cloudfront_quota(settings: Settings, *, signed: bool) -> None:
    text = viewer.function(settings, signed=signed)
    assert len(text.encode()) <= 10_240
    assert text.isascii()


COUNT_SCANNED = """
var scanned = 0, test = RegExp.prototype.test, run = handler;
RegExp.prototype.test = function (text) { scanned += text.length; return test.call(this, text); };
handler = function (event) { scanned = 0; run(event); return { scanned: scanned }; };
"""
HOSTILE = [
    *("(", "a/b;", "a/b,", ";", ",", " ", "\t", "q=", "image/avif;q=0.", "image/avif,", "image/webp;q=0,"),
    *("image/avif;a=b,", "!/!;!=!,", "image/avif;q=0;", "*/*, ", "image/avif; ", "image/", ", "),
]


@pytest.mark.server("node")
def test_viewer_function_scans_few_characters_of_any_accept(tmp_path: Path) -> None:
    """Its regular expressions take linear time. 4,096 parentheses once took as long as 90 requests."""

    def scanned(*headers: str) -> list[int]:
        events = [viewer_functions.cloudfront({"path": "/resize/tiny/g/a", "accept": one}) for one in headers]
        text = source("node", signed=False) + COUNT_SCANNED
        return [one["scanned"] for one in viewer_functions.run("node", text, events, tmp_path)]

    (without,) = scanned("")
    longest = [(unit * 1024)[:length] for unit in HOSTILE for length in (100, 1023, 1024)]
    assert max(scanned(*longest)) <= without + 5 * 1024
    over = [(unit * 8192)[:length] for unit in HOSTILE for length in (1025, 4096, 8192)]
    assert set(scanned(*over, "," * 32, "image/avif," * 32)) == {without}


def test_viewer_function_above_quota_raises() -> None:
    many = tuple(f"{side}x{side} jpeg=85 webp=85 avif=70" for side in range(1, 200))
    with pytest.raises(SettingsError, match="sizes, private_prefixes: the viewer function would have"):
        viewer.function(Settings(sizes=many), signed=False)


def test_viewer_function_uses_only_ecmascript_5() -> None:
    text = viewer.function(SETTINGS, signed=False)
    newer = r"=>|`(?!\|)|\.\.\.|\b(?:let|const|class|async|await|yield|import|export|of)\b(?=[ ({])"
    code = re.sub(r"/\^.*?\$/|'[^']*'|^var TABLES.*", "", text, flags=re.MULTILINE)
    assert re.findall(newer, code) == []
    assert json.loads(text.partition("var TABLES = ")[2].partition(";\n")[0])["maxKeyBytes"] == 900
