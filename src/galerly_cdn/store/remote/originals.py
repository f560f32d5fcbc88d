"""Stores originals in a remote store, and verifies every original it fetches."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import mmap
import os
import re
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import (
    GalerlyError,
    KeyNotHeld,
    NoSuchOriginal,
    OriginalExists,
    StoreCorrupt,
    TooManyBytes,
    Unsettled,
)
from galerly_cdn.http.urls import is_key
from galerly_cdn.model import Head
from galerly_cdn.store.interfaces import Original
from galerly_cdn.store.remote import MD5
from galerly_cdn.store.remote.head_cache import HeadCache
from galerly_cdn.store.temp_files import UploadFile, store_errors, write_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from obstore import GetResult, ObjectMeta

    from galerly_cdn.model import Listed
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.remote.bucket import Bucket

_log = logging.getLogger(__name__)

_MAX_DOWNLOADS = 16
"""Concurrent downloads of originals. Further ones wait; requests for stored renditions do not."""
_RANGE_BYTES = 4 * 1024 * 1024
"""Bytes of each range request for a viewer: a slow viewer does not occupy a connection to the store."""
_ATTEMPTS = 3
_MD5 = re.compile("[0-9a-f]{32}")


class _Download(NamedTuple):
    """A downloaded original, and the MD5 of the bytes received."""

    original: Original
    md5: str
    stored_md5: str
    """The MD5 in the object's metadata; empty for an original that another program uploaded."""

    @property
    def is_verified(self) -> bool:
        """Whether the MD5 is the one in the metadata, else the ETag; True if that is not an MD5 at all.

        An ETag that looks like an MD5 may be something else (SSE-KMS, SSE-C).
        """
        expected_md5 = self.stored_md5 or self.original.head.version
        return self.md5 == expected_md5 or not _MD5.fullmatch(expected_md5)

    def is_same(self, other: _Download) -> bool:
        """Whether both downloads have the same bytes, and the metadata has no other MD5."""
        return self.md5 == other.md5 and not self.stored_md5


