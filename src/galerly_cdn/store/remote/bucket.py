"""One root in a remote store, asked within a deadline and spared while it fails. obstore's door.

What failed on the way, or was throttled (429, 503), is asked again (`retries`); a download or a list goes on
where it broke off, which is obstore's doing. Around that lie one deadline, and a breaker.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
from typing import TYPE_CHECKING, Any, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, from_url

from galerly_cdn.errors import (
    GalerlyError,
    KeyNotHeld,
    NoSuchOriginal,
    OriginalExists,
    SettingsError,
    StoreRefused,
    StoreUnreachable,
    Unsettled,
)
from galerly_cdn.http.urls import cache_tag
from galerly_cdn.store.remote.resilience import TRIES, CircuitBreaker, RetryBudget

if TYPE_CHECKING:
    import mmap
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping

    from obstore import GetOptions, GetResult, ObjectMeta, PutResult, SignCapableStore
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from galerly_cdn.settings.table import Settings

CHUNK_BYTES = 1024 * 1024
_CONNECT_S = 2
_SILENCE_S = 3
"""How long a store may say nothing to a question; then it is asked again, on another connection."""
_BACKOFF_S = 0.1
"""Before obstore's first retry; then longer at random, up to 2 s."""
_SLOWEST_BYTES_PER_S = 256 * 1024
"""A transfer slower than this, beyond the deadline, is given up: a drip would hold its place for days."""
_MAX_SAID = 500
_REFUSED = re.compile(r"status code: (?!408|429)[34]\d\d|redirect|BadScheme")
_NO_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound)</Code>")
_NO_CREDENTIALS = re.compile(r"/latest/api/token|/computeMetadata/|/metadata/identity/")
"""The metadata services of machines in a cloud: where obstore looks last."""
_NO_HTTP = re.compile("BadScheme")
_NOT_HELD = re.compile(r"<Code>(KeyTooLong\w*|ObjectParentIsFile|ExistingObjectIsDirectory)</Code>")


