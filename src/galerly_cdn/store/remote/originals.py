"""Where are the originals of a remote store, and which version is each? Whole, or not at all."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING, Any, Literal, cast

import obstore

from galerly_cdn.errors import NoSuchOriginal, OriginalExists, StoreUnreachable, TooManyBytes
from galerly_cdn.model import Head, Listed
from galerly_cdn.store import Original
from galerly_cdn.store.remote import MD5, translated
from galerly_cdn.store.remote.heads import Heads
from galerly_cdn.store.spool import Spool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from obstore import ObjectMeta
    from obstore.store import ObjectStore

    from galerly_cdn.config import Settings

_CHUNK_BYTES = 1024 * 1024


class RemoteOriginals:
    """Originals in a remote store. `clock` is monotonic, in seconds."""

    def __init__(self, store: ObjectStore, settings: Settings, clock: Callable[[], float]) -> None:
        self._store = store
        self._max_bytes = settings.max_original_bytes
        self._heads = Heads(
            self._ask, clock, fresh_s=settings.store_fresh_s, stale_s=settings.stale_if_error_s
        )

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        """Version and length. Raises as the interface says."""
        return await (self._heads.get(key) if remembered else self._heads.refreshed(key))

    async def open(self, key: str) -> Original:
        """The whole original in a nameless file: a worker reads files, and has no network."""
        with translated(), tempfile.TemporaryFile(buffering=0) as file:
            found = await obstore.get_async(self._store, key)
            head = _head(found.meta)
            if head.length_bytes > self._max_bytes:
                raise TooManyBytes(f"{head.length_bytes} bytes")
            async for chunk in found.stream(_CHUNK_BYTES):
                file.write(chunk)
            if file.tell() != head.length_bytes:
                raise StoreUnreachable(f"{file.tell()} of {head.length_bytes} bytes came")
            return Original(os.dup(file.fileno()), head)

    async def read(self, key: str, version: str, first: int, length_bytes: int) -> AsyncGenerator[bytes]:
        """So many bytes of exactly this version, in chunks. Raises as the interface says."""
        left_bytes = length_bytes
        with translated():
            found = await obstore.get_async(
                self._store,
                key,
                options={"if_match": f'"{version}"', "range": (first, first + length_bytes)},
            )
            async for chunk in found.stream(_CHUNK_BYTES):
                left_bytes -= len(chunk)
                yield bytes(chunk)
        if left_bytes:
            raise StoreUnreachable(f"{left_bytes} of {length_bytes} bytes did not come")

    async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
        """The originals under `prefix` after `after`. Raises as the interface says."""
        folder = prefix.rpartition("/")[0]  # obstore's prefixes are whole segments
        with translated():
            pages = obstore.list(self._store, prefix=folder, offset=after or None)
            async for page in pages:
                for meta in page:
                    if meta["path"].startswith(prefix):
                        yield Listed(meta["path"], meta["size"], meta["last_modified"].timestamp())

    def spool(self) -> Spool:
        """A file on this machine."""
        return Spool(None)

    async def put(
        self, key: str, spool: Spool, *, media_type: str, md5: str, replaces: bool
    ) -> tuple[Head, bool]:
        """Store what was spooled. Raises as the interface says."""
        attributes: Any = {"Content-Type": media_type, MD5: md5}
        mode: Literal["overwrite", "create"] = "overwrite" if replaces else "create"
        try:
            with translated(), mmap.mmap(spool.fd, 0, prot=mmap.PROT_READ) as content:  # not in our memory
                result = await obstore.put_async(
                    self._store, key, content, attributes=attributes, mode=mode, use_multipart=False
                )
        except OriginalExists:
            return await self._same(key, md5), False
        head = Head(_version(cast("str", result["e_tag"])), spool.length_bytes)
        self._heads.learn(key, head)
        return head, True

    async def delete(self, key: str) -> bool:
        """Remove; whether there was one. Raises as the interface says."""
        try:
            await self._heads.refreshed(key)
        except NoSuchOriginal:
            return False
        with translated():
            await obstore.delete_async(self._store, key)
        self._heads.learn(key, None)
        return True

    async def _same(self, key: str, md5: str) -> Head:
        """The head of what is there, if it is what we meant to create. Raises `OriginalExists`.

        A retried create finds its own first try; and an upload may be repeated to be sure.
        """
        with translated():
            found = await obstore.get_async(self._store, key, options={"head": True})
        if dict(found.attributes).get(MD5) != md5:
            raise OriginalExists
        return _head(found.meta)

    async def _ask(self, key: str) -> Head:
        with translated():
            return _head(await obstore.head_async(self._store, key))


def _head(meta: ObjectMeta) -> Head:
    etag = meta["e_tag"]
    return Head(_version(etag) if etag else f"{meta['last_modified'].timestamp()}", meta["size"])


def _version(etag: str) -> str:
    """A strong ETag without its quotes."""
    return etag.strip('"')
