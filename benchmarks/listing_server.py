"""Serves a made-up S3 bucket of many originals, which are computed and not stored.

The keys are `wedding/IMG 0000000.jpg` and so on, in one folder, and each original is the same small JPEG.
What is put is kept in memory.
"""

from __future__ import annotations

import hashlib
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tests.support import pictures

GALLERY = "wedding"
_ROOT = f"originals/{GALLERY}/IMG "
_KEY = re.compile(re.escape(_ROOT) + r"([0-9]{7})\.jpg")
_PAGE = 1000
_ETAG = "0123456789abcdef0123456789abcdef"


def name_of(number: int) -> str:
    """The key of an original."""
    return f"{GALLERY}/IMG {number:07d}.jpg"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0
    original = b""
    stored: ClassVar[dict[str, bytes]] = {}
    """What was put: fact records, the list of recipes."""

    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        if "list-type" in query:
            self._send(200, _page(query, self.count))
            return
        key = self._key()
        found = _KEY.fullmatch(key)
        if found and int(found[1]) < self.count:
            self._send(200, self.original)
        elif key in self.stored:
            self._send(200, self.stored[key])
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_HEAD = do_GET  # noqa: N815 - the name of the base class

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.headers.get("if-none-match") and self._key() in self.stored:
            self._send(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        self.stored[self._key()] = body
        self._send(200, b"", etag_of=body)

    def do_DELETE(self) -> None:
        self.stored.pop(self._key(), None)
        self._send(204, b"")

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _send(self, status: int, body: bytes, etag_of: bytes = b"") -> None:
        self.send_response_only(status)
        self.send_header("ETag", f'"{hashlib.md5(etag_of or body, usedforsecurity=False).hexdigest()}"')
        self.send_header("Last-Modified", "Tue, 24 Nov 2026 20:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that leave in the middle of a response."""


def _page(query: dict[str, str], count: int) -> bytes:
    """A page of ListObjectsV2; a delimiter folds the folder (Amazon S3 API Reference)."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    if not (f"{_ROOT}0".startswith(prefix) or prefix.startswith(_ROOT)):
        return b"<ListBucketResult></ListBucketResult>"
    if delimiter and delimiter in _ROOT.removeprefix(prefix):
        folder = prefix + _ROOT.removeprefix(prefix).partition(delimiter)[0] + delimiter
        listed = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
        return f"<ListBucketResult>{listed}</ListBucketResult>".encode()
    first = _first_after(query.get("continuation-token") or query.get("start-after", ""), count)
    numbers = range(first, min(first + int(query.get("max-keys", _PAGE)), count))
    body = "".join(map(_listed, numbers))
    if numbers and numbers[-1] + 1 < count:
        token = quote(f"originals/{name_of(numbers[-1])}")
        body += f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
    return f"<ListBucketResult>{body}</ListBucketResult>".encode()


def _first_after(key: str, count: int) -> int:
    """The number of the first key that sorts after this one."""
    key = unquote(key)
    found = _KEY.fullmatch(key)
    if found:
        return int(found[1]) + 1
    return count if key > _ROOT else 0


def _listed(number: int) -> str:
    return (
        f"<Contents><Key>originals/{name_of(number)}</Key>"
        "<LastModified>2026-11-24T20:00:00.000Z</LastModified>"
        f"<ETag>&quot;{_ETAG}&quot;</ETag><Size>5000000</Size></Contents>"
    )


def main() -> None:
    """Serve as many originals as the argument says, on a free port that is printed."""
    _Handler.count = int(sys.argv[1])
    _Handler.original = pictures.jpeg(60, 40)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
