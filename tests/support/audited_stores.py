"""Stores with what an audit finds in them: folders and buckets, their items, and a judge over them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from galerly_cdn.audit.caches import RememberedCaches
from galerly_cdn.audit.cleaner import Cleaner
from galerly_cdn.audit.index import open_index
from galerly_cdn.audit.judge import Judge
from galerly_cdn.audit.judgement import Reason, Rules, Selection
from galerly_cdn.audit.survey import Survey
from galerly_cdn.errors import NoSuchOriginal
from galerly_cdn.http.urls import checked_key
from galerly_cdn.model import (
    FactRecord,
    Format,
    Limits,
    RecipeEntry,
    Record,
    Refusal,
    Rendition,
    Size,
    Target,
)
from galerly_cdn.recipes import Ranks
from galerly_cdn.store.folder.stored_files import OriginalFiles, RenditionFiles, UploadFiles
from galerly_cdn.store.folder.uploads import WritableFolderOriginals
from galerly_cdn.store.stored_items import Kind
from tests.support.rendition_folders import file_of, open_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from galerly_cdn.audit.expired import ExpiredOriginals
    from galerly_cdn.audit.result import Audit, Removed
    from galerly_cdn.model import Head
    from galerly_cdn.settings.expire import ExpireRule
    from galerly_cdn.store.interfaces import Originals, Renditions, WritableOriginals
    from galerly_cdn.store.stored_items import OriginalItems, StoredItems
    from tests.support.s3_servers import Objects

SMALL, LARGE = Size(150, 150), Size(800, 600)
ALLOWED = (Target(SMALL), Target(SMALL, Format.JPEG), Target(SMALL, Format.WEBP), Target(LARGE))
GONE = Target(Size(1, 1))
"""A target that is not in the allow-list."""
RECIPE, EARLIER_RECIPE = "recipe 2", "recipe 1"
LIMITS = Limits(max_pixels=10**8, max_frames=256, max_coefficient_bytes=1 << 29)
HOURS_S = 2 * 3600.0
"""The judge's clock is so far ahead that nothing is young."""


class Place(Protocol):
    """Where a store is, and what other programs do there."""

    def roots(self) -> tuple[StoredItems, ...]: ...

    def listing(self, originals: Originals) -> OriginalItems: ...

    def put(self, name: str, content: bytes) -> None:
        """Store something at a path: `originals/…`, `resized/…`."""
        ...

    def misname(self, rendition: Rendition) -> None:
        """Store a rendition under an earlier spelling of its key."""
        ...

    def damage(self, key: str, target: Target) -> None: ...

    def leave_temporary(self) -> None:
        """Leave a temporary file, as a killed process does, and one that is in use."""
        ...


