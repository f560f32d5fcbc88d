"""Processes many items concurrently; prints a line for each, a counter, and the failures at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from asyncio import Queue
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence

    from galerly_cdn.serialization import Value

T = TypeVar("T")

_MAX_CONCURRENT_ITEMS = 8
"""Enough to keep the network and the workers busy, and too few to fill the render queue."""


class Result(NamedTuple):
    """The result of one item: its values for `--json`, else its text; and warnings, as lines for stderr."""

    values: Sequence[Value]
    text: str
    warnings: Sequence[str] = ()


class Failure(NamedTuple):
    """An item that failed: its name, the error's code and message."""

    name: str
    code: str
    message: str


class Progress:
    """Prints results on stdout; failures, and on a terminal a counter, on stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._total = self._done = 0
        self._is_total_known = True
        self._shows_counter = False
        self.failures: list[Failure] = []
        self._warnings: list[str] = []

    @property
    def exit_status(self) -> int:
        """1 if an item failed or has a warning, else 0."""
        return 1 if self.failures or self._warnings else 0

    async def run(
        self,
        items: Mapping[str, T] | AsyncIterable[Mapping[str, T]],
        process: Callable[[T], Awaitable[Result]],
    ) -> None:
        """Process every item, several concurrently, and collect the failures by the items' names.

        Items that come in parts are processed as they come, and count from then on.

        Errors that concern every item are raised at once: `CdnUnreachable`, `Unauthorized`, and `OSError`
        from writing to stdout; and those of finding the items.
        """
        import asyncio

        from galerly_cdn.errors import GalerlyError

        self._is_total_known = isinstance(items, Mapping)
        remaining: asyncio.Queue[tuple[str, T] | None] = asyncio.Queue()
        error: Exception | None = None

        async def process_remaining() -> None:
            while (entry := await remaining.get()) is not None:
                result = await _process(entry[0], process(entry[1]))
                self._add_failure(result) if isinstance(result, Failure) else self._print(result)

        try:
            async with asyncio.TaskGroup() as group:
                parts = _one_part(items) if isinstance(items, Mapping) else items
                group.create_task(self._add_items(parts, remaining))
                for _ in range(_MAX_CONCURRENT_ITEMS):
                    group.create_task(process_remaining())
        except* (GalerlyError, OSError) as errors:
            error = errors.exceptions[0]
        finally:
            self._finish()
        if error is not None:  # raised in the `except*` block, Python 3.11.2 would wrap it in a group
            raise error from None

    async def _add_items(
        self, parts: AsyncIterable[Mapping[str, T]], remaining: Queue[tuple[str, T] | None]
    ) -> None:
        """Add the items as they are found, then a mark of the end for each task that processes them."""
        async for part in parts:
            self._total += len(part)
            self._shows_counter = self._total > 1 and sys.stderr.isatty()
            for entry in part.items():
                remaining.put_nowait(entry)
            self._print_counter()
        self._is_total_known = True
        for _ in range(_MAX_CONCURRENT_ITEMS):
            remaining.put_nowait(None)

    def _print(self, result: Result) -> None:
        self._done += 1
        self._warnings.extend(result.warnings)
        self._clear_counter()
        if self._as_json:
            for value in result.values:
                terminal.print_value(value, "", as_json=True)
        else:
            click.echo(result.text)
        self._print_counter()

    def _add_failure(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._print_counter()

    def _finish(self) -> None:
        """Print the warnings, the failures, and how many items are done; also after an interruption."""
        self._clear_counter()
        for warning in self._warnings:
            terminal.print_error(warning)
        for failure in self.failures:
            if self._as_json:
                click.echo(json.dumps({"failed": failure._asdict()}, ensure_ascii=False))
            terminal.print_error(f"{failure.name}: {failure.message}")
        is_incomplete = self._done < self._total or not self._is_total_known
        if self._total > 1 and (self._shows_counter or is_incomplete):
            click.echo(f"{self._done} of {self._known_total} done.", err=True)

    @property
    def _known_total(self) -> str:
        return f"{self._total}{'' if self._is_total_known else '+'}"

    def _print_counter(self) -> None:
        if self._shows_counter:
            click.echo(f"\r{self._done + len(self.failures)} of {self._known_total} ", err=True, nl=False)

    def _clear_counter(self) -> None:
        if self._shows_counter:
            click.echo("\r\x1b[K", err=True, nl=False)


async def _one_part(items: Mapping[str, T]) -> AsyncIterator[Mapping[str, T]]:
    yield items


async def _process(item_name: str, work: Awaitable[Result]) -> Result | Failure:
    from galerly_cdn.errors import CdnUnreachable, GalerlyError, Unauthorized

    name = click.format_filename(item_name)  # file names can contain bytes that are not printable
    try:
        return await work
    except (CdnUnreachable, Unauthorized):
        raise
    except GalerlyError as error:
        return Failure(name, error.code, error.public)
    except OSError as error:
        return Failure(name, "file", error.strerror or str(error))
