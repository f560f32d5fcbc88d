"""The admin side over stores in memory, asked without a listener."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import Authorizer
from galerly_cdn.admin.app import AdminApplication
from galerly_cdn.admin.auth import Authenticator
from galerly_cdn.admin.handlers import Handlers
from galerly_cdn.admin.health import Health
from galerly_cdn.admin.metrics import Metrics
from galerly_cdn.admin.routes import all_routes
from galerly_cdn.admin.warming import Warmer
from galerly_cdn.errors import NoSuchOriginal, NoSuchUpload, OriginalExists, UnsupportedFormat
from galerly_cdn.http.urls import checked_key
from galerly_cdn.library import StoreLibrary
from galerly_cdn.model import Facts
from galerly_cdn.store.interfaces import PresignedUpload
from galerly_cdn.store.temp_files import UploadFile
from tests.support.in_memory_cdn import CountingRenderer, MemoryOriginals, SmallCdn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
    from typing import Any

    from galerly_cdn.model import Head
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import DirectUploads

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

PHOTOGRAPH = b"photograph of the sea"
TOKEN = "0123456789abcdef0123456789abcdef"
NUMBER = "00112233445566778899aabbccddeeff"


class MemoryDeposit:
    """Originals in a dictionary that take uploads."""

    def __init__(self, kept: MemoryOriginals) -> None:
        self.kept = kept
        self.contents: dict[str, bytes] = {}
        self.head = kept.head
        self.open = kept.open
        self.read = kept.read
        self.list = kept.list

    def spool(self) -> UploadFile:
        return UploadFile(None)

    async def put(
        self, key: str, spool: UploadFile, *, media_type: str, md5: str, replaces: bool
    ) -> tuple[Head, bool]:
        assert media_type.startswith("image/")
        assert len(md5) == 32
        content = os.pread(spool.fd, spool.length_bytes, 0)
        is_new = self.contents.get(key) != content
        if is_new and key in self.contents and not replaces:
            raise OriginalExists
        if is_new:
            self.kept.put(key, content=content)
            self.contents[key] = content
        return await self.kept.head(key), is_new

    async def delete(self, key: str) -> bool:
        try:
            await self.kept.head(key)
        except NoSuchOriginal:
            return False
        self.kept.remove(key)
        return self.contents.pop(key, None) is not None


class Decoder(CountingRenderer):
    """Takes everything that begins with `photograph` for a JPEG of 60 x 40."""

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        self.tokens.append(token)
        if self.error is not None:
            raise self.error
        seen = os.pread(fd, 10, 0)
        if seen and seen != b"photograph":  # an original opened in memory has no bytes
            raise UnsupportedFormat(repr(seen))
        assert length_bytes
        return Facts("jpeg", 60, 40, 1, 1, 8, 3, False, False, None, (), (), 9600)


class MemoryIncoming:
    """Uploads that came by themselves, by number."""

    def __init__(self) -> None:
        self.sent: dict[str, bytes] = {}

    async def invite(self, number: str) -> PresignedUpload:
        return PresignedUpload(
            method="PUT", url=f"https://store.test/{number}", headers={"a": "b"}, expires_s=60
        )

    async def read(self, number: str) -> AsyncGenerator[bytes, None]:
        if number not in self.sent:
            raise NoSuchUpload
        yield self.sent[number]

    async def remove(self, number: str) -> None:
        self.sent.pop(number, None)


@dataclass
class Told:
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever it is
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass
class SmallAdmin:
    """The admin side of a `SmallCdn`. `tokens` as the setting's file holds them."""

    settings: Settings
    tokens: tuple[str, ...] = ()
    is_local: bool = True
    incoming: DirectUploads | None = None
    decoder: Decoder = field(default_factory=Decoder)
    at_once: int = 2

    def __post_init__(self) -> None:
        self.cdn = SmallCdn(self.settings, renderer=self.decoder)
        self.telemetry = self.cdn.telemetry
        self.audits = self.cdn.audits
        self.deposit = MemoryDeposit(self.cdn.originals)
        guard = Authorizer(self.settings.private_prefixes, None, lambda: 0.0, signs_originals=False)
        self.archive = StoreLibrary(
            originals=self.deposit,
            renditions=self.cdn.renditions,
            renderer=self.decoder,
            recipes=self.cdn.origin.recipes,
            max_bytes=self.settings.max_original_bytes,
            warm=functools.partial(self.cdn.origin.warm, targets=self.settings.page_targets),
            check=lambda key: guard.checked(checked_key(key)),
            forget=self.cdn.edge.forget,
        )
        self.now_s = 0.0
        self.warming = Warmer(self.archive, self.at_once, self.cdn.counters.count)
        self.health = Health(self.decoder, self.deposit, self.settings.limits, lambda: self.now_s)
        service = Handlers(
            self.archive, self.warming, self.settings, incoming=self.incoming, number=lambda: NUMBER
        )
        gauges = {"workers": ("Workers.", lambda: 2.0)}
        self.application = AdminApplication(
            all_routes(service, self.health, Metrics(self.telemetry, gauges, "8.18")),
            Authenticator(self.tokens, is_local=self.is_local),
            self.settings,
            self.telemetry,
            clock=self.cdn.clock,
        )

    async def ask(
        self,
        method: str,
        path: str | bytes,
        *,
        body: Iterable[bytes] | bytes = b"",
        headers: dict[str, str] | None = None,
        leaves_early: bool = False,
    ) -> Told:
        """One request; `leaves_early`: the client goes where its body should go on."""
        sent: list[MutableMapping[str, Any]] = []
        chunks = [body] if isinstance(body, bytes) else list(body)
        events: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": leaves_early or number < len(chunks)}
            for number, chunk in enumerate(chunks, 1)
        ]
        events.append({"type": "http.disconnect"})

        async def receive() -> MutableMapping[str, Any]:
            return events.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        raw_path, _, query = (path.encode() if isinstance(path, str) else path).partition(b"?")
        told = {"host": "127.0.0.1:9000"} | (headers or {})
        scope = {
            "type": "http",
            "method": method,
            "raw_path": raw_path,
            "query_string": query,
            "client": ("127.0.0.1", 4711),
            "headers": [(name.lower().encode(), value.encode()) for name, value in told.items()],
        }
        await self.application(scope, receive, send)
        start, *rest = sent
        assert [one.get("more_body", False) for one in rest] == [True] * (len(rest) - 1) + [False]
        names = [name for name, _ in start["headers"]]
        assert len(names) == len(set(names)), "a header is sent twice"
        answered = {name.decode("ascii"): value.decode("ascii") for name, value in start["headers"]}
        whole = b"".join(one["body"] for one in rest)
        with contextlib.suppress(KeyError):
            assert method == "HEAD" or int(answered["content-length"]) == len(whole)
        return Told(start["status"], answered, whole)

    async def put(self, key: str, content: bytes = PHOTOGRAPH, *, replace: bool = False) -> Told:
        return await self.ask("PUT", f"/originals/{key}" + ("?replace=true" if replace else ""), body=content)
