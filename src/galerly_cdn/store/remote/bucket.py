"""Sends requests to one root of a remote store, with deadlines, retries and a circuit breaker.

A request that failed on the network or was throttled (429, 503) is retried (`resilience`). A download or a
listing resumes where it broke off, which obstore does itself. Each request has one deadline, which includes
its retries.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    InvalidPathError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore

from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.errors import (
    ClockSkewed,
    DiskFault,
    GalerlyError,
    KeyNotHeld,
    NoSuchOriginal,
    OriginalExists,
    SettingsError,
    StoreRefused,
    StoreSlow,
    StoreUnreachable,
    Unsettled,
)
from galerly_cdn.http.urls import cache_tags
from galerly_cdn.model import Listed
from galerly_cdn.store.remote import raw_listing, raw_request
from galerly_cdn.store.remote.clock_skew import ClockSkew
from galerly_cdn.store.remote.connection import connect, store_errors, timedelta, variable_of
from galerly_cdn.store.remote.raw_listing import ListedObject
from galerly_cdn.store.remote.resilience import TRIES, CircuitBreaker, RetryBudget

if TYPE_CHECKING:
    import mmap
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence

    from obstore import GetOptions, GetResult, ObjectMeta, PutResult, SignCapableStore, UpdateVersion
    from obstore.store import ClientConfig

    from galerly_cdn.settings.table import Settings

CHUNK_BYTES = 1024 * 1024
_SIGNED = dt.timedelta(minutes=5)
_CONNECT_S = 2
_READ_TIMEOUT_S = 3
"""How long a store may send nothing in response to a request before it is retried on another connection."""
_MIN_BYTES_PER_S = 256 * 1024
"""The rate by which a body extends the deadline. A slower transfer is aborted: it could last for days."""
_LONG_BYTES = 256 * 1024
"""A body that a server may refuse before it has read all of it. It closes the connection then, and the client
may lose the response (RFC 9112 §9.6)."""
_LOST = re.compile("error sending request")
_LISTED_TOGETHER = 1000
"""The objects of one page of S3 (ListObjectsV2), which obstore would pass on by fifties."""
_NO_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound)</Code>")
_NO_CREDENTIALS = re.compile(r"/latest/api/token|/computeMetadata/|/metadata/identity/")
"""Paths of the clouds' metadata services, which are the last place where obstore looks for credentials."""
_NO_HTTP = re.compile("BadScheme")
# `ObjectParentIsFile` and `ExistingObjectIsDirectory`: servers that store objects as files, such as versitygw
_NOT_HELD = re.compile(r"<Code>(KeyTooLong\w*|ObjectParentIsFile|ExistingObjectIsDirectory)</Code>")


