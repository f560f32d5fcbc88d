"""Builds the admin API over in-memory stores, and sends it requests without a listener."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import Authorizer
from galerly_cdn.admin.app import AdminApplication
from galerly_cdn.admin.auth import Authenticator
from galerly_cdn.admin.handlers import Handlers
from galerly_cdn.admin.health import Health
from galerly_cdn.admin.metric_table import METRICS
from galerly_cdn.admin.metrics import Metrics
from galerly_cdn.admin.routes import all_routes
from galerly_cdn.admin.warming import Warmer
from galerly_cdn.app.processes import forgetting
from galerly_cdn.clock import Clock
from galerly_cdn.dashboard.composition import Dashboard, Photographs
from galerly_cdn.downloads import Downloads
from galerly_cdn.errors import NoSuchOriginal, NoSuchUpload, OriginalExists, UnsupportedFormat
from galerly_cdn.http.urls import checked_key
from galerly_cdn.inspector import Inspector
from galerly_cdn.library import StoreLibrary
from galerly_cdn.model import ignore_facts
from galerly_cdn.prefix_check import PrefixCheck
from galerly_cdn.render.sample_images import SPECIMENS
from galerly_cdn.retries import RENDERERS_BUSY, Retries
from galerly_cdn.store.interfaces import PresignedUpload
from galerly_cdn.store.temp_files import UploadFile
from tests.support.in_memory_cdn import FACTS, CountingRenderer, InMemoryCdn, MemoryOriginals

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, MutableMapping
    from typing import Any

    from galerly_cdn.access.signing import Signer
    from galerly_cdn.model import FactRecord, Facts, Head, Job, Learn, Rendered
    from galerly_cdn.render.pool.supervisor import WorkerFacts
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import DirectUploads

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

PHOTOGRAPH = b"photograph of the sea"
TOKEN = "0123456789abcdef0123456789abcdef"
UPLOAD_ID = "00112233445566778899aabbccddeeff"


class InMemoryWritableOriginals:
    """Originals in dictionaries that accept uploads; `contents` holds the uploaded bytes by key."""

    def __init__(self, originals: MemoryOriginals) -> None:
        self._originals = originals
        self.contents: dict[str, bytes] = {}
        self.head = originals.head
        self.known_head = originals.known_head
        self.open = originals.open
        self.read = originals.read
        self.list = originals.list
        self.folders = originals.folders

    def upload_file(self) -> UploadFile:
        return UploadFile(None)

    async def put(
        self, key: str, upload: UploadFile, *, media_type: str, md5: str, replaces: bool
    ) -> tuple[Head, bool]:
        assert media_type.startswith("image/")
        assert len(md5) == 32
        content = os.pread(upload.fd, upload.length_bytes, 0)
        is_new = self.contents.get(key) != content
        if is_new and key in self.contents and not replaces:
            raise OriginalExists
        if is_new:
            self._originals.put(key, content=content)
            self.contents[key] = content
        return await self._originals.head(key), is_new

    async def delete(self, key: str) -> bool:
        try:
            await self._originals.head(key)
        except NoSuchOriginal:
            return False
        self._originals.remove(key)
        return self.contents.pop(key, None) is not None

    async def delete_unchanged(self, key: str, version: str) -> bool:
        raise AssertionError(f"{key}, {version}: only `store clean` does this")


class FakeRenderer(CountingRenderer):
    """Accepts files that begin with `photograph`, and the sample of `readyz`, as JPEGs of 60 × 40 px."""

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        self.tokens.append(token)
        if self.error is not None:
            raise self.error
        _refuse_other_files(fd)
        assert length_bytes
        return FACTS

    async def render(
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
    ) -> tuple[Rendered, bytes]:
        _refuse_other_files(fd)
        return await super().render(fd, length_bytes, job, token, known=known, learn=learn)


def _refuse_other_files(fd: int) -> None:
    """Raise `UnsupportedFormat` unless the file is a photograph or the sample of `readyz`."""
    start = os.pread(fd, 10, 0)
    if start != b"photograph" and not (start and SPECIMENS["png"].startswith(start)):
        raise UnsupportedFormat(repr(start))


class InMemoryDirectUploads:
    """Direct uploads; `uploaded` holds the bytes by upload id."""

    def __init__(self) -> None:
        self.uploaded: dict[str, bytes] = {}

    async def presign(self, upload_id: str) -> PresignedUpload:
        return PresignedUpload(
            method="PUT", url=f"https://store.test/{upload_id}", headers={"a": "b"}, expires_s=60
        )

    async def read(self, upload_id: str) -> AsyncGenerator[bytes, None]:
        if upload_id not in self.uploaded:
            raise NoSuchUpload
        yield self.uploaded[upload_id]

    async def remove(self, upload_id: str) -> None:
        self.uploaded.pop(upload_id, None)


@dataclass
class AdminResponse:
    """A response of the admin API."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass
