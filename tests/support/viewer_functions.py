"""Runs the viewer function in Node and njs, and the Python edge, on requests; formats each result as a line.

`/resized/800x600.webp/.a-20b.jpg` is the path of a rendition in the bucket, `/originals/a%20b.jpg` that of an
original, encoded as S3 signs it; `403 size-not-allowed` is an error response.
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
from galerly_cdn.http import urls
from galerly_cdn.http.exchange import ViewerExchange
from galerly_cdn.http.urls import AllowList
from tests.support import in_memory_cdn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from galerly_cdn.access.signing import Verifier
    from galerly_cdn.rate_limit import MissLimiter
    from galerly_cdn.settings.table import Settings

ADDRESSES = Path(__file__).with_name("addresses.jsonl")
"""Each line is a request and its result: `path`, `answer`, and optionally `method` (default GET), `accept`
(default none) and `signed`, the result behind a valid signature. Bytes above ASCII are Latin-1 characters."""
NODE = """\
const fs = require('fs'), vm = require('vm');
const [source, events, results] = process.argv.slice(2);
const realm = vm.createContext({ events: fs.readFileSync(events, 'utf8'), require });
vm.runInContext(fs.readFileSync(source, 'utf8'), realm);
fs.writeFileSync(results, vm.runInContext('JSON.stringify(JSON.parse(events).map(handler))', realm));
"""
NODE_EDGE = """\
const fs = require('fs');
const [source, events, results] = process.argv.slice(2);
const { handler } = require(source);
Promise.all(JSON.parse(fs.readFileSync(events, 'utf8')).map(handler))
    .then((all) => fs.writeFileSync(results, JSON.stringify(all)));
"""
NJS = """
var fs = require('fs');
var all = JSON.parse(fs.readFileSync(process.argv[2])).map(handler);
fs.writeFileSync(process.argv[3], JSON.stringify(all));
"""


def vectors() -> list[dict[str, str]]:
    return [json.loads(line) for line in ADDRESSES.read_text("utf-8").splitlines()]


class _FakeVerifier:
    """Accepts or refuses every signature: CloudFront verifies them before the viewer function."""

    def __init__(self, *, accepts: bool) -> None:
        self._accepts = accepts

    def verify(self, *_: object, **__: object) -> None:
        if not self._accepts:
            raise SignatureRequired


class _EmptyStore:
    """A store of originals without any original."""

    async def head(self, *_: object, **__: object) -> None:
        raise NoSuchOriginal

    def known_head(self, *_: object, **__: object) -> None:
        """None is known."""


class PythonEdge:
    """The Python edge with an empty store; the requested object is known before the store is read."""

    def __init__(self, settings: Settings, *, signed: bool) -> None:
        verifier = cast("Verifier", _FakeVerifier(accepts=signed))
        originals = settings.sign_originals
        authorizer = Authorizer(settings.private_prefixes, verifier, lambda: 0.0, signs_originals=originals)
        misses = cast("MissLimiter", _EmptyStore())
        self._edge = Edge(
            settings=settings,
            allowed=AllowList(settings.size_rules),
            miss_limiter=misses,
            renditions=in_memory_cdn.MemoryRenditions(),
            stored=cast("Any", None),
            filler=cast("Any", None),
            authorizer=authorizer,
            downloads=Downloads(
                settings,
                misses,
                in_memory_cdn.MemoryOriginals(),
                authorizer,
                facts=cast("Any", None),
                inspect=cast("Any", None),
            ),
        )

    def result(self, request: Mapping[str, str]) -> str:
        headers = [(b"accept", request["accept"].encode("latin-1"))] if "accept" in request else []
        scope = {
            "method": request.get("method", "GET"),
            "raw_path": request["path"].encode("latin-1"),
            "query_string": b"",
            "client": None,
            "headers": headers,
        }
        exchange = ViewerExchange(scope, "")
        try:
            self._edge.answer(exchange).send(None)
        except NoSuchOriginal:
            if exchange.target is None:
                return "/originals/" + quote(exchange.key, safe="/")
            return urls.format_stored(exchange.target, exchange.key)
        except GalerlyError as error:
            return f"{error.status} {error.code}"
        raise AssertionError(request)


def cloudfront(parts: Mapping[str, Any]) -> dict[str, Any]:
    """A CloudFront Functions event for viewer requests (event structure, version 1.0)."""
    headers = {"host": {"value": "d111111abcdef8.cloudfront.net"}, **parts.get("headers", {})}
    if "accept" in parts:
        headers["accept"] = {"value": parts["accept"]}
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
            "method": parts.get("method", "GET"),
            "uri": parts["path"],
            "querystring": parts.get("querystring", {}),
            "headers": headers,
            "cookies": {},
        },
    }


def lambda_edge(parts: Mapping[str, Any]) -> dict[str, Any]:
    """A Lambda@Edge event for viewer requests."""
    headers = {
        "host": [{"key": "Host", "value": "d111111abcdef8.cloudfront.net"}],
        **parts.get("headers", {}),
    }
    if "accept" in parts:
        headers["accept"] = [{"key": "Accept", "value": parts["accept"]}]
    request = {
        "clientIp": "198.51.100.11",
        "method": parts.get("method", "GET"),
        "uri": parts["path"],
        "querystring": parts.get("query", ""),
        "headers": headers,
    }
    config = {"eventType": "viewer-request", "requestId": "the-request"}
    return {"Records": [{"cf": {"config": config, "request": request}}]}


def run(engine: str, source: str, events: Iterable[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The results of `handler` for each event, in `node` (an empty realm), `node-edge` or `njs`."""
    requests, responses, function, driver = (
        folder / name for name in ("events.json", "results.json", "viewer.js", "main.js")
    )
    requests.write_text(json.dumps(list(events)))
    function.write_text(source)
    driver.write_text({"node": NODE, "node-edge": NODE_EDGE, "njs": source + NJS}[engine])
    files = [str(requests), str(responses)]
    files = files if engine == "njs" else [str(function), *files]
    subprocess.run([engine.partition("-")[0], str(driver), *files], check=True, timeout=100)
    results: list[dict[str, Any]] = json.loads(responses.read_text())
    return results


def passed_key(result: Mapping[str, Any]) -> str | None:
    """The key that a changed request passes to the resizer, percent-encoded."""
    found = result.get("headers", {}).get("x-galerly-key")
    return None if found is None else str((found[0] if isinstance(found, list) else found)["value"])


def line(result: Mapping[str, Any]) -> str:
    """A handler's result as one line, as in `ADDRESSES`."""
    status = result.get("statusCode") or result.get("status")
    if not status:
        return str(result["uri"])
    body = result.get("body")
    if not body:  # HEAD
        return str(status)
    return f"{status} {json.loads(body['data'] if isinstance(body, dict) else body)['error']['code']}"
