"""Fakes an S3 server in memory that records its requests and fails on demand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.tls_certificates import Files

_STORED_HEADERS = ("content-type", "cache-control")


@dataclass(frozen=True)
class Request:
    method: str
    key: str
    headers: dict[str, str]
    body: bytes
    query: str = ""


@dataclass
class Fault:
    """How a response fails. Of several fields the first that applies decides."""

    resets: bool = False
    """The connection is closed without a response."""
    delay_s: float = 0.0
    """A delay before the response, for benchmarks."""
    hangs: bool = False
    """There is no response until the server closes."""
    status: int = 0
    code: str = "InternalError"
    location: str = ""
    date: str = ""
    """The header Date of the response."""
    cut: float = 1.0
    """The share of the body after which the connection is closed."""
    altered: Callable[[bytes], bytes] = bytes
    """Changes the body. Content-Length is that of the changed body."""
    done: bool = False
    """Whether the request is executed although its response fails."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class FakeS3:
    """`fault` returns the fault of each request, or None. The objects are by `{bucket}/{key}`."""

    port: int = 0
    fault: Callable[[Request], Fault | None] = lambda _request: None
    objects: dict[str, Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    host: str = "127.0.0.1"
    scheme: str = "http"
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def settings(self, **settings: object) -> Settings:
        made = Settings(store="s3://bucket", store_endpoint=f"{self.scheme}://{self.host}:{self.port}")
        return replaced(made, **settings)

    def put(self, key: str, content: bytes, **metadata: str) -> None:
        """Store an object, as another client does."""
        self.objects[f"bucket/{key}"] = _object(
            content, {f"x-amz-meta-{name}": value for name, value in metadata.items()}
        )

    def rendition_names(self) -> list[str]:
        """The keys of renditions and fact records; not the list of recipes."""
        return [name for name in self.objects if re.match("bucket/resized/(?!recipes/)", name)]

    def request_count(self, method: str, key: str = "") -> int:
        """The number of requests with this method whose key contains `key`."""
        return sum(one.method == method and key in one.key for one in self.requests)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """End every connection."""
        self._closing.set()
        while self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closing = asyncio.create_task(self._closing.wait())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not self._closing.is_set():
                head = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
                await asyncio.wait({head, closing}, return_when=asyncio.FIRST_COMPLETED)
                if not head.done():
                    head.cancel()
                    break
                request = await _read(head.result(), reader)
                self.requests.append(request)
                if not await self._respond(request, writer):
                    break
        closing.cancel()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Send the response; whether the connection stays open."""
        fault = self.fault(request) or Fault()
        answer = Answer(500)
        if fault.done or not (fault.status or fault.hangs or fault.resets):
            answer = self._execute(request)
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.resets:
            return False
        if fault.hangs:
            await self._closing.wait()
            return False
        if fault.status:
            body = b"<Error><Code>%b</Code></Error>" % fault.code.encode()
            headers = {"location": fault.location, "date": fault.date}
            answer = Answer(fault.status, {name: value for name, value in headers.items() if value}, body)
        body = fault.altered(answer.body)
        headers = {"content-length": str(len(body)), **answer.headers}
        if request.method == "HEAD":
            body = b""
        lines = [f"HTTP/1.1 {answer.status} -", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body[: int(len(body) * fault.cut)])
        await writer.drain()
        return fault.cut == 1.0

    def _execute(self, request: Request) -> Answer:
        found = self.objects.get(request.key)
        if request.method == "PUT":
            if found and "if-none-match" in request.headers:
                return Answer(412)
            headers = {
                name: value
                for name, value in request.headers.items()
                if name in _STORED_HEADERS or name.startswith("x-amz-meta-")
            }
            stored = self.objects[request.key] = _object(request.body, headers)
            return Answer(200, {"etag": stored.headers["etag"]})
        if request.method == "DELETE":
            etag = found.headers["etag"] if found else ""
            if request.headers.get("if-match", etag) != etag:
                return Answer(412 if found else 404)
            self.objects.pop(request.key, None)
            return Answer(204)
        return self._read(request, found)

    def _read(self, request: Request, found: Answer | None) -> Answer:
        if "list-type=2" in request.query:
            return self._list(request.key.rstrip("/"), dict(parse_qsl(request.query)))
        if found is None:
            return Answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")
        if request.headers.get("if-match", found.headers["etag"]) != found.headers["etag"]:
            return Answer(412)
        return _range(found, request.headers.get("range", ""))

    def _list(self, bucket: str, query: dict[str, str]) -> Answer:
        """A page of a listing (Amazon S3 API Reference, ListObjectsV2); with a delimiter of folders alone."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        names = [name.removeprefix(f"{bucket}/") for name in self.objects]
        found = sorted(name for name in names if name.startswith(prefix))
        if delimiter:
            rests = [name.removeprefix(prefix) for name in found]
            folders = sorted({rest.partition(delimiter)[0] for rest in rests if delimiter in rest})
            page = "".join(
                f"<CommonPrefixes><Prefix>{prefix}{one}{delimiter}</Prefix></CommonPrefixes>"
                for one in folders
            )
            return Answer(200, {}, f"<ListBucketResult>{page}</ListBucketResult>".encode())
        found = [name for name in found if name > after]
        listed = found[: int(query.get("max-keys", "1000"))]
        page = "".join(_listed(name, self.objects[f"{bucket}/{name}"]) for name in listed)
        if len(listed) < len(found):
            page += (
                f"<IsTruncated>true</IsTruncated><NextContinuationToken>{listed[-1]}</NextContinuationToken>"
            )
        return Answer(200, {}, f"<ListBucketResult>{page}</ListBucketResult>".encode())


def _listed(name: str, stored: Answer) -> str:
    tag = stored.headers["etag"].replace('"', "&quot;")
    return (
        f"<Contents><Key>{name}</Key><LastModified>2026-11-24T20:00:00.000Z</LastModified>"
        f"<ETag>{tag}</ETag><Size>{len(stored.body)}</Size></Contents>"
    )


def _object(content: bytes, headers: dict[str, str]) -> Answer:
    all_headers = {
        "etag": f'"{hashlib.md5(content).hexdigest()}"',
        "last-modified": "Tue, 24 Nov 2026 20:00:00 GMT",
        **headers,
    }
    return Answer(200, all_headers, content)


def _range(found: Answer, requested: str) -> Answer:
    """The requested range of an object, or all of it (RFC 9110 §14)."""
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", requested)
    if match is None:
        return found
    first, last = int(match[1]), min(int(match[2]), len(found.body) - 1)
    headers = {**found.headers, "content-range": f"bytes {first}-{last}/{len(found.body)}"}
    return Answer(206, headers, found.body[first : last + 1])


async def _read(head: bytes, reader: asyncio.StreamReader) -> Request:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Request(method, unquote(parts.path).removeprefix("/"), headers, body, parts.query)


@asynccontextmanager
async def fake_s3(certificate: Files | None = None) -> AsyncIterator[FakeS3]:
    """Runs a server on a free port, by https if there is a certificate for `localhost`."""
    fake = FakeS3(host="localhost" if certificate else "127.0.0.1", scheme="https" if certificate else "http")
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
    server = await asyncio.start_server(fake.accept, "127.0.0.1", 0, ssl=context)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        await fake.close()
        await server.wait_closed()
