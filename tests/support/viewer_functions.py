"""What the edge makes of an address, as one line: asked of the Python edge, of Node and of njs.

`/resized/800x600.webp/a.jpg` and `/originals/a.jpg` are the object that is wanted, spelled as S3 signs it;
`403 size-not-allowed` is the edge's own answer.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from galerly_cdn.access.authorizer import Authorizer
from galerly_cdn.downloads import Downloads
from galerly_cdn.edge import Edge
from galerly_cdn.errors import GalerlyError, NoSuchOriginal, SignatureRequired
from galerly_cdn.http.exchange import ViewerExchange
from galerly_cdn.http.urls import AllowList
from tests.support import in_memory_cdn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from galerly_cdn.access.signing import Verifier
    from galerly_cdn.rate_limit import MissLimiter
    from galerly_cdn.settings.table import Settings

ADDRESSES = Path(__file__).with_name("addresses.jsonl")
"""A line is a request and its answer: `path`, `answer`, and where they matter `method` (GET), `accept`
(none sent) and `signed`, the answer where the signature held. Bytes above ASCII are Latin-1 characters."""
NODE = """\
const fs = require('fs'), vm = require('vm');
const [source, asked, answered] = process.argv.slice(2);
const realm = vm.createContext({ asked: fs.readFileSync(asked, 'utf8') });
vm.runInContext(fs.readFileSync(source, 'utf8'), realm);
fs.writeFileSync(answered, vm.runInContext('JSON.stringify(JSON.parse(asked).map(handler))', realm));
"""
NODE_EDGE = """\
const fs = require('fs');
const [source, asked, answered] = process.argv.slice(2);
const { handler } = require(source);
Promise.all(JSON.parse(fs.readFileSync(asked, 'utf8')).map(handler))
    .then((all) => fs.writeFileSync(answered, JSON.stringify(all)));
"""
NJS = """
var fs = require('fs');
var all = JSON.parse(fs.readFileSync(process.argv[2])).map(handler);
fs.writeFileSync(process.argv[3], JSON.stringify(all));
"""


def vectors() -> list[dict[str, str]]:
    return [json.loads(line) for line in ADDRESSES.read_text("utf-8").splitlines()]


class _Signatures:
    """In the verifier's place: signatures are CloudFront's part; here all hold or none does."""

    def __init__(self, *, hold: bool) -> None:
        self._hold = hold

    def verify(self, *_: object, **__: object) -> None:
        if not self._hold:
            raise SignatureRequired


class _Nothing:
    """In the place of what asks the store: there is no original."""

    async def head(self, *_: object, **__: object) -> None:
        raise NoSuchOriginal


class PythonEdge:
    """The edge with an empty store: what a visit wants is known before the store is asked."""

    def __init__(self, settings: Settings, *, signed: bool) -> None:
        verifier = cast("Verifier", _Signatures(hold=signed))
        originals = settings.sign_originals
        guard = Authorizer(settings.private_prefixes, verifier, lambda: 0.0, signs_originals=originals)
        misses = cast("MissLimiter", _Nothing())
        self._edge = Edge(
            settings=settings,
            allowed=AllowList(settings.size_rules),
            miss_limiter=misses,
            renditions=in_memory_cdn.MemoryRenditions(),
            filler=cast("Any", None),
            authorizer=guard,
            downloads=Downloads(settings, misses, in_memory_cdn.MemoryOriginals(), guard),
        )

    def answer(self, asked: Mapping[str, str]) -> str:
        headers = [(b"accept", asked["accept"].encode("latin-1"))] if "accept" in asked else []
        scope = {
            "method": asked.get("method", "GET"),
            "raw_path": asked["path"].encode("latin-1"),
            "query_string": b"",
            "client": None,
            "headers": headers,
        }
        exchange = ViewerExchange(scope, "")
        try:
            self._edge.answer(exchange).send(None)
        except NoSuchOriginal:
            folder = "originals" if exchange.target is None else f"resized/{exchange.target}"
            return "/" + quote(f"{folder}/{exchange.key}", safe="/")
        except GalerlyError as error:
            return f"{error.status} {error.code}"
        raise AssertionError(asked)


def cloudfront(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A CloudFront Functions event for viewer requests (event structure, version 1.0)."""
    headers = {"host": {"value": "d111111abcdef8.cloudfront.net"}, **asked.get("headers", {})}
    if "accept" in asked:
        headers["accept"] = {"value": asked["accept"]}
    return {
        "version": "1.0",
        "context": {
            "distributionDomainName": "d111111abcdef8.cloudfront.net",
            "distributionId": "EDFDVBD6EXAMPLE",
            "eventType": "viewer-request",
            "requestId": "the-request",
        },
        "viewer": {"ip": "198.51.100.11"},
        "request": {
            "method": asked.get("method", "GET"),
            "uri": asked["path"],
            "querystring": asked.get("querystring", {}),
            "headers": headers,
            "cookies": {},
        },
    }


def lambda_edge(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A Lambda@Edge event for viewer requests."""
    headers = {
        "host": [{"key": "Host", "value": "d111111abcdef8.cloudfront.net"}],
        **asked.get("headers", {}),
    }
    if "accept" in asked:
        headers["accept"] = [{"key": "Accept", "value": asked["accept"]}]
    request = {
        "clientIp": "198.51.100.11",
        "method": asked.get("method", "GET"),
        "uri": asked["path"],
        "querystring": asked.get("query", ""),
        "headers": headers,
    }
    config = {"eventType": "viewer-request", "requestId": "the-request"}
    return {"Records": [{"cf": {"config": config, "request": request}}]}


def run(engine: str, source: str, events: Iterable[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What `handler` returns for each event, in `node` (a bare realm), `node-edge` or `njs`."""
    asked, answered, function, driver = (
        folder / name for name in ("asked", "answered", "viewer.js", "main.js")
    )
    asked.write_text(json.dumps(list(events)))
    function.write_text(source)
    driver.write_text({"node": NODE, "node-edge": NODE_EDGE, "njs": source + NJS}[engine])
    files = [str(asked), str(answered)] if engine == "njs" else [str(function), str(asked), str(answered)]
    subprocess.run([engine.partition("-")[0], str(driver), *files], check=True, timeout=100)
    told: list[dict[str, Any]] = json.loads(answered.read_text())
    return told


def line(answer: Mapping[str, Any]) -> str:
    """A handler's answer as one line, in the words of `ADDRESSES`."""
    status = answer.get("statusCode") or answer.get("status")
    if not status:
        return str(answer["uri"])
    body = answer.get("body")
    if not body:  # HEAD
        return str(status)
    return f"{status} {json.loads(body['data'] if isinstance(body, dict) else body)['error']['code']}"
