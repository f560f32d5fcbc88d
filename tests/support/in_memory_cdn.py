"""Builds a CDN in memory: originals and renditions in dictionaries, and a fake renderer.

A rendered body is the text of the original's version and the target, so that a test can see what it was
made from. A `Gate` holds calls until the test opens it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import Authorizer
from galerly_cdn.clock import Clock
from galerly_cdn.downloads import Downloads
from galerly_cdn.edge import Edge
from galerly_cdn.errors import NoSuchOriginal, Unsettled
from galerly_cdn.facts import OriginalFacts
from galerly_cdn.fill import Filler
from galerly_cdn.http.exchange import Application
from galerly_cdn.http.urls import AllowList
from galerly_cdn.inspector import Inspector
from galerly_cdn.model import (
    OWN_FORMATS,
    Facts,
    Format,
    Head,
    Job,
    Listed,
    Picture,
    Record,
    Rendered,
    Rendition,
    Target,
    ignore_facts,
)
from galerly_cdn.rate_limit import MissLimiter
from galerly_cdn.recipe_list import RecipeList
from galerly_cdn.recipes import Recipe
from galerly_cdn.render import header
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.interfaces import Original, StoredObject, Usage, keeps_same
from galerly_cdn.stored_renditions import StoredRenditions
from galerly_cdn.telemetry import Counters, Telemetry, TrafficStatistics

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Mapping,
        MutableMapping,
        Sequence,
    )
    from typing import Any

    from galerly_cdn.access.signing import Verifier
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.exchange import Handler
    from galerly_cdn.model import FactRecord, Learn, RecipeEntry
    from galerly_cdn.store.interfaces import FactRecords, Keeps
    from galerly_cdn.telemetry import AccessLog, AccessRecord, AuditRecord


class Gate:
    """Holds calls until it is opened, and lets a test wait for them."""

    def __init__(self, *, is_open: bool = True) -> None:
        self._open = asyncio.Event()
        self._arrivals = asyncio.Semaphore(0)
        if is_open:
            self._open.set()

    async def passed(self) -> None:
        """Announce an arrival, and wait until the gate is open."""
        self._arrivals.release()
        await self._open.wait()

    async def arrival(self) -> None:
        """Wait for one more arrival."""
        await self._arrivals.acquire()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.clear()


class MemoryOriginals:
    """Originals by key; every `put` makes a new version.

    Reading one passes the gate `chunks` before each chunk; `reading` counts the open reads.
    """

    chunk_bytes = 1000

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self._contents: dict[str, bytes] = {}
        self.chunks = Gate()
        self.reading = 0
        self._versions = itertools.count(1)
        self.error: GalerlyError | None = None
        self.stale_s = 0.0
        """Age of remembered heads; if it is not 0, `error` is raised only for `remembered=False`."""
        self.heads = 0
        self.opened = 0

    def put(self, key: str, length_bytes: int = 1000, content: bytes | None = None) -> str:
        """Upload or replace an original, by default with a text, and return its new version."""
        version = f"v{next(self._versions)}"
        default = f"photograph {version}".encode().ljust(length_bytes, b".")
        self._contents[key] = default if content is None else content
        self._heads[key] = Head(version, len(self._contents[key]))
        return version

    def remove(self, key: str) -> None:
        del self._heads[key]

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        self.heads += 1
        if remembered and self.stale_s:
            return replaced(self._heads[key], stale_s=self.stale_s)
        return self._current(key)

    def known_head(self, key: str) -> Head | None:
        if self.stale_s or self.error is not None or key not in self._heads:
            return None
        self.heads += 1
        return self._heads[key]

    async def open(self, key: str) -> Original:
        self.opened += 1
        head = self._current(key)
        with tempfile.TemporaryFile() as file:
            file.write(self._contents[key])
            file.flush()
            return Original(os.dup(file.fileno()), head)

    async def read(
        self, key: str, version: str, first: int, length_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        self.reading += 1
        try:
            for at in range(first, first + length_bytes, self.chunk_bytes):
                await self.chunks.passed()
                if self._current(key).version != version:
                    raise Unsettled
                yield self._contents[key][at : min(at + self.chunk_bytes, first + length_bytes)]
        finally:
            self.reading -= 1

    async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
        for key in sorted(self._heads):
            if key.startswith(prefix) and key > after:
                yield Listed(key, self._heads[key].length_bytes, 0.0)

    async def folders(self, folder: str) -> frozenset[str]:
        prefix = f"{folder}/" if folder else ""
        rest = [key.removeprefix(prefix) for key in self._heads if key.startswith(prefix)]
        return frozenset(one.partition("/")[0] for one in rest if "/" in one)

    def _current(self, key: str) -> Head:
        if self.error is not None:
            raise self.error
        if key not in self._heads:
            raise NoSuchOriginal
        return self._heads[key]


class MemoryRenditions:
    """Renditions by their key in the store, and fact records by their original's.

    Puts pass the gate `puts` or `fact_puts`, then raise `error` if it is set.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Rendition] = {}
        self.records: dict[str, FactRecord] = {}
        self.fact_puts = Gate()
        self.listed: list[RecipeEntry] = []
        self.lists_read = 0
        self.list_error: GalerlyError | None = None
        self.facts_read = 0
        self.facts_written: list[FactRecord] = []
        self.is_near = False
        """Whether reading a rendition needs no waiting."""
        self.error: GalerlyError | None = None
        self.puts = Gate()
        self.gets = 0
        self.begins_puts = False
        """Whether fills do not wait for puts, as in a folder."""

    async def head(self, key: str, target: Target) -> StoredObject | None:
        found = self.kept.get(target.rendition_key(key))
        return StoredObject(found.record.version, 0.0) if found else None

    def known(self, key: str, target: Target) -> Rendition | None:
        return self.kept.get(target.rendition_key(key)) if self.is_near else None

    async def get(self, key: str, target: Target) -> Rendition | None:
        self.gets += 1
        return self.kept.get(target.rendition_key(key))

    async def record(self, key: str, target: Target) -> Record | None:
        rendition = await self.get(key, target)
        return rendition.record if rendition else None

    async def put(self, rendition: Rendition, keeps: Keeps | None = None) -> Rendition:
        await self.puts.passed()
        if self.error is not None:
            raise self.error
        stored_key = rendition.record.target.rendition_key(rendition.record.key)
        stored = self.kept.get(stored_key)
        if stored is not None and (keeps or keeps_same(rendition.record))(stored.record):
            return stored
        self.kept[stored_key] = rendition
        return rendition

    def begin_put(self, rendition: Rendition, keeps: Keeps) -> Awaitable[Rendition] | None:
        return self.put(rendition, keeps) if self.begins_puts else None

    def usage(self) -> Usage | None:
        return Usage(len(self.kept), sum(len(one.body) for one in self.kept.values()))

    async def targets(self) -> frozenset[Target]:
        return frozenset(one.record.target for one in self.kept.values())

    async def entries(self, after: int = 0) -> tuple[RecipeEntry, ...]:
        self.lists_read += 1
        if self.list_error is not None:
            raise self.list_error
        return tuple(self.listed[after:])

    async def append(self, entry: RecipeEntry) -> bool:
        if self.list_error is not None:
            raise self.list_error
        if entry.number <= len(self.listed):
            return False
        self.listed.append(entry)
        return True

    async def delete(self, key: str, target: Target) -> bool:
        return self.kept.pop(target.rendition_key(key), None) is not None

    async def facts(self, key: str) -> FactRecord | None:
        self.facts_read += 1
        return self.records.get(key)

    async def put_facts(self, record: FactRecord) -> None:
        await self.fact_puts.passed()
        if self.error is not None:
            raise self.error
        self.records[record.key] = record
        self.facts_written.append(record)

    async def delete_facts(self, key: str) -> None:
        self.records.pop(key, None)


