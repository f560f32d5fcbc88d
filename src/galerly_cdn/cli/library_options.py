"""Options of the commands on originals: `--store` opens a store, `--admin` uses a running CDN's admin API."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.invalidation import InvalidationAtExit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from galerly_cdn.client import Client
    from galerly_cdn.library import Catalog, Library, Listing
    from galerly_cdn.settings.table import Settings

T = TypeVar("T")

_STORE = click.option("--store", help="A store to open: a folder or an address (s3://bucket).")
_ADMIN = click.option(
    "--admin",
    help="Address of a running CDN's admin API, in place of a store (GALERLY_ADMIN; its token: "
    "GALERLY_ADMIN_TOKEN).",
)


class LibraryOptions(NamedTuple):
    """The options of one command, and the settings file that they complete."""

    store: str | None
    admin: str | None
    file: Path | None

    @property
    def is_given(self) -> bool:
        """Whether an option names a store or a CDN; a setting may do so too."""
        return bool(self.store or self.admin)

    def is_configured(self) -> bool:
        """Whether an option or a setting names a store or a CDN. Raises as `settings` does."""
        settings = self.settings()
        return bool(settings.store or settings.admin)

    def settings(self, workers: int | None = None) -> Settings:
        """The settings with the options. Raises `SettingsError`, and `UsageError` for both options."""
        if self.store and self.admin:
            raise click.UsageError("--store and --admin: say one of the two.")
        loaded = terminal.load_settings(self.file, store=self.store, admin=self.admin, workers=workers)
        return loaded.settings

    def run_listing(self, act: Callable[[Listing], Coroutine[Any, Any, T]]) -> T:
        """As `run`, for an `act` that only lists: nothing is created."""
        from galerly_cdn.app import stores

        return self._run(act, _existing(stores.open_listing), self.settings(), as_json=False)

    def run(self, act: Callable[[Catalog], Coroutine[Any, Any, T]], *, as_json: bool = False) -> T:
        """The result of `act`, which lists, deletes or purges: no worker is started.

        At the end, also of an interrupted command, what was purged of a store is invalidated in CloudFront.
        Raises as `act` and `settings` do, and `NotInvalidated`.
        """
        from galerly_cdn.app import stores

        return self._run(act, _existing(stores.open_catalog), self.settings(), as_json=as_json)

    def run_rendering(
        self,
        act: Callable[[Library], Coroutine[Any, Any, T]],
        *,
        as_json: bool = False,
        workers: int | None = None,
        creates: bool = False,
    ) -> T:
        """As `run`, for an `act` that uploads, inspects or warms: `workers` (of the settings) are started.

        With `creates`, a store that does not exist is created.
        """
        from galerly_cdn.app import renderer

        open_store = renderer.open_library if creates else _existing(renderer.open_library)
        return self._run(act, open_store, self.settings(workers), as_json=as_json)

    def _run(
        self,
        act: Callable[[Any], Coroutine[Any, Any, T]],
        open_store: Callable[..., AbstractAsyncContextManager[object]],
        settings: Settings,
        *,
        as_json: bool,
    ) -> T:
        import asyncio

        purged = InvalidationAtExit()

        async def main() -> T:
            if settings.admin and not self.store:
                async with _client(settings) as client:
                    return await act(client)
            if not settings.store:
                raise click.UsageError("say where the originals are: --store ADDRESS or --admin URL.")
            async with open_store(settings, purged.add) as opened:
                return await act(opened)

        try:
            return asyncio.run(main())
        finally:
            purged.invalidate(settings, as_json=as_json)


def _existing(
    open_store: Callable[..., AbstractAsyncContextManager[object]],
) -> Callable[..., AbstractAsyncContextManager[object]]:
    """`open_store` for a store that exists; else it raises `SettingsError`."""
    from galerly_cdn.app import stores

    def opened(settings: Settings, *arguments: object) -> AbstractAsyncContextManager[object]:
        stores.check_store_exists(settings)
        return open_store(settings, *arguments)

    return opened


@contextlib.asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[Client]:
    """A client of the admin API. The CDN itself invalidates the caches in front of it."""
    from galerly_cdn.client import Client
    from galerly_cdn.settings import load

    async with Client(settings.admin, load.admin_token(settings)) as client:
        yield client


def library_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--store`, `--admin` and `--config`, as one argument `where`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: object, store: str | None, admin: str | None, file: Path | None, **options: object
    ) -> None:
        command(*arguments, where=LibraryOptions(store, admin, file), **options)

    return _STORE(_ADMIN(terminal.CONFIG(wrapped)))
