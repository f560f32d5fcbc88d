"""How is a running CDN asked, by its admin side, for what an archive does? httpx's door.

`Client` has the methods of `archive.Archive` and raises the same errors: the server's code names them. An
upload is streamed, and its checksum goes ahead of it, so that a byte changed on the way is noticed.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from galerly_cdn.errors import (
    CdnInterrupted,
    CdnUnreachable,
    CommandError,
    GalerlyError,
    UnexpectedAnswer,
    by_code,
)
from galerly_cdn.fill import Warmed
from galerly_cdn.http.checksums import checksum_headers
from galerly_cdn.http.responses import Problem
from galerly_cdn.http.urls import checked_key, format_key
from galerly_cdn.library import Accepted, Deleted, Inspection, Page, Purged
from galerly_cdn.serialization import ValidationError, Value, from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
    from types import TracebackType

V = TypeVar("V", bound=Value)

_CONNECT_S = 10.0
_QUIET_S = 120.0
"""The longest wait for the next byte either way: an upload is decoded before it is answered."""


class _Failed(Value, frozen=True):
    """An error as the CDN tells it: as an answer, or as the last line of several, with its key."""

    error: Problem
    key: str = ""


class Client:
    """Speaks to the admin side at `address` (`http://127.0.0.1:8001`). Use as a context manager.

    Every method raises `CdnUnreachable`, `CdnInterrupted`, `UnexpectedAnswer` and `Unauthorized` besides what
    `Archive` raises. The environment's proxies are not asked: the token is for the CDN alone.
    """

    def __init__(
        self, address: str, token: str = "", *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._address = address.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self._address,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(_QUIET_S, connect=_CONNECT_S),
            verify=ssl.create_default_context(),
            transport=transport,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, value, trace)

    async def upload(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        replaces: bool = False,
        digests: Mapping[str, bytes] | None = None,
    ) -> Accepted:
        """`digests` as `Archive.upload` takes them; MD5 travels as Content-MD5, others as Content-Digest."""
        return await self._ask(
            Accepted,
            "PUT",
            _path("originals", key),
            content=chunks,
            headers=checksum_headers(digests or {}),
            params={"replace": "true"} if replaces else {},
        )

    async def delete(self, key: str) -> Deleted:
        return await self._ask(Deleted, "DELETE", _path("originals", key))

    async def list(self, prefix: str = "", after: str = "", limit: int = 1000) -> Page:
        asked = {"prefix": prefix, "after": after, "limit": str(limit)}
        return await self._ask(Page, "GET", "/originals", params=asked)

    async def inspect(self, key: str) -> Inspection:
        return await self._ask(Inspection, "GET", _path("originals", key))

    async def purge(self, key: str) -> Purged:
        return await self._ask(Purged, "POST", _path("purge", key))

    async def warm(self, key: str) -> AsyncIterator[Warmed]:
        """Every picture as it is there: the answer is a line of JSON for each."""
        with _told(self._address):
            async with self._http.stream("POST", _path("warm", key)) as response:
                if response.is_error:
                    await response.aread()
                _check(response)
                async for line in response.aiter_lines():
                    yield _warmed(line.encode())

    async def _ask(self, kind: type[V], method: str, path: str, **asked: Any) -> V:  # noqa: ANN401 - httpx's own
        with _told(self._address):
            response = await self._http.request(method, path, **asked)
        _check(response)
        return _read(kind, response.content)


def _path(what: str, key: str) -> str:
    """Raises `MalformedKey`."""
    return f"/{what}/{format_key(checked_key(key))}"


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
    """httpx's errors as ours."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
        raise CdnUnreachable(f"{address}: {error}") from error
    except httpx.HTTPError as error:
        raise CdnInterrupted(f"{address}: {type(error).__name__} {error}") from error


def _check(response: httpx.Response) -> None:
    """Raises the error that the CDN answered, by its code; `UnexpectedAnswer` if it is none of ours."""
    if not response.is_success:
        raise _error(response.content)


def _warmed(line: bytes) -> Warmed:
    """A line of what is warm. Raises what ended the lines before their time."""
    try:
        return from_json(Warmed, line)
    except ValidationError:
        raise _error(line) from None


def _error(content: bytes) -> GalerlyError:
    """What the CDN says is wrong; its request's id finds the details in its log."""
    told = _read(_Failed, content).error
    kind = by_code().get(told.code, CommandError)
    if issubclass(kind, CommandError):
        return UnexpectedAnswer(f"{told.code}: {told.message}")
    return kind(f"request {told.request_id}")


def _read(kind: type[V], content: bytes) -> V:
    """Raises `UnexpectedAnswer`."""
    try:
        return from_json(kind, content)
    except ValidationError as error:
        raise UnexpectedAnswer(str(error)) from error
