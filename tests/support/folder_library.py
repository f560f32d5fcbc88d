"""A `StoreLibrary` over real folders, with a fake renderer."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from galerly_cdn.clock import Clock
from galerly_cdn.http.urls import checked_key
from galerly_cdn.inspector import Inspector
from galerly_cdn.library import StoreLibrary
from galerly_cdn.model import Format, Record, Refreshed, Rendition, ignore_facts
from galerly_cdn.recipe_list import RecipeList
from galerly_cdn.recipes import recipes_of
from galerly_cdn.retries import RENDERERS_BUSY, Retries
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.uploads import WritableFolderOriginals
from tests.support.in_memory_cdn import FACTS, Answer, CountingRenderer, original_facts
from tests.support.rendition_folders import open_folder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, MutableMapping
    from pathlib import Path
    from typing import Any

    from galerly_cdn.app.server import Cdn
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.fill import Warmed
    from galerly_cdn.library import Accepted
    from galerly_cdn.model import FactRecord, Facts, Job, Learn, Rendered, Target
    from galerly_cdn.store.interfaces import Renditions

MAX_BYTES = 1000
REFRESHED = (Refreshed(kind="front", address="http://10.0.0.8"),)
PHOTOGRAPH = b"a photograph of the sea"


class FakeRenderer(CountingRenderer):
    """Reads every original as a JPEG of 60 × 40; `inspect` raises `inspect_error` if it is set."""

    inspect_error: GalerlyError | None = None
    header = FACTS
    inspected = b""
    """The bytes that the last inspection could read."""
    may_write = True
    """Whether it could have written to the file."""

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        self.inspected = os.pread(fd, MAX_BYTES, 0)
        self.may_write = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        assert len(self.inspected) == length_bytes
        self.tokens.append(token)
        if self.inspect_error is not None:
            raise self.inspect_error
        return self.header

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
        await self.inspect(fd, length_bytes, token)
        return await super().render(fd, length_bytes, job, token, known=known, learn=learn)


@dataclass
class FolderLibrary:
    """The library, its stores and its renderer, and a record of what it has invalidated."""

    root: Path
    originals: WritableFolderOriginals
    renditions: Renditions
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.renderer = FakeRenderer()
        self.forgotten: list[tuple[str, str]] = []
        """The key and target of every rendition that was dropped from the CDN's memory."""
        self.invalidated: list[tuple[str, list[str]]] = []
        """Every invalidated key, with the renditions that were still stored then."""
        self.invalidation_error: GalerlyError | None = None
        self.refreshed: list[tuple[str, list[str]]] = []
        """Every refreshed key, with the renditions that were still stored then."""
        self.recipes = recipes_of(self.settings, "8.18")
        self.facts = original_facts(self.renditions, settings=self.settings)
        self.inspector = Inspector(self.originals, self.renderer, self.facts, self.recipes)
        self.store_library = StoreLibrary(
            originals=self.originals,
            renditions=self.renditions,
            turns=Retries(RENDERERS_BUSY, 0, lambda: 0.0),
            inspector=self.inspector,
            facts=self.facts,
            listed=RecipeList(
                self.renditions, self.recipes, clock=Clock(lambda: 0.0, lambda: 0.0), count=lambda _: None
            ),
            max_bytes=MAX_BYTES,
            warm=self._warm,
            forget=self._forget,
            invalidate=self._invalidate,
            refresh=self._refresh,
        )

    async def _forget(self, key: str, targets: Iterable[Target]) -> None:
        await asyncio.sleep(0)
        self.forgotten += [(key, str(target)) for target in targets]

    async def _invalidate(self, key: str) -> None:
        if self.invalidation_error is not None:
            raise self.invalidation_error
        self.invalidated.append((key, await self.stored_renditions(key)))

    async def _refresh(self, key: str, targets: Iterable[Target]) -> tuple[Refreshed, ...]:
        assert set(targets) >= set(self.recipes)
        self.refreshed.append((key, await self.stored_renditions(key)))
        return REFRESHED

    async def _warm(self, key: str) -> AsyncGenerator[Warmed, None]:
        raise AssertionError(f"{key}: no test warms here")
        yield

    async def upload(self, key: str, content: bytes = PHOTOGRAPH, *, replaces: bool = False) -> Accepted:
        """Upload in two chunks."""
        half = len(content) // 2
        return await self.store_library.upload(
            key, stream([content[:half], content[half:]]), replaces=replaces
        )

    async def store_renditions(self, key: str, *names: str, version: str = "", recipe: str = "") -> None:
        """Store renditions by their targets' names; they are current by default."""
        version = version or (await self.originals.head(key)).version
        for target, present in self.recipes.items():
            if str(target) in names:
                body = f"{key} at {target}".encode()
                md5 = hashlib.md5(body).hexdigest()
                record = Record(
                    key,
                    target,
                    version,
                    recipe or present.digests[target.format or Format.JPEG],
                    target.format or Format.JPEG,
                    6,
                    4,
                    len(body),
                    md5,
                    ("gps",),
                )
                await self.renditions.put(Rendition(record, body))

    async def stored_renditions(self, key: str) -> list[str]:
        """The names of the stored renditions."""
        return [str(one) for one in self.recipes if await self.renditions.get(key, one)]

    async def keys(self) -> list[str]:
        return [one.key async for one in self.originals.list()]

    def temp_files(self) -> list[str]:
        """The names of unfinished uploads."""
        return [path.name for path in (self.root / ".galerly").iterdir()]

    def content(self, key: str) -> bytes:
        return (self.root / key).read_bytes()


@asynccontextmanager
async def open_folder_library(root: Path) -> AsyncIterator[FolderLibrary]:
    """A library over the folder `root`."""
    originals = root / "originals"
    originals.mkdir()
    async with open_folder(root / "resized") as renditions:
        yield FolderLibrary(
            originals, WritableFolderOriginals(originals, checked_key, now=lambda: 0.0), renditions
        )


async def stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Yield chunks as a request's body arrives."""
    for chunk in chunks:
        yield chunk


async def ask(cdn: Cdn, path: str) -> Answer:
    """The response to a GET request, at once for a plain hit, as the server answers it."""
    scope = {
        "type": "http",
        "method": "GET",
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "client": ("192.0.2.1", 4711),
    }
    hit = cdn.application.answer_hit(scope)
    if hit is not None:
        fields = (line.partition(": ") for line in hit.lines.decode().splitlines())
        return Answer(hit.status, {name: value for name, _, value in fields}, hit.body)
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()  # the client stays connected
        raise AssertionError

    await cdn.application(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, sent[1]["body"])