FACTS = Facts("jpeg", 60, 40, 1, 1, 8, 3, False, False, None, (), (), 9600, 0)
"""What fake renderers read in every header."""
REVISION = "revision-1"


def original_facts(
    store: FactRecords,
    *,
    settings: Settings | None = None,
    revision: str = REVISION,
    count: Callable[[str], None] = lambda _event: None,
) -> OriginalFacts:
    """The records of a store."""
    limits = (settings or Settings()).limits
    return OriginalFacts(store, revision=revision, limits=limits, count=count)


class CountingRenderer:
    """Counts renders. Each passes `admissions`, then raises `refusal` if it is set.

    Then it passes `gate`, and raises `error` if it is set, or returns token and target. Unless the original
    is known to be good, the facts are learnt before: `facts`, or none.
    """

    def __init__(self) -> None:
        self.admissions = Gate()
        self.refusal: Exception | None = None
        self.gate = Gate()
        self.error: Exception | None = None
        self.renders = self.inspections = 0
        self.tokens: list[str] = []
        self.jobs: list[Job] = []
        """The jobs of `warm`."""
        self.warms_ended = 0
        self.length_bytes = 0
        """The minimum length of a body."""
        self.lost: tuple[str, ...] = ()
        self.facts: Facts | None = FACTS
        self.known: list[FactRecord | None] = []
        """What was known at each render."""

    @contextlib.asynccontextmanager
    async def admit(self, length_bytes: int, job: Job | None, token: str) -> AsyncIterator[CountingRenderer]:
        assert length_bytes > 0 or job is None
        assert job is None or len(job.pictures) == 1
        assert token
        await self.admissions.passed()
        if self.refusal is not None:
            raise self.refusal
        yield self

    async def render_if_free(
        self, fd: int, length_bytes: int, job: Job, token: str
    ) -> tuple[Rendered, bytes]:
        return await self.render(fd, length_bytes, job, token)

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        """Read the header, as the package does without a worker."""
        assert token
        self.inspections += 1
        await self.gate.passed()
        return header.inspect(os.pread(fd, length_bytes, 0))

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
        (picture,) = job.pictures
        self._learn(known, learn)
        return await self._render(fd, length_bytes, picture.target, token)

    async def warm(
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
    ) -> AsyncGenerator[tuple[Rendered, bytes], None]:
        """Render in reverse order: the order is the renderer's choice."""
        self.jobs.append(job)
        self._learn(known, learn)
        try:
            for picture in reversed(job.pictures):
                yield await self._render(fd, length_bytes, picture.target, token)
        finally:
            self.warms_ended += 1

    def _learn(self, known: FactRecord | None, learn: Learn) -> None:
        self.known.append(known)
        if self.facts is not None and not (known and known.is_good):
            learn(self.facts)

    async def _render(self, fd: int, length_bytes: int, target: Target, token: str) -> tuple[Rendered, bytes]:
        os.fstat(fd)  # still open
        assert length_bytes > 0
        self.renders += 1
        self.tokens.append(token)
        await self.gate.passed()
        os.fstat(fd)
        if self.error is not None:
            raise self.error
        body = f"{token} at {target}".encode().ljust(self.length_bytes, b".")
        form = target.format or Format.JPEG
        return Rendered(target, form, 8, 6, len(body), hashlib.md5(body).hexdigest(), self.lost), body