class RemoteOriginals:
    """Originals in a remote store. `clock` is monotonic, in seconds."""

    def __init__(self, bucket: Bucket, settings: Settings, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._max_bytes = settings.max_original_bytes
        self._has_warned = False
        self._downloads = asyncio.Semaphore(_MAX_DOWNLOADS)
        self._heads = HeadCache(
            self._request_head, clock, fresh_s=settings.store_fresh_s, stale_s=settings.stale_if_error_s
        )

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        """Version and length. Raises as the interface says."""
        return await (self._heads.get(key) if remembered else self._heads.refresh(key))

    def known_head(self, key: str) -> Head | None:
        """The remembered head, if it is at most `store_fresh_s` old."""
        return self._heads.fresh(key)

    async def open(self, key: str) -> Original:
        """The original, downloaded to an unnamed temporary file: a worker reads files, and has no network.

        An original whose MD5 cannot be verified is downloaded again. If the metadata has no MD5, two
        downloads with the same bytes are accepted if their length is that of the head. Raises `StoreCorrupt`
        as well.
        """
        first = await self._download(key)
        if first.is_verified:
            return first.original
        os.close(first.original.fd)
        second = await self._download(key)
        with contextlib.ExitStack() as on_error:
            on_error.enter_context(second.original)
            if second.is_verified or (
                second.is_same(first) and await self._request_head(key) == second.original.head
            ):
                on_error.pop_all()
                return second.original
        raise StoreCorrupt(f"two downloads have the MD5s {first.md5} and {second.md5}")

    async def read(self, key: str, version: str, first: int, length_bytes: int) -> AsyncGenerator[bytes]:
        """Bytes of exactly this version, by range requests. Raises as the interface says."""
        end = first + length_bytes
        for begin in range(first, end, _RANGE_BYTES):
            part = (begin, min(begin + _RANGE_BYTES, end))
            _, content = await self._bucket.read(key, {"if_match": f'"{version}"', "range": part})
            if len(content) != part[1] - part[0]:
                raise StoreCorrupt(f"the store sent {len(content)} bytes of the range {part}")
            yield content

    async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
        """The originals under `prefix` after `after`. Raises as the interface says.

        Objects of zero bytes are left out: the clouds' consoles create one for each folder. So are those
        whose keys are none of ours. They are counted, and the first one is logged, unless they are hidden.
        """
        folder = prefix.rpartition("/")[0]  # obstore matches prefixes by whole segments
        async for listed in self._bucket.list(folder, after):
            if not listed.key.startswith(prefix):
                if listed.key > prefix:
                    return  # UTF-8 bytes sort as code points do
            elif listed.length_bytes and self._is_key(listed.key):
                yield listed

    async def folders(self, folder: str) -> frozenset[str]:
        """The names of the folders in a folder of keys. Raises as the interface says."""
        return await self._bucket.folders(folder)

    def _is_key(self, key: str) -> bool:
        """Whether a key can be served; one that cannot is counted, unless it is hidden."""
        if is_key(key):
            return True
        if "/." not in f"/{key}" or not {"", ".", ".."}.isdisjoint(key.split("/")):
            self._bucket.count("store-key-skipped")
            if not self._has_warned:
                self._has_warned = True
                _log.warning("the store has objects whose keys cannot be served, such as %s", ascii(key))
        return False

    def upload_file(self) -> UploadFile:
        """A temporary file on this machine."""
        return UploadFile(None)

    async def put(
        self, key: str, upload: UploadFile, *, media_type: str, md5: str, replaces: bool
    ) -> tuple[Head, bool]:
        """Store an upload. Raises as the interface says, and `Unsettled`.

        An existing object with the same MD5 is a success: a retried create finds the object of its first
        attempt, and a client may repeat an upload.
        """
        # Mapped, not read into memory; the last user of the mapping closes it
        with store_errors():
            content = mmap.mmap(upload.fd, 0, prot=mmap.PROT_READ)
        attributes = {"Content-Type": media_type, MD5: md5, **self._bucket.cache_tags(key)}
        last_error: GalerlyError = Unsettled()
        for _ in range(_ATTEMPTS):
            try:
                etag = await self._bucket.put(key, content, attributes, creates=not replaces)
            except KeyNotHeld as error:
                # Servers that store objects as files (versitygw) also answer this while they remove a folder
                last_error = error
                continue
            except OriginalExists:
                try:
                    found, _ = await self._bucket.read(key, {"head": True})
                except NoSuchOriginal:
                    continue  # another writer is creating it now (S3 answers 409), or has deleted it since
                head = _head(found.meta)
                if md5 not in {found.attributes.get(MD5), head.version}:  # the ETag may be the MD5
                    raise
                self._heads.put(key, head)
                return head, False
            head = Head(_version(etag), upload.length_bytes) if etag else await self._request_head(key)
            self._heads.put(key, head)
            return head, True
        raise last_error

    async def delete(self, key: str) -> bool:
        """Remove an original; whether there was one. Raises as the interface says."""
        try:
            await self._heads.refresh(key)
        except NoSuchOriginal:
            return False
        await self._bucket.delete(key)
        self._heads.put(key, None)
        return True

    async def delete_unchanged(self, key: str, version: str) -> bool:
        """Remove an original that still has this version. Raises as the interface says."""
        is_removed = await self._bucket.delete_unchanged(key, version)
        if is_removed:
            self._heads.put(key, None)
        return is_removed

    async def _download(self, key: str) -> _Download:
        digest = hashlib.md5(usedforsecurity=False)

        async with self._downloads:
            with store_errors():
                file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by the next context
            with file:

                def write(found: GetResult, chunk: bytes) -> None:
                    if found.meta["size"] > self._max_bytes:
                        raise TooManyBytes(f"the object has {found.meta['size']} bytes")
                    digest.update(chunk)
                    write_all(file.fileno(), chunk)

                found = await self._bucket.download(key, write)
                head = _head(found.meta)
                if (received := os.fstat(file.fileno()).st_size) != head.length_bytes:
                    raise StoreCorrupt(f"the store sent {received} of {head.length_bytes} bytes")
                with store_errors():
                    fd = os.dup(file.fileno())
                return _Download(Original(fd, head), digest.hexdigest(), str(found.attributes.get(MD5, "")))

    async def _request_head(self, key: str, *, is_optional: bool = False) -> Head:
        return _head(await self._bucket.head(key, is_optional=is_optional))


def _head(meta: ObjectMeta) -> Head:
    etag = meta["e_tag"]
    return Head(_version(etag) if etag else f"{meta['last_modified'].timestamp()}", meta["size"])


def _version(etag: str) -> str:
    """A strong ETag without its quotes."""
    return etag.strip('"')