class Bucket:
    """The objects under a root's address, by key. `clock` is monotonic, in seconds.

    Every request raises `StoreRefused`, `StoreUnreachable`. `count` receives the events `store-failed` (the
    request failed despite its retries) and `store-spared` (the circuit breaker rejected it).
    """

    def __init__(
        self,
        address: str,
        settings: Settings,
        clock: Callable[[], float],
        count: Callable[[str], None],
        wall: Callable[[], float] = SYSTEM_CLOCK.wall,
    ) -> None:
        """Connects to nothing yet. Raises `SettingsError` for an invalid address."""
        self._address = address
        self._settings = settings
        self._lists_raw = False
        self._deadline_s = settings.store_deadline_s
        self._breaker = CircuitBreaker(clock)
        self._last_failure: type[StoreUnreachable] = StoreUnreachable
        self._skew = ClockSkew(self.fetch_date, clock, wall)
        self._retries = RetryBudget()
        self._count = count
        max_transfer_s = settings.store_deadline_s + settings.max_original_bytes / _MIN_BYTES_PER_S
        client: ClientConfig = {
            # An https store cannot redirect to http: there it could reach a cloud's metadata service
            "allow_http": settings.store_endpoint.startswith("http://"),
            "connect_timeout": timedelta(_CONNECT_S),
            "timeout": timedelta(max_transfer_s),
        }
        self._client = client
        with_read_timeout: ClientConfig = {**client, "read_timeout": timedelta(_READ_TIMEOUT_S)}
        self._store = connect(address, settings, with_read_timeout)
        self._downloads = connect(address, settings, with_read_timeout, retries=TRIES - 1)
        # No read timeout: it would also run while a body is being sent
        self._uploads = connect(address, settings, client)

    async def check(self) -> None:
        """Send a test request.

        Raises `SettingsError` for faults that do not pass (no such bucket, no credentials or wrong ones),
        `StoreUnreachable` for others.
        """
        try:
            await self.read(".galerly-cdn")
        except (NoSuchOriginal, StoreRefused, StoreUnreachable) as error:
            cause = str(error.__cause__)
            if _NO_BUCKET.search(cause):
                raise SettingsError(
                    [f"{self._address}: there is no such bucket; create it or correct the address"]
                ) from error
            if _NO_CREDENTIALS.search(cause):
                raise SettingsError(
                    [f"{self._address}: no credentials were found; set those of its cloud"]
                ) from error
            if _NO_HTTP.search(cause):
                raise SettingsError(
                    ["store_endpoint: the store uses http; begin the address with http:// to allow that"]
                ) from error
            if variable := variable_of(cause):
                raise SettingsError([f"{variable}: {error.detail}"]) from error
            if isinstance(error, StoreRefused):
                raise SettingsError(
                    [f"{self._address}: the store refuses the test request: {error.detail}"]
                ) from error
            if isinstance(error, StoreUnreachable):
                raise

    def cache_tags(self, original_key: str) -> dict[str, str]:
        """The metadata by which CloudFront invalidates an object with its original, or with its gallery.

        S3 only: CloudFront reads tags from S3, and Azure does not allow the hyphen in the name.
        """
        return {"cache-tag": cache_tags(original_key)} if self.is_s3 else {}

    def count(self, event: str) -> None:
        """Count an event of this store."""
        self._count(event)

    @property
    def is_s3(self) -> bool:
        """Whether it is S3 or a server that is compatible with it."""
        return self._address.startswith("s3://")

    async def head(self, key: str, *, is_optional: bool = False) -> ObjectMeta:
        """An object's length, ETag and time. Raises `NoSuchOriginal`.

        With `is_optional`: one attempt, not counted by the circuit breaker. The caller has an older head.
        """

        async def request() -> ObjectMeta:
            with store_errors():
                return await obstore.head_async(self._store, key)

        async with self._request(is_optional=is_optional):
            return await (request() if is_optional else self._retries.run(request))

    async def read(self, key: str, options: GetOptions | None = None) -> tuple[GetResult, bytes]:
        """An object's attributes and bytes; no bytes with the option `head`, part of them with `range`.

        `if_match` requires an ETag. Raises `NoSuchOriginal`; `Unsettled` for another ETag.
        """

        async def request() -> tuple[GetResult, bytes]:
            with store_errors():
                result = await obstore.get_async(self._store, key, options=options)
                return result, bytes(await result.bytes_async())

        async with self._request():
            return await self._retries.run(request)

    async def download(self, key: str, write: Callable[[GetResult, bytes], None]) -> GetResult:
        """Pass an object's chunks to `write`. Raises `NoSuchOriginal`, and as `write` does."""
        async with self._request() as deadline:
            result = await obstore.get_async(self._downloads, key)
            _extend_deadline(deadline, result.meta["size"])
            async for chunk in result.stream(CHUNK_BYTES):
                write(result, chunk)
            return result

    async def put(
        self,
        key: str,
        content: bytes | mmap.mmap,
        attributes: Mapping[str, str],
        *,
        creates: bool,
        over: UpdateVersion | None = None,
    ) -> str:
        """Store an object and return its ETag. With `creates`, an existing object is not replaced.

        With `over`, no other object than that is replaced. Raises `OriginalExists` with `creates`,
        `KeyNotHeld`; `Unsettled` if another writer was first.
        """

        async def request() -> PutResult:
            async with self._existing(key, len(content) if creates else 0):
                return await obstore.put_async(
                    self._uploads,
                    key,
                    cast("Any", content),
                    attributes=dict(attributes),
                    mode="create" if creates else over or "overwrite",
                    use_multipart=False,
                )

        try:
            async with self._request() as deadline:
                _extend_deadline(deadline, len(content))
                stored = await self._retries.run(request)
        except NoSuchOriginal as error:  # the bucket was deleted
            raise StoreRefused(error.detail) from error
        except GalerlyError as error:
            if _NOT_HELD.search(str(error.__cause__)):
                raise KeyNotHeld(error.detail) from error
            if isinstance(error, OriginalExists) and not creates:  # 409: another writer is storing it now
                raise Unsettled(error.detail) from error
            raise
        return stored["e_tag"] or ""

    @contextlib.asynccontextmanager
    async def _existing(self, key: str, created_bytes: int) -> AsyncGenerator[None, None]:
        """Raises as `store_errors`, and `OriginalExists` if the response that says so was lost."""
        try:
            with store_errors():
                yield
        except StoreUnreachable as error:
            is_lost = created_bytes >= _LONG_BYTES and _LOST.search(str(error.__cause__))
            if is_lost and await self._is_there(key):
                raise OriginalExists(error.detail) from error
            raise

    async def _is_there(self, key: str) -> bool:
        """Whether the store says that it has an object; one attempt."""
        with contextlib.suppress(GalerlyError), store_errors():
            await obstore.head_async(self._store, key)
            return True
        return False

    async def presign_put(self, key: str, expires_s: int) -> tuple[str, dict[str, str]]:
        """A URL that stores one object without further credentials, and the headers to send with it."""
        async with self._request():
            store = cast("SignCapableStore", self._store)
            signed = await obstore.sign_async(store, "PUT", key, timedelta(expires_s))
        # Azure requires this header (REST reference, Put Blob)
        return signed, {"x-ms-blob-type": "BlockBlob"} if isinstance(store, AzureStore) else {}

    async def delete(self, key: str) -> None:
        """Remove an object, if there is one."""

        async def request() -> None:
            with store_errors():
                await obstore.delete_async(self._store, key)

        async with self._request():
            await self._retries.run(request)

    async def delete_unchanged(self, key: str, etag: str) -> bool:
        """Remove an object if it still has this ETag, without its quotes; whether it was removed.

        S3 compares and deletes in one step; some servers also say that they removed what was gone. What is
        gone after a retry was removed by the first attempt, whose response was lost, or by another process.
        Other stores are asked first: a change between the two requests goes unnoticed.
        """
        if self.is_s3:
            attempts: list[str] = []
            removed = await self._retries.run(partial(self._delete_unchanged, key, etag, attempts))
            if removed is not None:
                return removed or (len(attempts) > 1 and await self._etag(key) is None)
        if await self._etag(key) != etag:
            return False
        await self.delete(key)
        return True

    async def _etag(self, key: str) -> str | None:
        """The ETag of an object, without its quotes; None if there is none."""
        try:
            return ((await self.head(key))["e_tag"] or "").strip('"')
        except NoSuchOriginal:
            return None

    async def _delete_unchanged(self, key: str, etag: str, attempts: list[str]) -> bool | None:
        attempts.append(key)
        async with self._request():
            with store_errors():
                url = await obstore.sign_async(cast("SignCapableStore", self._store), "DELETE", key, _SIGNED)
            return await asyncio.to_thread(raw_request.delete, url, etag, _READ_TIMEOUT_S)

    async def list(self, folder: str, after: str) -> AsyncIterator[Listed]:
        """The objects under a folder that sort after a key, in the store's order.

        In S3 also those whose keys are none of ours. Other stores raise `StoreRefused` for a key that obstore
        cannot represent.
        """
        async for one in self.objects(folder, after):
            yield Listed(one.key, one.length_bytes, one.modified_s)

    async def objects(self, folder: str, after: str = "") -> AsyncIterator[ListedObject]:
        """As `list`, with the ETag of each object, without its quotes."""
        while not self._lists_raw:
            try:
                async for page in self._list_paths(folder, after):
                    for meta in page:
                        after = meta["path"]
                        modified_s = meta["last_modified"].timestamp()
                        etag = (meta["e_tag"] or "").strip('"')
                        yield ListedObject(after, meta["size"], modified_s, etag)
            except StoreRefused as error:
                self._list_raw_from_now_on(error)
            else:
                return
        async for raw_page in self._raw_pages(folder, after):
            for one in raw_page.objects:
                yield one._replace(key=one.key.removeprefix(self._root))

    async def _list_paths(self, folder: str, after: str) -> AsyncIterator[Sequence[ObjectMeta]]:
        pages = obstore.list(
            self._downloads, prefix=folder, offset=after or None, chunk_size=_LISTED_TOGETHER
        )
        while True:
            async with self._request():
                page = await anext(pages, None)
            if page is None:
                return
            yield page

    async def folders(self, folder: str) -> frozenset[str]:
        """The names of the folders directly in a folder."""
        if not self._lists_raw:
            try:
                async with self._request():
                    found = await obstore.list_with_delimiter_async(self._downloads, folder or None)
                return frozenset(one.rpartition("/")[2] for one in found["common_prefixes"])
            except StoreRefused as error:
                self._list_raw_from_now_on(error)
        pages = self._raw_pages(folder, "", delimiter="/")
        return frozenset([one.split("/")[-2] async for page in pages for one in page.folders])

    def _list_raw_from_now_on(self, error: StoreRefused) -> None:
        """Raises the error unless a raw listing avoids it: the next listing would meet the same key."""
        if not (isinstance(error.__cause__, InvalidPathError) and self.is_s3):
            raise error
        self._lists_raw = True

    async def _raw_pages(
        self, folder: str, after: str, delimiter: str = ""
    ) -> AsyncIterator[raw_listing.RawPage]:
        prefix = f"{self._root}{folder}/" if folder else self._root
        start, token = self._root + after if after else "", ""
        while True:
            query = raw_listing.query(prefix, start, token, delimiter=delimiter)
            async with self._request():
                page = raw_listing.parse_page(await self._retries.run(partial(self._fetch_raw, query)))
            yield page
            token = page.next_token
            if not token:
                return

    @property
    def _root(self) -> str:
        """What the bucket's keys begin with: `originals/`."""
        return f"{urlsplit(self._address).path[1:]}/".lstrip("/")

    async def _fetch_raw(self, query: str) -> bytes:
        """A page of the bucket's listing. obstore signs every query that the endpoint's address contains."""
        bucket = f"s3://{urlsplit(self._address).netloc}"
        with store_errors():
            endpoint = f"{await self._bucket_url()}?{query}"
            queried = connect(bucket, self._settings, self._client, endpoint=endpoint)
            url = await obstore.sign_async(cast("SignCapableStore", queried), "GET", "x", _SIGNED)
        return await asyncio.to_thread(raw_request.fetch, url, _READ_TIMEOUT_S)

    async def _bucket_url(self) -> str:
        """The URL of the bucket itself, in S3."""
        bucket = f"s3://{urlsplit(self._address).netloc}"
        store = cast("SignCapableStore", connect(bucket, self._settings, self._client))
        return (await obstore.sign_async(store, "GET", "x", _SIGNED)).partition("?")[0].removesuffix("/x")

    async def fetch_date(self) -> str:
        """The header Date of the store's response to an unsigned request, in S3; empty if there is none."""
        with store_errors():
            url = await self._bucket_url()
        return await asyncio.to_thread(raw_request.fetch_date, url, _READ_TIMEOUT_S)

    @contextlib.asynccontextmanager
    async def _request(self, *, is_optional: bool = False) -> AsyncGenerator[asyncio.Timeout]:
        """Run one request within a deadline, and report its result to the circuit breaker."""
        if not self._breaker.allows_request():
            self._count("store-spared")
            raise self._last_failure("the circuit breaker is open: the last requests to the store failed")
        try:
            async with asyncio.timeout(self._deadline_s) as deadline:
                with store_errors():
                    yield deadline
        except DiskFault:  # this machine's, not the store's
            raise
        except (StoreUnreachable, TimeoutError) as error:
            late = StoreSlow("the store did not answer within the deadline")
            failure = error if isinstance(error, StoreUnreachable) else late
            self._last_failure = type(failure)
            if not is_optional:
                self._breaker.record_failure()
            self._count("store-failed")
            if failure is late:
                raise late from error
            raise
        except GalerlyError as error:
            self._breaker.record_success()
            is_refusal = isinstance(error.__cause__, PermissionDeniedError | UnauthenticatedError)
            if is_refusal and self.is_s3 and (text := await self._skew.explanation()):
                raise ClockSkewed(text) from error
            raise
        self._breaker.record_success()


def _extend_deadline(deadline: asyncio.Timeout, length_bytes: int) -> None:
    """Extend a deadline for the transfer of a body."""
    deadline.reschedule((deadline.when() or 0.0) + length_bytes / _MIN_BYTES_PER_S)