def rendition(
    key: str = "g/photo.jpg",
    *,
    body: bytes = b"0123456789",
    form: Format = Format.JPEG,
    lost: tuple[str, ...] = (),
) -> Rendition:
    """A rendition of `key` with `body`."""
    target = Target(Settings().size_rules[0].size)
    md5 = hashlib.md5(body).hexdigest()
    return Rendition(Record(key, target, "v1", "r1", form, 8, 6, len(body), md5, lost), body)


@dataclass
class Answer:
    """A response, as a viewer received it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """An error's code."""
        return str(json.loads(self.body)["error"]["code"])

    @property
    def lasting_headers(self) -> dict[str, str]:
        """The headers without those that can differ from one request to the next."""
        transient = {"cache-status", "server-timing"}
        if self.headers.get("content-type") == "application/json":
            transient.add("content-length")  # request ids differ in length
        return {name: value for name, value in self.headers.items() if name not in transient}


@dataclass
class InMemoryCdn:
    """The edge, the filler and the application over the fakes."""

    settings: Settings = field(default_factory=Settings)
    log: AccessLog | None = None
    originals: MemoryOriginals = field(default_factory=MemoryOriginals)
    renditions: MemoryRenditions = field(default_factory=MemoryRenditions)
    renderer: CountingRenderer = field(default_factory=CountingRenderer)
    digest: str = "recipe-1"
    now_s: float = 1000.0
    """Of the clock of the miss limiter and the list of recipes."""

    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the clients have disconnected."""

    def __post_init__(self) -> None:
        self.records: list[AccessRecord] = []
        self.audits: list[AuditRecord] = []
        self.counters = Counters()
        ticks = itertools.count()
        self.telemetry = _Recording(
            self.counters,
            self.log,
            traffic=TrafficStatistics(),
        )
        self.clock = Clock(wall=lambda: 1_700_000_000.0, monotonic=lambda: float(next(ticks)))
        self.telemetry.records = self.records
        self.telemetry.audits = self.audits
        self.facts = original_facts(self.renditions, settings=self.settings, count=self.counters.count)
        self.listed = RecipeList(
            self.renditions,
            self._recipes(),
            clock=Clock(self.clock.wall, lambda: self.now_s),
            count=self.counters.count,
        )
        self.origin = Filler(
            originals=self.originals,
            stored=StoredRenditions(self.renditions, self.facts, self.listed),
            renderer=self.renderer,
            facts=self.facts,
            clock=self.clock.monotonic,
            count=self.counters.count,
        )
        self.inspector = Inspector(self.originals, self.renderer, self.facts, self.listed.recipes)
        self.miss_limiter = MissLimiter(self.originals, self.settings, lambda: self.now_s)
        self.edge = self.edge_with(None)
        self.application = self.application_of(lambda _path: self.edge.answer)

    def application_of(self, route: Callable[[bytes], Handler]) -> Application:
        """An application with the settings, the clock and the telemetry of this CDN."""
        return Application(
            route,
            self.settings,
            self.telemetry,
            clock=self.clock,
            find_hit=lambda exchange: self.edge.find_hit(exchange),  # noqa: PLW0108 - tests replace the edge
        )

    def edge_with(self, verifier: Verifier | None) -> Edge:
        """An edge whose authorizer uses the verifier."""
        settings = self.settings
        authorizer = Authorizer(
            settings.private_prefixes,
            verifier,
            self.clock.wall,
            signs_originals=settings.sign_originals,
        )
        return Edge(
            settings=settings,
            allowed=AllowList(settings.size_rules),
            miss_limiter=self.miss_limiter,
            renditions=self.renditions,
            stored=self.origin.stored,
            filler=self.origin,
            authorizer=authorizer,
            downloads=Downloads(
                settings, self.miss_limiter, self.originals, authorizer, self.facts, self.inspector.record
            ),
        )

    def _recipes(self) -> Mapping[Target, Recipe]:
        targets = {
            Target(rule.size, form): rule.qualities
            for rule in self.settings.size_rules
            for form in (None, *rule.qualities)
        }
        return {
            target: Recipe(
                Job((Picture(target, qualities),), self.settings.limits),
                dict.fromkeys((target.format,) if target.format else OWN_FORMATS, self.digest),
            )
            for target, qualities in targets.items()
        }

    async def ask(
        self,
        path: str | bytes,
        method: str = "GET",
        *,
        query: bytes = b"",
        extra: Sequence[tuple[bytes, bytes]] = (),
        client: str = "192.0.2.1",
        **headers: str,
    ) -> Answer:
        """Send one request. `if_none_match="…"` is the header If-None-Match; `extra` can repeat headers."""
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            await self.disconnected.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode("ascii") if isinstance(path, str) else path,
            "query_string": query,
            "client": (client, 4711),
            "headers": [
                *extra,
                *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
            ],
        }
        await self.application(scope, receive, send)
        start, *rest = sent
        assert [one.get("more_body", False) for one in rest] == [True] * (len(rest) - 1) + [False]
        names = [name for name, _ in start["headers"]]
        assert len(names) == len(set(names)), "a header is sent twice"
        received = {name.decode("ascii"): value.decode("ascii") for name, value in start["headers"]}
        return Answer(start["status"], received, b"".join(one["body"] for one in rest))


class _Recording(Telemetry):
    """Keeps the records for tests."""

    records: list[AccessRecord]
    audits: list[AuditRecord]

    def audit(self, record: AuditRecord) -> None:
        self.audits.append(record)

    def record(self, record: AccessRecord, result: str = "") -> None:
        self.records.append(record)
        super().record(record, result)
