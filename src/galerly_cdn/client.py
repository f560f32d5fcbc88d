"""An asynchronous client for the admin API of a running CDN. The only importer of httpx besides `aws.deploy`.

`Client` implements `library.Library` and raises the same errors, which it recognises by their code in the
response. An upload is streamed; its checksums are sent in the headers, so the server detects corruption.
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
    UnsupportedFormat,
    by_code,
)
from galerly_cdn.fill import Warmed
from galerly_cdn.http.checksums import checksum_headers
from galerly_cdn.http.responses import Problem
from galerly_cdn.http.urls import checked_key, format_key
from galerly_cdn.library import Accepted, Deleted, Inspection, Page, Purged
from galerly_cdn.model import Forgotten
from galerly_cdn.serialization import ValidationError, Value, from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
    from types import TracebackType

V = TypeVar("V", bound=Value)

_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 120.0
"""The longest wait for the next byte, either way: an upload is decoded before it is answered."""


class _ErrorBody(Value, frozen=True):
    """An error response's body, or the last of several lines, with its key."""

    error: Problem
    key: str = ""


class Client:
    """A client of the admin API at `address` (`http://127.0.0.1:8001`), to be used as a context manager.

    Every method raises `CdnUnreachable`, `CdnInterrupted`, `UnexpectedAnswer`, `Unauthorized`, and what
    `Library` raises. Proxies in the environment are ignored, so that the token reaches the CDN only.
    """

    def __init__(
        self, address: str, token: str = "", *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._address = address.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self._address,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
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
        """Upload an original.

        `digests` are as for `Library.upload`: MD5 is sent as Content-MD5, the others as Content-Digest.
        """
        return await self._request(
            Accepted,
            "PUT",
            _path("originals", key),
            content=chunks,
            headers=checksum_headers(digests or {}),
            params={"replace": "true"} if replaces else {},
        )

    async def delete(self, key: str) -> Deleted:
        """Delete an original and its renditions."""
        return await self._request(Deleted, "DELETE", _path("originals", key))

    async def list(self, prefix: str = "", after: str = "", limit: int = 1000) -> Page:
        """One page of the originals with a prefix, whose keys sort after `after`."""
        params = {"prefix": prefix, "after": after, "limit": str(limit)}
        return await self._request(Page, "GET", "/originals", params=params)

    async def inspect(self, key: str) -> Inspection:
        """An original's facts and its stored renditions."""
        return await self._request(Inspection, "GET", _path("originals", key))

    async def purge(self, key: str) -> Purged:
        """Delete an original's renditions."""
        return await self._request(Purged, "POST", _path("purge", key))

    async def forget(self, key: str) -> Forgotten:
        """Remove an original from the server's memory; nothing is changed in the store."""
        return await self._request(Forgotten, "POST", _path("forget", key))

    async def warm(self, key: str) -> AsyncIterator[Warmed]:
        """Render the missing renditions; yields each rendition when its line arrives."""
        with _translated_errors(self._address):
            async with self._http.stream("POST", _path("warm", key)) as response:
                if response.is_error:
                    await response.aread()
                _check_status(response)
                async for line in response.aiter_lines():
                    yield _parse_warmed(line.encode())

    async def _request(
        self,
        kind: type[V],
        method: str,
        path: str,
        **options: Any,  # noqa: ANN401 - httpx's options
    ) -> V:
        with _translated_errors(self._address):
            response = await self._http.request(method, path, **options)
        _check_status(response)
        return _parse(kind, response.content)


def _path(operation: str, key: str) -> str:
    """Raises `MalformedKey`."""
    return f"/{operation}/{format_key(checked_key(key))}"


@contextlib.contextmanager
def _translated_errors(address: str) -> Iterator[None]:
    """Raise `CdnUnreachable` and `CdnInterrupted` in place of httpx's errors."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
        raise CdnUnreachable(f"{address}: {error}") from error
    except httpx.HTTPError as error:
        raise CdnInterrupted(f"{address}: {type(error).__name__} {error}") from error


def _check_status(response: httpx.Response) -> None:
    """Raise the response's error, found by its code; `UnexpectedAnswer` if the code is unknown."""
    if not response.is_success:
        raise _parse_error(response.content)


def _parse_warmed(line: bytes) -> Warmed:
    """Parse a line. A line with an error raises it."""
    try:
        return from_json(Warmed, line)
    except ValidationError:
        raise _parse_error(line) from None


def _parse_error(content: bytes) -> GalerlyError:
    """The error of a response. Its detail is the request id, which finds the details in the CDN's log."""
    problem = _parse(_ErrorBody, content).error
    kind = by_code().get(problem.code, CommandError)
    if issubclass(kind, CommandError):
        return UnexpectedAnswer(f"{problem.code}: {problem.message}")
    detail = f"request {problem.request_id}"
    return UnsupportedFormat(detail, problem.message) if kind is UnsupportedFormat else kind(detail)


def _parse(kind: type[V], content: bytes) -> V:
    """Raises `UnexpectedAnswer`."""
    try:
        return from_json(kind, content)
    except ValidationError as error:
        raise UnexpectedAnswer(str(error)) from error
