"""The composition root: settings → a running CDN. The only file that builds things.

telemetry → workers → originals, renditions → recipes → origin → edge, page → application → listener
                                                              → archive
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn import listener, roots
from galerly_cdn.archive import Archive
from galerly_cdn.asgi import Application
from galerly_cdn.edge import Edge
from galerly_cdn.errors import StoreUnreachable
from galerly_cdn.links import Links
from galerly_cdn.misses import Misses
from galerly_cdn.model import Job, Picture, Target
from galerly_cdn.origin import Origin, Recipe
from galerly_cdn.original import Downloads
from galerly_cdn.private import Guard
from galerly_cdn.render import recipe, wheel
from galerly_cdn.render.workers import Workers
from galerly_cdn.store.deposit import FolderDeposit
from galerly_cdn.store.folder import FolderOriginals
from galerly_cdn.store.shelf import FolderRenditions
from galerly_cdn.telemetry import AccessLog, Counters, Telemetry
from galerly_cdn.url import AllowList, checked_key, is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from galerly_cdn.asgi import Handler
    from galerly_cdn.config import Settings
    from galerly_cdn.model import Facts, Rendered, SizeRule
    from galerly_cdn.render.wire import Hello
    from galerly_cdn.roots import Roots
    from galerly_cdn.store import Originals, Renditions, WritableOriginals
    from galerly_cdn.store.remote.bucket import Bucket
    from galerly_cdn.store.remote.originals import RemoteOriginals

_log = logging.getLogger(__name__)


class Cdn:
    """The parts of a running CDN, built and wired; `compose` starts and ends them.

    `archive` is None where the originals can only be read.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: Settings,
        *,
        telemetry: Telemetry,
        workers: Workers,
        libvips: str,
        originals: Originals,
        writable: WritableOriginals | None,
        renditions: Renditions,
    ) -> None:
        self.telemetry = telemetry
        self.workers = workers
        self._settings = settings
        self._originals = originals
        self.origin = Origin(
            originals=originals,
            renditions=renditions,
            renderer=workers,
            recipes=recipes(settings, libvips),
            clock=telemetry.monotonic,
            count=telemetry.counters.count,
        )
        misses = Misses(originals, settings, telemetry.monotonic)
        guard = _guard(settings, telemetry.wall)
        self._edge = Edge(
            settings=settings,
            allowed=AllowList(settings.size_rules),
            misses=misses,
            renditions=renditions,
            origin=self.origin,
            guard=guard,
            downloads=Downloads(settings, misses, originals, guard),
        )
        self.archive = writable and Archive(
            originals=writable,
            renditions=renditions,
            decoder=workers,
            recipes=self.origin.recipes,
            max_bytes=settings.max_original_bytes,
            forget=self._edge.forget,
        )
        self._page: Handler | None = None
        if settings.browse or (is_loopback(settings.host) and not settings.private_prefixes):
            from galerly_cdn.browse import Browse  # noqa: PLC0415 - its templates cost start-up time

            links = Links(sizes=settings.sizes)
            self._page = Browse(originals, renditions, self.inspect, links, is_public=settings.browse).answer
        self.application = Application(self._route, settings, telemetry)

    def _route(self, raw_path: bytes) -> Handler:
        if self._page is not None and (raw_path == b"/" or raw_path.startswith(b"/-/")):
            return self._page
        return self._edge.answer

    async def inspect(self, key: str) -> Facts:
        """What an original's header says. Raises as opening and inspecting it do."""
        with await self._originals.open(key) as original:
            head = original.head
            return await self.workers.inspect(original.fd, head.length_bytes, f"{head.version} {key}")


def _guard(settings: Settings, now: Callable[[], float]) -> Guard:
    """Raises `SettingsError` for keys that are unfit."""
    guard = functools.partial(
        Guard, settings.private_prefixes, now=now, signs_originals=settings.sign_originals
    )
    if not settings.public_keys:
        return guard(verifier=None)
    from galerly_cdn import keyring  # noqa: PLC0415 - cryptography's start-up time is for those who sign
    from galerly_cdn.signing import Verifier  # noqa: PLC0415 - likewise

    keys = keyring.load(Path(settings.public_keys))
    return guard(verifier=Verifier(keys, settings.public_urls))


def recipes(settings: Settings, libvips: str) -> Mapping[Target, Recipe]:
    """A render job and its digest for every target of the allow-list."""
    made = {}
    for rule in settings.size_rules:
        for chosen in (None, *rule.qualities):
            target = Target(rule.size, chosen)
            job = _job(rule, target, settings)
            made[target] = Recipe(job, recipe.digest(job, libvips))
    return made


def _job(rule: SizeRule, target: Target, settings: Settings) -> Job:
    return Job((Picture(target, rule.qualities),), settings.limits, settings.keep_copyright)


