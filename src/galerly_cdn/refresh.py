"""Drops changed photographs from the memory of the nodes, then from the caches of the fronts.

Nodes first: what a front asks again must be the new picture. What cannot be refreshed is told, not raised:
the change is made, and shows everywhere within the lifetimes of `http.lifetimes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

import httpx

from galerly_cdn.client import Client
from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.errors import GalerlyError
from galerly_cdn.http import front_refresh
from galerly_cdn.http.front_refresh import Entry
from galerly_cdn.http.urls import format_path
from galerly_cdn.model import Refreshed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import TracebackType

    from galerly_cdn.model import Target
    from galerly_cdn.settings.table import Settings

_DEADLINE_S = 10.0
"""For one photograph and one front or node: a front that hangs must not hold up an upload."""
_CONNECT_S = 2.0
_REST_S = 30.0
"""For which a front or node that did not answer is not asked: it must not hold up each of many uploads."""
_MAX_REQUESTS = 8
"""Requests to one front in progress at once."""
_NO_SECRET = "it does not accept the secret: print its configuration again with the admin API's token"  # noqa: S105 - a sentence


class _NotRefreshed(Exception):
    """Why a front still has an entry; a phrase for people."""


class Refresher:
    """Refreshes the settings' fronts and nodes, to be used as a context manager.

    `token` is the admin API's; `clock` is monotonic, in seconds. Raises `SettingsError` for fronts without a
    token.
    """

    def __init__(
        self,
        settings: Settings,
        token: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = SYSTEM_CLOCK.monotonic,
    ) -> None:
        secret = front_refresh.secret(token) if settings.fronts else ""
        self._nodes = {one: Client(one, token, transport=transport) for one in settings.nodes}
        public = urlsplit(next(iter(settings.public_urls), ""))
        self._http = httpx.AsyncClient(
            headers={"Host": public.netloc} if public.netloc else {},
            timeout=httpx.Timeout(_DEADLINE_S, connect=_CONNECT_S),
            verify=ssl.create_default_context(),
            transport=transport,
            trust_env=False,
        )
        extensions = {"sni_hostname": public.hostname} if public.hostname else {}
        self._fronts = [_Front(self._http, one.rstrip("/"), secret, extensions) for one in settings.fronts]
        self._clock = clock
        self._rests_until_s: dict[tuple[str, str], float] = {}
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._http)
        for node in self._nodes.values():
            await self._open.enter_async_context(node)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def refresh(self, key: str, targets: Iterable[Target]) -> tuple[Refreshed, ...]:
        """Refresh every node, then every front; what each has dropped, or why it has not."""
        ordered = sorted(targets, key=lambda one: (one.size, str(one)))
        nodes = await asyncio.gather(
            *(
                self._in_time("node", address, functools.partial(_forget, node, key, address))
                for address, node in self._nodes.items()
            )
        )
        fronts = await asyncio.gather(
            *(
                self._in_time("front", one.address, functools.partial(one.drop, key, ordered))
                for one in self._fronts
            )
        )
        return (*nodes, *fronts)

    async def _in_time(
        self, kind: Literal["node", "front"], address: str, drop: Callable[[], Awaitable[Refreshed]]
    ) -> Refreshed:
        """The result of `drop`; a problem if it is late, or if the address rests because it was late."""
        if self._clock() < self._rests_until_s.get((kind, address), 0):
            problem = "it was not asked, because it did not answer a moment ago"
            return Refreshed(kind=kind, address=address, problem=problem)
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await drop()
        except TimeoutError:
            problem = f"it did not answer within {_DEADLINE_S:.0f} s"
        except httpx.ConnectTimeout:
            problem = f"it did not answer within {_CONNECT_S:.0f} s"
        self._rests_until_s[kind, address] = self._clock() + _REST_S
        return Refreshed(kind=kind, address=address, problem=problem)


async def _forget(node: Client, key: str, address: str) -> Refreshed:
    try:
        forgotten = await node.forget(key)
    except GalerlyError as error:
        return Refreshed(kind="node", address=address, problem=f"{error.code}: {error.public}")
    found = forgotten.version or "absent"
    return Refreshed(kind="node", address=address, dropped=forgotten.removed, found=found)


class _Front:
    """A front, at `address`. Requests for TLS name the host in `extensions`, not the address."""

    def __init__(
        self, http: httpx.AsyncClient, address: str, secret: str, extensions: dict[str, str]
    ) -> None:
        self._http = http
        self.address = address
        self._secret = {front_refresh.HEADER: secret}
        self._extensions = extensions
        self._slots = asyncio.Semaphore(_MAX_REQUESTS)

    async def drop(self, key: str, targets: list[Target]) -> Refreshed:
        """Drop the entries of the targets, the smallest one first. Raises `httpx.ConnectTimeout`."""
        held: dict[Target, Entry] = {}
        found = problem = ""
        try:
            # The first one alone: a front that refuses the secret is asked no more
            held |= await self._drop_entries(key, targets[:1])
            if Entry.TOGETHER not in held.values():
                held |= await self._drop_entries(key, targets[1:])
            fresh = next((one for one, entry in held.items() if entry is not Entry.STALE), None)
            if fresh is not None:
                found = await self._answer(key, fresh)
        except httpx.ConnectTimeout:
            raise
        except httpx.HTTPError as error:
            problem = f"it cannot be reached: {str(error) or type(error).__name__}"
        except _NotRefreshed as error:
            problem = str(error)
        dropped = ("all",) if Entry.TOGETHER in held.values() else tuple(map(str, held))
        return Refreshed(kind="front", address=self.address, dropped=dropped, found=found, problem=problem)

    async def _drop_entries(self, key: str, targets: list[Target]) -> dict[Target, Entry]:
        """What there was of each target. Raises the first error when all are done."""
        results = await asyncio.gather(
            *(self._drop_entry(key, one) for one in targets), return_exceptions=True
        )
        held = {}
        for target, result in zip(targets, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            if result is not None:
                held[target] = result
        return held

    async def _drop_entry(self, key: str, target: Target) -> Entry | None:
        """What the entry was before; None if there was none. Raises `_NotRefreshed`, `httpx.HTTPError`."""
        async with self._slots:
            entry = await self._ask("HEAD", key, target)
            if entry is Entry.ABSENT:
                return None
            if await self._ask("GET", key, target) is not Entry.DROPPED:
                raise _NotRefreshed(f"it still has {target}")
            return entry

    async def _ask(self, method: str, key: str, target: Target) -> Entry:
        """What the front tells of an entry. Raises `_NotRefreshed` if it tells nothing."""
        response = await self._request(method, key, target, self._secret)
        entry = front_refresh.entry(response.headers.get(front_refresh.HEADER))
        if entry is None:
            raise _NotRefreshed(f"{_NO_SECRET} (status {response.status_code})")
        return entry

    async def _answer(self, key: str, target: Target) -> str:
        """Status and ETag of what the next viewer gets."""
        response = await self._request("HEAD", key, target, {})
        return f"{response.status_code} {response.headers.get('etag', '')}".strip()

    async def _request(
        self, method: str, key: str, target: Target, headers: dict[str, str]
    ) -> httpx.Response:
        # Raw, because httpx would write a key's characters otherwise than the links do
        url = httpx.URL(self.address).copy_with(raw_path=format_path(target, key).encode("ascii"))
        return await self._http.request(
            method,
            url,
            headers={"Accept": "*/*", **headers},
            extensions=self._extensions,
        )