class InMemoryAdmin:
    """The admin API of a `InMemoryCdn`. `tokens` are those of `admin_token_file`."""

    settings: Settings
    tokens: tuple[str, ...] = ()
    is_local: bool = True
    direct_uploads: DirectUploads | None = None
    renderer: FakeRenderer = field(default_factory=FakeRenderer)
    concurrency: int = 2
    is_writable: bool = True
    signer: Signer | None = None
    patience_s: float = 60.0

    def __post_init__(self) -> None:
        self.cdn = InMemoryCdn(self.settings, renderer=self.renderer)
        self.telemetry = self.cdn.telemetry
        self.audits = self.cdn.audits
        self.originals = InMemoryWritableOriginals(self.cdn.originals)
        authorizer = Authorizer(self.settings.private_prefixes, None, lambda: 0.0, signs_originals=False)
        self.library = StoreLibrary(
            originals=self.originals,
            renditions=self.cdn.renditions,
            inspector=Inspector(self.originals, self.renderer, self.cdn.facts, self.cdn.listed.recipes),
            facts=self.cdn.facts,
            listed=self.cdn.listed,
            max_bytes=self.settings.max_original_bytes,
            warm=functools.partial(self.cdn.origin.warm, targets=self.settings.warm_targets),
            check=lambda key: authorizer.checked_upload(checked_key(key)),
            forget=forgetting(self.cdn.edge, None),
            turns=Retries(RENDERERS_BUSY, 0, lambda: 0.0),
        )
        self.now_s = 0.0
        self.workers: list[WorkerFacts] = []
        self.warmer = Warmer(self.library, self.concurrency, self.cdn.counters.count)
        self.prefixes = PrefixCheck(self.originals, self.settings.private_prefixes)
        self.health = Health(
            self.renderer,
            self.originals,
            self.settings.limits,
            lambda: self.now_s,
            prefixes=self.prefixes,
            listed=self.cdn.listed,
        )
        handlers = Handlers(
            self.library,
            self.warmer,
            self.settings,
            forget=self.cdn.edge.forget_original,
            direct_uploads=self.direct_uploads,
            new_upload_id=lambda: UPLOAD_ID,
        )
        gauges: dict[str, Callable[[], float | Mapping[str, float]]] = {
            one.name: lambda: 2.0 for one in METRICS if not one.labels
        }
        gauges["galerly_worker_states"] = lambda: {"free": 2.0}
        clock = Clock(wall=self.cdn.clock.wall, monotonic=lambda: self.now_s)
        authenticator = Authenticator(self.tokens, is_local=self.is_local, now_s=clock.monotonic)
        self.dashboard = Dashboard(
            self.settings,
            telemetry=self.telemetry,
            clock=clock,
            authenticator=authenticator,
            gauges=gauges,
            photographs=Photographs(
                self.settings,
                self.originals,
                self.cdn.renditions,
                self.library,
                self.cdn.origin,
                Downloads(
                    self.settings,
                    self.cdn.miss_limiter,
                    self.originals,
                    authorizer,
                    self.cdn.facts,
                    self.cdn.inspector.record,
                ),
                is_writable=self.is_writable,
                signer=self.signer,
                patience_s=self.patience_s,
            ),
            workers=lambda: self.workers,
        )
        self.application = AdminApplication(
            all_routes(handlers, self.health, Metrics(self.telemetry, gauges, "8.18")),
            authenticator,
            self.settings,
            self.telemetry,
            clock=self.cdn.clock,
            pages=self.dashboard,
        )

    async def request(
        self,
        method: str,
        path: str | bytes,
        *,
        body: Iterable[bytes] | bytes = b"",
        headers: dict[str, str] | None = None,
        disconnects_early: bool = False,
        client: str = "127.0.0.1",
        scheme: str = "http",
    ) -> AdminResponse:
        """Send a request; with `disconnects_early` the client disconnects before the end of its body."""
        sent: list[MutableMapping[str, Any]] = []
        chunks = [body] if isinstance(body, bytes) else list(body)
        events: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": disconnects_early or count < len(chunks)}
            for count, chunk in enumerate(chunks, 1)
        ]
        events.append({"type": "http.disconnect"})

        async def receive() -> MutableMapping[str, Any]:
            return events.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        raw_path, _, query = (path.encode() if isinstance(path, str) else path).partition(b"?")
        sent_headers = {"host": "127.0.0.1:9000"} | (headers or {})
        scope = {
            "type": "http",
            "method": method,
            "raw_path": raw_path,
            "query_string": query,
            "client": (client, 4711),
            "scheme": scheme,
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent_headers.items()],
        }
        await self.application(scope, receive, send)
        start, *rest = sent
        assert [one.get("more_body", False) for one in rest] == [True] * (len(rest) - 1) + [False]
        names = [name for name, _ in start["headers"]]
        assert len(names) == len(set(names)), "a header is sent twice"
        response_headers = {name.decode("ascii"): value.decode("ascii") for name, value in start["headers"]}
        content = b"".join(one["body"] for one in rest)
        with contextlib.suppress(KeyError):
            assert method == "HEAD" or int(response_headers["content-length"]) == len(content)
        return AdminResponse(start["status"], response_headers, content)

    async def put(self, key: str, content: bytes = PHOTOGRAPH, *, replace: bool = False) -> AdminResponse:
        """Upload an original."""
        query = "?replace=true" if replace else ""
        return await self.request("PUT", f"/originals/{key}{query}", body=content)
