"""Where are the originals of a remote store, and which version is each? Whole, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
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
    Unavailable,
    Unsettled,
)
from galerly_cdn.model import Head, Listed
from galerly_cdn.store.interfaces import Original
from galerly_cdn.store.remote import MD5
from galerly_cdn.store.remote.head_cache import HeadCache
from galerly_cdn.store.temp_files import UploadFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from obstore import GetResult, ObjectMeta

    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.remote.bucket import Bucket

_DOWNLOADS = 16
"""Originals on their way here at once; the others wait, and no viewer of a warm picture with them."""
_PIECE_BYTES = 4 * 1024 * 1024
"""What is asked for at once for a viewer: a slow one keeps no connection to the store waiting."""
_ATTEMPTS = 3
_MD5 = re.compile("[0-9a-f]{32}")


class _Fetched(NamedTuple):
    """An original and the MD5 of the bytes that came."""

    original: Original
    md5: str
    stored_md5: str
    """What we wrote beside it when it was uploaded; empty if somebody else did."""

    @property
    def is_proven(self) -> bool:
        """Whether it is what was stored; an ETag that looks like an MD5 may be none (SSE-KMS, SSE-C)."""
        promised = self.stored_md5 or self.original.head.version
        return self.md5 == promised or not _MD5.fullmatch(promised)

    def is_like(self, other: _Fetched) -> bool:
        """Whether the same bytes came twice, and nobody promised others."""
        return self.md5 == other.md5 and not self.stored_md5


class RemoteOriginals:
    """Originals in a remote store. `clock` is monotonic, in seconds."""

    def __init__(self, bucket: Bucket, settings: Settings, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._max_bytes = settings.max_original_bytes
        self._downloads = asyncio.Semaphore(_DOWNLOADS)
        self._heads = HeadCache(
            self._ask, clock, fresh_s=settings.store_fresh_s, stale_s=settings.stale_if_error_s
        )

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        """Version and length. Raises as the interface says."""
        return await (self._heads.get(key) if remembered else self._heads.refreshed(key))

    async def open(self, key: str) -> Original:
        """The whole original in a nameless file: a worker reads files, and has no network.

        What is not proven by its MD5 is fetched again. If nobody promised one, the same bytes twice will do,
        in the length that a head tells, too. Raises `StoreCorrupt` as well.
        """
        first = await self._fetch(key)
        if first.is_proven:
            return first.original
        os.close(first.original.fd)
        second = await self._fetch(key)
        with contextlib.ExitStack() as unless_good:
            unless_good.enter_context(second.original)
            if second.is_proven or (second.is_like(first) and await self._ask(key) == second.original.head):
                unless_good.pop_all()
                return second.original
        raise StoreCorrupt(f"MD5 {second.md5}, before {first.md5}")

    async def read(self, key: str, version: str, first: int, length_bytes: int) -> AsyncGenerator[bytes]:
        """So many bytes of exactly this version, in pieces. Raises as the interface says."""
        end = first + length_bytes
        for begin in range(first, end, _PIECE_BYTES):
            piece = (begin, min(begin + _PIECE_BYTES, end))
            _, content = await self._bucket.read(key, {"if_match": f'"{version}"', "range": piece})
            if len(content) != piece[1] - piece[0]:
                raise StoreCorrupt(f"{len(content)} bytes of {piece} came")
            yield content

    async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
        """The originals under `prefix` after `after`. Raises as the interface says.

        What has no bytes is no original: consoles put such an object for every folder.
        """
        folder = prefix.rpartition("/")[0]  # obstore's prefixes are whole segments
        async for meta in self._bucket.list(folder, after):
            key = meta["path"]
            if key.startswith(prefix):
                if meta["size"]:
                    yield Listed(key, meta["size"], meta["last_modified"].timestamp())
            elif key > prefix:
                return  # the order of bytes is that of code points

    def upload_file(self) -> UploadFile:
        """A file on this machine."""
        return UploadFile(None)

    async def put(
        self, key: str, upload: UploadFile, *, media_type: str, md5: str, replaces: bool
    ) -> tuple[Head, bool]:
        """Store what was spooled. Raises as the interface says, and `Unsettled`.

        Created already, by the same bytes: a create that was tried again finds its own first try; and an
        upload may be repeated to be sure.
        """
        content = mmap.mmap(upload.fd, 0, prot=mmap.PROT_READ)  # not in our memory; closed by its last user
        attributes = {"Content-Type": media_type, MD5: md5, **self._bucket.label(key)}
        refusal: GalerlyError = Unsettled()
        for _ in range(_ATTEMPTS):
            try:
                etag = await self._bucket.put(key, content, attributes, creates=not replaces)
            except KeyNotHeld as error:  # for good, or while its gallery is being emptied (versitygw)
                refusal = error
                continue
            except OriginalExists:
                try:
                    found, _ = await self._bucket.read(key, {"head": True})
                except NoSuchOriginal:
                    continue  # somebody is just creating it (S3 answers 409), or has deleted it since
                head = _head(found.meta)
                if md5 not in {found.attributes.get(MD5), head.version}:  # an ETag may be the MD5
                    raise
                self._heads.learn(key, head)
                return head, False
            head = Head(_version(etag), upload.length_bytes) if etag else await self._ask(key)
            self._heads.learn(key, head)
            return head, True
        raise refusal

    async def delete(self, key: str) -> bool:
        """Remove; whether there was one. Raises as the interface says."""
        try:
            await self._heads.refreshed(key)
        except NoSuchOriginal:
            return False
        await self._bucket.delete(key)
        self._heads.learn(key, None)
        return True

    async def _fetch(self, key: str) -> _Fetched:
        digest = hashlib.md5(usedforsecurity=False)

        async with self._downloads:
            with tempfile.TemporaryFile(buffering=0) as file:

                def write(found: GetResult, chunk: bytes) -> None:
                    if found.meta["size"] > self._max_bytes:
                        raise TooManyBytes(f"{found.meta['size']} bytes")
                    digest.update(chunk)
                    try:
                        file.write(chunk)
                    except OSError as error:  # this machine's fault, not the store's
                        raise Unavailable(str(error)) from error

                found = await self._bucket.download(key, write)
                head = _head(found.meta)
                if file.tell() != head.length_bytes:
                    raise StoreCorrupt(f"{file.tell()} of {head.length_bytes} bytes came")
                return _Fetched(
                    Original(os.dup(file.fileno()), head),
                    digest.hexdigest(),
                    str(found.attributes.get(MD5, "")),
                )

    async def _ask(self, key: str, *, is_optional: bool = False) -> Head:
        return _head(await self._bucket.head(key, is_optional=is_optional))


def _head(meta: ObjectMeta) -> Head:
    etag = meta["e_tag"]
    return Head(_version(etag) if etag else f"{meta['last_modified'].timestamp()}", meta["size"])


def _version(etag: str) -> str:
    """A strong ETag without its quotes."""
    return etag.strip('"')
