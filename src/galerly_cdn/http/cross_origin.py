"""Keeps other websites from reading what a server on loopback answers.

A page of any website can send requests to 127.0.0.1 from the browser of a user of this machine, and could
read the responses whose CORS headers allow it. On a loopback address these headers are for requests whose
Host header is one of the public URLs, as a proxy passes it, and for pages of this machine or of a public URL.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from galerly_cdn.http import responses
from galerly_cdn.http.exchange import Audience
from galerly_cdn.http.request import headers_of
from galerly_cdn.http.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.exchange import Application, HitAnswer
    from galerly_cdn.http.request import Message, Receive, Scope, Send
    from galerly_cdn.http.responses import Response
    from galerly_cdn.settings.table import Settings

_VARY = (b"vary", b"Origin")
_ALL = Audience(is_shared=True)
_THIS_PAGE = Audience(is_shared=True, last_lines=responses.field_lines([_VARY]))
_NO_PAGE = Audience(is_shared=False, last_lines=responses.field_lines([_VARY]))


def public_hosts(public_urls: Iterable[str]) -> frozenset[str]:
    """The host names of the public URLs, in lower case and without ports."""
    return frozenset(host_name(one.partition("://")[2]) for one in public_urls)


def host_name(host: str) -> str:
    """The name of a Host header or of an authority, in lower case and without port; empty if malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_own_host(host: str, public: frozenset[str]) -> bool:
    """Whether a Host header names this machine or a public URL."""
    return is_loopback(host) or host_name(host) in public


def is_shared(host: str, origin: str | None, public: frozenset[str]) -> bool:
    """Whether the page at `origin` may read a response to a request for `host`; without Origin, any may.

    A response to a request without Origin is not read by a page, unless a cache reuses it: see `Vary`.
    """
    if host_name(host) in public:
        return True
    # Repeated headers are one list, which is the origin of no page
    page = "" if origin is None or "," in origin else origin.partition("://")[2]
    return is_loopback(host) and (origin is None or is_own_host(page, public))


class LoopbackApplication:
    """The public application, for a loopback address."""

    def __init__(self, application: Application, public_urls: Iterable[str]) -> None:
        self._application = application
        self._public = public_hosts(public_urls)
        self.refuse: Callable[[GalerlyError, str], Response] = application.refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one exchange."""
        audience = self._audience(headers_of(scope))
        if audience.last_lines:
            send = _restricted(send, is_shared=audience.is_shared)
        await self._application(scope, receive, send)

    def answer_hit(self, scope: Scope) -> HitAnswer | None:
        """As `Application.answer_hit`, with the headers that `__call__` sends."""
        return self._application.answer_hit(scope, self._audience)

    def _audience(self, headers: Mapping[bytes, bytes]) -> Audience:
        return _audience(headers.get(b"host", b""), headers.get(b"origin"), self._public)


@functools.lru_cache(maxsize=256)
def _audience(host: bytes, origin: bytes | None, public: frozenset[str]) -> Audience:
    """The pages that may read the response to a request with these headers."""
    name = host.decode("latin-1")
    if host_name(name) in public:
        return _ALL
    page = None if origin is None else origin.decode("latin-1")
    return _THIS_PAGE if is_shared(name, page, public) else _NO_PAGE


def for_host(application: Application, settings: Settings) -> Application | LoopbackApplication:
    """The application, guarded against other websites if the settings' address is for this machine."""
    if is_loopback(settings.host):
        return LoopbackApplication(application, settings.public_urls)
    return application


def _restricted(send: Send, *, is_shared: bool) -> Send:
    """`send` for a response that depends on Origin, without the headers that share it if it is not shared."""

    async def restricted(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [one for one in message["headers"] if is_shared or one[0] not in responses.SHARING]
            message = {**message, "headers": [*headers, _VARY]}
        await send(message)

    return restricted
