"""Where are the originals that a command is about? In a store, or with a running CDN."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.invalidation import InvalidationAtExit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from galerly_cdn.library import Library
    from galerly_cdn.settings.table import Settings

T = TypeVar("T")

_STORE = click.option("--store", help="The store itself: a folder or an address (s3://bucket).")
_ADMIN = click.option(
    "--admin", help="Or a running CDN: its admin side's address (GALERLY_ADMIN; token: GALERLY_ADMIN_TOKEN)."
)


class LibraryOptions(NamedTuple):
    """The options that say where, and the settings file they complete."""

    store: str | None
    admin: str | None
    file: Path | None

    @property
    def is_told(self) -> bool:
        """Whether an option says it, or only a setting may."""
        return bool(self.store or self.admin)

    def is_known(self) -> bool:
        """Whether an option or a setting says it. Raises as `settings` does."""
        settings = self.settings()
        return bool(settings.store or settings.admin)

    def settings(self) -> Settings:
        """Raises `SettingsError`, and `UsageError` for both options."""
        if self.store and self.admin:
            raise click.UsageError("--store and --admin: say one of the two.")
        return terminal.load_settings(self.file, store=self.store, admin=self.admin).settings

    def ask(self, act: Callable[[Library], Coroutine[Any, Any, T]]) -> T:
        """What `act` makes of whom to ask. Raises as it and `settings` do."""
        return self._ask(act, InvalidationAtExit())

    def change(self, act: Callable[[Library], Coroutine[Any, Any, T]], *, as_json: bool) -> T:
        """As `ask`; then, also if it was cut off, CloudFront forgets what was purged of its store.

        Raises `NotInvalidated`, too.
        """
        stale = InvalidationAtExit()
        try:
            return self._ask(act, stale)
        finally:
            stale.invalidate(self.settings(), as_json=as_json)

    def _ask(self, act: Callable[[Library], Coroutine[Any, Any, T]], stale: InvalidationAtExit) -> T:
        import asyncio

        async def main() -> T:
            async with self._archivist(stale) as archivist:
                return await act(archivist)

        return asyncio.run(main())

    @contextlib.asynccontextmanager
    async def _archivist(self, stale: InvalidationAtExit) -> AsyncIterator[Library]:
        """An option goes before a setting. A running CDN knows by itself what is in front of it."""
        settings = self.settings()
        if settings.admin and not self.store:
            from galerly_cdn.client import Client
            from galerly_cdn.settings import load

            async with Client(settings.admin, load.admin_token(settings)) as client:
                yield client
        elif settings.store:
            from galerly_cdn import app

            async with app.open_library(settings, stale.add) as archive:
                yield archive
        else:
            raise click.UsageError("say where the originals are: --store ADDRESS or --admin URL.")


def library_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--store`, `--admin` and `--config`, given to the command as one `where`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: object, store: str | None, admin: str | None, file: Path | None, **options: object
    ) -> None:
        command(*arguments, where=LibraryOptions(store, admin, file), **options)

    return _STORE(_ADMIN(terminal.CONFIG(wrapped)))