class Bucket:
    """The objects under a root's address, by key. `clock` is monotonic, in seconds.

    Whatever is asked raises `StoreRefused`, `StoreUnreachable`. `count` is told of `store-failed` (retries
    were of no use) and `store-spared` (it was not asked).
    """

    def __init__(
        self, address: str, settings: Settings, clock: Callable[[], float], count: Callable[[str], None]
    ) -> None:
        """Raises `SettingsError` for what is no address of a store; connects to nothing."""
        self._address = address
        self._deadline_s = settings.store_deadline_s
        self._breaker = CircuitBreaker(clock)
        self._retries = RetryBudget()
        self._count = count
        longest_s = settings.store_deadline_s + settings.max_original_bytes / _SLOWEST_BYTES_PER_S
        client: ClientConfig = {
            # Only https then, and so whatever it redirects to: http is where metadata services are
            "allow_http": settings.store_endpoint.startswith("http://"),
            "connect_timeout": _span(_CONNECT_S),
            "timeout": _span(longest_s),
        }
        impatient: ClientConfig = {**client, "read_timeout": _span(_SILENCE_S)}
        self._store = _connect(address, settings, impatient)
        self._bodies = _connect(address, settings, impatient, retries=TRIES - 1)
        # The time of silence runs while a body is sent, too: not for uploads
        self._uploads = _connect(address, settings, client)

    async def check(self) -> None:
        """Ask for nothing in particular.

        Raises `SettingsError` for what waiting does not mend: no such bucket, no or wrong credentials.
        """
        try:
            await self.read(".galerly-cdn")
        except (NoSuchOriginal, StoreRefused, StoreUnreachable) as error:
            told = str(error.__cause__)
            if _NO_BUCKET.search(told):
                raise SettingsError([f"{self._address}: there is no such bucket"]) from error
            if _NO_CREDENTIALS.search(told):
                raise SettingsError([f"{self._address}: no credentials for it were found"]) from error
            if _NO_HTTP.search(told):
                raise SettingsError(["store_endpoint: if it is reached by http://, say so there"]) from error
            if isinstance(error, StoreRefused):
                raise SettingsError([f"{self._address}: the store refuses: {error.detail}"]) from error
            if isinstance(error, StoreUnreachable):
                raise

    def label(self, original_key: str) -> dict[str, str]:
        """The metadata by which CloudFront drops an object with all that belongs to one original.

        S3's alone: CloudFront reads tags there, and Azure takes no such name.
        """
        return {"cache-tag": cache_tag(original_key)} if self._address.startswith("s3://") else {}

    async def head(self, key: str, *, is_optional: bool = False) -> ObjectMeta:
        """What is known of an object. Raises `NoSuchOriginal`.

        Who does not insist is content with what was known before: asked once, and no failure if in vain.
        """

        async def ask() -> ObjectMeta:
            with _store_errors():
                return await obstore.head_async(self._store, key)

        async with self._asking(is_optional=is_optional):
            return await (self._retries.run(ask) if not is_optional else ask())

    async def read(self, key: str, options: GetOptions | None = None) -> tuple[GetResult, bytes]:
        """An object, or its attributes alone (`head`), or a `range` of it; `if_match` names its ETag.

        Raises `NoSuchOriginal`; `Unsettled` for another ETag.
        """

        async def ask() -> tuple[GetResult, bytes]:
            with _store_errors():
                found = await obstore.get_async(self._store, key, options=options)
                return found, bytes(await found.bytes_async())

        async with self._asking():
            return await self._retries.run(ask)

    async def download(self, key: str, write: Callable[[GetResult, bytes], None]) -> GetResult:
        """Hand an object to `write`, chunk by chunk. Raises `NoSuchOriginal`, and as `write` does."""
        async with self._asking() as limit:
            found = await obstore.get_async(self._bodies, key)
            _extend(limit, found.meta["size"])
            async for chunk in found.stream(CHUNK_BYTES):
                write(found, chunk)
            return found

    async def put(
        self, key: str, content: bytes | mmap.mmap, attributes: Mapping[str, str], *, creates: bool
    ) -> str:
        """Store an object, over what is there unless it `creates`; its ETag.

        Raises `OriginalExists`, `KeyNotHeld`, `Unsettled`.
        """

        async def ask() -> PutResult:
            with _store_errors():
                return await obstore.put_async(
                    self._uploads,
                    key,
                    cast("Any", content),
                    attributes=dict(attributes),
                    mode="create" if creates else "overwrite",
                    use_multipart=False,
                )

        try:
            async with self._asking() as limit:
                _extend(limit, len(content))
                stored = await self._retries.run(ask)
        except NoSuchOriginal as error:  # the bucket is gone
            raise StoreRefused(error.detail) from error
        except GalerlyError as error:
            if _NOT_HELD.search(str(error.__cause__)):
                raise KeyNotHeld(error.detail) from error
            if isinstance(error, OriginalExists) and not creates:  # 409: somebody else is just writing it
                raise Unsettled(error.detail) from error
            raise
        return stored["e_tag"] or ""

    async def sign_put(self, key: str, lasts_s: int) -> tuple[str, dict[str, str]]:
        """An address that takes one object of whoever has it, and the headers to send with it."""
        async with self._asking():
            store = cast("SignCapableStore", self._store)
            signed = await obstore.sign_async(store, "PUT", key, _span(lasts_s))
        # Azure takes no object without (REST reference, Put Blob)
        return signed, {"x-ms-blob-type": "BlockBlob"} if isinstance(store, AzureStore) else {}

    async def delete(self, key: str) -> None:
        """Remove an object, if there is one."""

        async def ask() -> None:
            with _store_errors():
                await obstore.delete_async(self._store, key)

        async with self._asking():
            await self._retries.run(ask)

    async def list(self, folder: str, after: str) -> AsyncIterator[ObjectMeta]:
        """The objects under a folder after a key, in the store's order."""
        pages = obstore.list(self._bodies, prefix=folder, offset=after or None)
        while True:
            async with self._asking():
                page = await anext(pages, None)
            if page is None:
                return
            for meta in page:
                yield meta

    @contextlib.asynccontextmanager
    async def _asking(self, *, is_optional: bool = False) -> AsyncGenerator[asyncio.Timeout]:
        """One question to the store, with its deadline; what comes of it is the breaker's to know."""
        if not self._breaker.admits():
            self._count("store-spared")
            raise StoreUnreachable("it failed when it was last asked")
        try:
            async with asyncio.timeout(self._deadline_s) as limit:
                with _store_errors():
                    yield limit
        except (StoreUnreachable, TimeoutError) as error:
            if not is_optional:
                self._breaker.failed()
            self._count("store-failed")
            if isinstance(error, TimeoutError):
                raise StoreUnreachable("it was late") from error
            raise
        except GalerlyError:
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()


def _connect(address: str, settings: Settings, client: ClientConfig, *, retries: int = 0) -> ObjectStore:
    tries: RetryConfig = {
        "max_retries": retries,
        "retry_timeout": _span(settings.store_deadline_s),
        "backoff": {"init_backoff": _span(_BACKOFF_S), "max_backoff": _span(2), "base": 2},
    }
    options: dict[str, Any] = {}
    if address.startswith("s3://"):
        options["disable_bulk_delete"] = True  # a plain DELETE is known to every server, and retried
        if settings.store_endpoint:
            options["endpoint"] = settings.store_endpoint
    try:
        return from_url(address, client_options=client, retry_config=tries, **options)
    except (BaseError, ValueError) as error:
        raise SettingsError([f"{address}: {_said(error)}"]) from error


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    """obstore's errors as ours; the cause holds all that the store said."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchOriginal(_said(error)) from error
    except AlreadyExistsError as error:
        raise OriginalExists(_said(error)) from error
    except PreconditionError as error:
        raise Unsettled(_said(error)) from error
    except (PermissionDeniedError, UnauthenticatedError, InvalidPathError) as error:
        raise StoreRefused(_said(error)) from error
    except (BaseError, OSError) as error:
        kind = StoreRefused if _REFUSED.search(str(error)) else StoreUnreachable
        raise kind(_said(error)) from error


def _extend(limit: asyncio.Timeout, length_bytes: int) -> None:
    """More time for more bytes."""
    limit.reschedule((limit.when() or 0.0) + length_bytes / _SLOWEST_BYTES_PER_S)


def _span(seconds: float) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)


def _said(error: Exception) -> str:
    """What obstore says, and what the store said, on one line; obstore tells its own insides below that."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:_MAX_SAID]