@dataclass
class FolderPlace:
    root: Path
    opened: contextlib.ExitStack

    def roots(self) -> tuple[StoredItems, ...]:
        return (
            RenditionFiles(self.root / "resized", self.now),
            UploadFiles(self.root / "originals", self.now),
        )

    def now(self) -> float:
        return time.time()

    def listing(self, originals: Originals) -> OriginalItems:
        return OriginalFiles(self.root / "originals", originals)

    def put(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def misname(self, rendition: Rendition) -> None:
        path = file_of(self.root / "resized", rendition.record.key, rendition.record.target)
        digits = hashlib.sha256(
            f"{rendition.record.target}/{rendition.record.key} earlier".encode()
        ).hexdigest()
        moved = path.parents[1] / digits[:2] / digits
        moved.parent.mkdir(exist_ok=True)
        path.rename(moved)

    def damage(self, key: str, target: Target) -> None:
        path = file_of(self.root / "resized", key, target)
        path.write_bytes(path.read_bytes()[:-1])

    def leave_temporary(self) -> None:
        self.put("resized/ab/.put-killed", b"half a pic")
        self.put("resized/recipes/.put-killed", b"{")
        self.put("originals/.galerly/incoming-killed", b"half a pho")
        self.put("originals/.galerly/incoming-in-use", b"half a pho")
        writer = self.opened.enter_context((self.root / "originals/.galerly/incoming-in-use").open("rb"))
        fcntl.flock(writer, fcntl.LOCK_EX)

    temporary = 3


@dataclass
class RemotePlace:
    objects: Objects

    def roots(self) -> tuple[StoredItems, ...]:
        from galerly_cdn.store.remote.stored_objects import RenditionObjects, UploadObjects

        days_ahead = lambda: time.time() + 2 * 86_400  # noqa: E731 - the server alone dates objects
        return (
            RenditionObjects(self.objects.root("resized")),
            UploadObjects(self.objects.root("incoming"), days_ahead),
        )

    def listing(self, originals: Originals) -> OriginalItems:
        from galerly_cdn.store.remote.stored_objects import OriginalObjects

        del originals
        return OriginalObjects(self.objects.root("originals"))

    def put(self, name: str, content: bytes) -> None:
        self.objects.put(name, content)

    def misname(self, rendition: Rendition) -> None:
        record = rendition.record
        now = f"resized/{record.target.rendition_key(record.key)}"
        found = self.objects.server.client.get_object(Bucket=self.objects.name, Key=now)
        earlier = f"resized/{record.target}/{record.key} earlier"
        self.objects.put(
            earlier, found["Body"].read(), ContentType=found["ContentType"], Metadata=found["Metadata"]
        )
        self.objects.remove(now)

    def damage(self, key: str, target: Target) -> None:
        self.objects.put(f"resized/{target.rendition_key(key)}", b"another program's")

    def leave_temporary(self) -> None:
        self.put("incoming/2f1b", b"a photograph that nobody completed")

    temporary = 1


@dataclass
class AuditedStore:
    """A store under audit; its contents never recur, so that no version does."""

    place: FolderPlace | RemotePlace
    originals: WritableOriginals
    renditions: Renditions
    number: int = 0
    expire: tuple[ExpireRule, ...] = ()
    ahead_s: float = HOURS_S
    invalidated: list[str] = field(default_factory=list)

    async def list_recipes(self) -> None:
        for number, recipe in enumerate((EARLIER_RECIPE, RECIPE), 1):
            names = [str(Target(size, form)) for size in (SMALL, LARGE, GONE.size) for form in Format]
            await self.renditions.append(RecipeEntry(number, dict.fromkeys(names, recipe), "1.0", 0.0))

    async def upload(self, key: str) -> Head:
        """Upload a photograph, over an earlier one."""
        self.number += 1
        content = b"photograph %d" % self.number
        with self.originals.upload_file() as file:
            file.write(content)
            head, _ = await self.originals.put(
                key, file, media_type="image/jpeg", md5=hashlib.md5(content).hexdigest(), replaces=True
            )
        return head

    async def version(self, key: str) -> str:
        """Of the present original; empty if there is none."""
        try:
            return (await self.originals.head(key, remembered=False)).version
        except NoSuchOriginal:
            return ""

    async def fill(self, key: str, target: Target, *, version: str = "", recipe: str = RECIPE) -> Rendition:
        """Store a rendition, of the present version if none is named, as a fill does."""
        self.number += 1
        version = version or await self.version(key) or "deleted"
        body = f"{key} at {target}, number {self.number}".encode()
        form = target.format or Format.JPEG
        md5 = hashlib.md5(body).hexdigest()
        record = Record(key, target, version, recipe, form, 6, 4, len(body), md5)
        rendition = Rendition(record, body)
        return await self.renditions.put(rendition, lambda _: False)

    async def learn(self, key: str, *, version: str = "", code: str = "") -> None:
        """Store the fact record of an original, with a refusal if it has a code."""
        refusal = Refusal(code, "The photograph is damaged.", "") if code else None
        version = version or await self.version(key)
        await self.renditions.put_facts(FactRecord(key, version, "revision", None, not code, refusal))

    async def purge(self, key: str) -> None:
        for target in (*ALLOWED, GONE):
            await self.renditions.delete(key, target)
        await self.renditions.delete_facts(key)

    async def current(self) -> set[tuple[str, str]]:
        """Key and target of every rendition that a server serves now."""
        found: set[tuple[str, str]] = set()
        for root in self.place.roots():
            for part in await root.parts():
                async for item in root.items(part):
                    read = await root.read(item)
                    if read and read.kind is Kind.RENDITION and await self.is_current(read.record):
                        found.add((read.key, str(read.target)))
        return found

    async def is_current(self, record: Record | None) -> bool:
        if record is None or record.recipe != RECIPE or record.target not in ALLOWED:
            return False
        return record.version == await self.version(record.key)

    def judge(self, roots: tuple[StoredItems, ...] = (), originals: Originals | None = None) -> Judge:
        rules = Rules(frozenset(ALLOWED), Ranks.of(()), self.expire)
        return Judge(
            roots or self.place.roots(),
            originals or self.originals,
            self.renditions,
            rules,
            lambda: time.time() + self.ahead_s,
        )

    async def audit(self, selection: Selection = Selection(), max_bytes: int = 1000) -> Audit:  # noqa: B008 - frozen
        audit, _ = await self.run(selection, max_bytes=max_bytes)
        return audit

    async def clean(self, selection: Selection = Selection(is_expired=False)) -> list[Removed]:  # noqa: B008 - frozen
        _, removed = await self.run(selection, removes=True)
        return removed

    async def run(
        self,
        selection: Selection,
        *,
        removes: bool = False,
        judge: Judge | None = None,
        expired: ExpiredOriginals | None = None,
        caches: RememberedCaches | None = None,
        max_bytes: int = 1000,
    ) -> tuple[Audit, list[Removed]]:
        """Audit the store, then remove or preview what was found; both results."""
        judge = judge or self.judge()
        removed: list[Removed] = []

        async def invalidate(keys: Sequence[str]) -> None:
            self.invalidated += keys

        caches = caches or RememberedCaches(invalidate, None)

        await judge.read_recipes()
        with open_index() as index:
            survey = Survey(
                judge,
                self.place.listing(self.originals),
                index,
                selection=selection,
                limits=LIMITS,
                max_bytes=max_bytes,
            )
            audit = await survey.run()
            cleaner = Cleaner(judge, selection, caches=caches, show=removed.append, expired=expired)
            if removes:
                await cleaner.remove(index.findings())
            else:
                cleaner.preview(index.findings())
        return audit, removed


@asynccontextmanager
async def open_audited_store(root: Path, objects: Objects | None = None) -> AsyncIterator[AuditedStore]:
    """A store in a folder, or in a bucket, with its list of recipes and no originals."""
    with contextlib.ExitStack() as opened:
        if objects is not None:
            store = AuditedStore(RemotePlace(objects), objects.originals(), objects.renditions())
            await store.list_recipes()
            yield store
            return
        (root / "originals").mkdir(parents=True)
        originals = WritableFolderOriginals(root / "originals", checked_key, now=time.time)
        async with open_folder(root / "resized", now_s=time.time()) as renditions:
            store = AuditedStore(FolderPlace(root, opened), originals, renditions)
            await store.list_recipes()
            yield store


async def fill_with_everything(store: AuditedStore) -> dict[Reason, int]:
    """Store an example of whatever can be removed, beside what is current; how many there are by reason."""
    place, target = store.place, ALLOWED[0]
    for key in ("g/good.jpg", "g/häufig, 1.jpg", "h/replaced.jpg", "deleted.jpg", "g/damaged file.jpg"):
        before = await store.upload(key)
        for one in ALLOWED:
            await store.fill(key, one)
        if key == "h/replaced.jpg":
            await store.upload(key)
        elif key == "deleted.jpg":
            await store.originals.delete(key)
            await store.learn(key, version=before.version)
    await store.learn("g/good.jpg")
    await store.learn("h/replaced.jpg", version="earlier")
    await store.learn("g/damaged file.jpg", code="undecodable")
    await store.upload("g/1.jpg")
    await store.fill("g/1.jpg", target, recipe=EARLIER_RECIPE)
    await store.fill("g/1.jpg", ALLOWED[1], recipe="never listed")
    await store.fill("g/1.jpg", GONE)
    place.misname(await store.fill("g/1.jpg", ALLOWED[2]))
    await store.fill("g/1.jpg", ALLOWED[3])
    place.damage("g/1.jpg", ALLOWED[3])
    place.leave_temporary()
    place.put("resized/other/notes.txt", b"of another program")
    return {
        Reason.ORPHAN: len(ALLOWED) + 1,
        Reason.OUTDATED: len(ALLOWED) + 1 + 2,
        Reason.UNLISTED: 1,
        Reason.MISNAMED: 1,
        Reason.DAMAGED: 1,
        Reason.TEMPORARY: place.temporary,
    }