@contextlib.asynccontextmanager
async def compose(settings: Settings, places: Roots) -> AsyncIterator[Cdn]:
    """A CDN over its two roots, its workers running. Raises `SettingsError`.

    On leaving, fills under way are finished, the workers end, and the access log is written out.
    """
    counters = Counters()
    log = AccessLog(sys.stdout.buffer, counters) if settings.access_log else None
    telemetry = Telemetry(counters, log, wall=time.time, monotonic=time.monotonic)  # noqa: TID251 - the rim
    workers = Workers(settings, counters.count)
    try:
        hello = await workers.start()
        wheel.check(hello.libvips)
        writable = await _writable(settings, places, telemetry) if places.is_writable else None
        originals = writable or await _readable(settings, places, telemetry)
        async with _renditions(settings, places.renditions, telemetry) as renditions:
            cdn = Cdn(
                settings,
                telemetry=telemetry,
                workers=workers,
                libvips=hello.libvips,
                originals=originals,
                writable=writable,
                renditions=renditions,
            )
            yield cdn
            await cdn.origin.drain()
    finally:
        await workers.close(settings.drain_s)
        telemetry.close()


async def _readable(settings: Settings, places: Roots, telemetry: Telemetry) -> Originals:
    """The store of originals at their root. Raises `SettingsError`."""
    if roots.is_remote(places.originals):
        return await _remote_originals(settings, places, telemetry)
    return FolderOriginals(Path(places.originals), checked_key, now=telemetry.wall)


async def _writable(settings: Settings, places: Roots, telemetry: Telemetry) -> WritableOriginals:
    """The same, taking uploads. Raises `SettingsError`."""
    if roots.is_remote(places.originals):
        return await _remote_originals(settings, places, telemetry)
    return _deposit(Path(places.originals), settings, telemetry)


def _deposit(root: Path, settings: Settings, telemetry: Telemetry) -> FolderDeposit:
    if settings.store:
        root.mkdir(parents=True, exist_ok=True)
    return FolderDeposit(root, checked_key, now=telemetry.wall)


async def _remote_originals(settings: Settings, places: Roots, telemetry: Telemetry) -> RemoteOriginals:
    from galerly_cdn.store.remote.originals import RemoteOriginals  # noqa: PLC0415 - obstore's start-up time

    bucket = await _bucket(places.originals, settings, telemetry)
    return RemoteOriginals(bucket, settings, telemetry.monotonic)


@contextlib.asynccontextmanager
async def _renditions(settings: Settings, root: str, telemetry: Telemetry) -> AsyncIterator[Renditions]:
    """The store of renditions at their root, closed on leaving. Raises `SettingsError`."""
    count = telemetry.counters.count
    if not roots.is_remote(root):
        shelf = FolderRenditions(Path(root), settings.renditions_bytes, count, telemetry.wall)
        shelf.start()
        try:
            yield shelf
        finally:
            await shelf.close()
        return
    from galerly_cdn.store.remote.renditions import RemoteRenditions  # noqa: PLC0415 - as above

    yield RemoteRenditions(await _bucket(root, settings, telemetry), count)


async def _bucket(root: str, settings: Settings, telemetry: Telemetry) -> Bucket:
    """A remote root, which may be away for now. Raises `SettingsError`."""
    from galerly_cdn.store.remote.bucket import Bucket  # noqa: PLC0415 - as above

    bucket = Bucket(root, settings, telemetry.monotonic, telemetry.counters.count)
    try:
        await bucket.check()
    except StoreUnreachable as error:
        _log.warning("%s cannot be reached now: %s", root, error.detail)
    return bucket


def serve(settings: Settings, photographs: str | None, announce: Callable[[str], None]) -> bool:
    """Serve until a signal; whether every answer under way was finished. Raises `SettingsError`."""
    places = roots.resolve(settings, photographs)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )

    async def main() -> bool:
        async with compose(settings, places) as cdn:
            viewers = listener.Listener(
                application=cdn.application,
                host=settings.host,
                port=settings.port,
                refuse=cdn.application.refuse,
                on_ready=announce,
            )
            return await listener.serve(viewers, settings=settings)

    return listener.run(main())


def render_file(
    settings: Settings, file: Path, size: str, image_format: str | None
) -> tuple[Rendered, bytes]:
    """Render one file as the server would. Raises as a request for it would."""
    segment = f"{size}.{image_format}" if image_format else size
    rule, target = AllowList(settings.size_rules).find(segment.encode())
    job = _job(rule, target, settings)

    async def main() -> tuple[Rendered, bytes]:
        async with _workers(settings) as (workers, _):
            with file.open("rb") as original:
                length_bytes = os.fstat(original.fileno()).st_size
                return await workers.render(original.fileno(), length_bytes, job, str(file))

    return listener.run(main())


def inspect_file(settings: Settings, file: Path) -> Facts:
    """What a file's header says. Raises as a request for it would."""

    async def main() -> Facts:
        async with _workers(settings) as (workers, _):
            with file.open("rb") as original:
                length_bytes = os.fstat(original.fileno()).st_size
                return await workers.inspect(original.fileno(), length_bytes, str(file))

    return listener.run(main())


def renderer(settings: Settings) -> Hello:
    """The renderer in use: libvips' version, and the formats it really decodes."""

    async def main() -> Hello:
        async with _workers(settings) as (_, hello):
            return hello

    return listener.run(main())


@contextlib.asynccontextmanager
async def _workers(settings: Settings) -> AsyncIterator[tuple[Workers, Hello]]:
    workers = Workers(settings, Counters().count)
    hello = await workers.start()
    try:
        wheel.check(hello.libvips)
        yield workers, hello
    finally:
        await workers.close(settings.drain_s)
