"""Processes many items concurrently; prints a line for each, a counter, and the failures at the end."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from galerly_cdn.cli import terminal
from galerly_cdn.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from asyncio import Queue, Task
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.serialization import Value

T = TypeVar("T")

_MAX_CONCURRENT_ITEMS = 8
"""Enough to keep the network and the workers busy, and too few to fill the render queue."""


_MAX_QUEUED = 10_000
"""Items that are found before they are processed: a listing of millions does not fill the memory."""
_MAX_UNREACHABLE = 16
"""Items in sequence for which the store cannot be reached, until the rest is not tried any more."""
INTERVAL_S = 30.0
"""Between two lines of progress, where there is no terminal."""


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

    @classmethod
    def of(cls, item_name: str, error: GalerlyError | OSError) -> Failure:
        """The failure of an item. File names can contain bytes that are not printable."""
        name = click.format_filename(item_name)
        if isinstance(error, OSError):
            return cls(name, "file", error.strerror or str(error))
        return cls(name, error.code, error.public)


class Progress:
    """Prints results on stdout; failures and a counter on stderr. `clock` is monotonic, in seconds.

    On a terminal the counter changes with each item, elsewhere it is a line every `INTERVAL_S`.
    """

    def __init__(self, *, as_json: bool, clock: Callable[[], float] = SYSTEM_CLOCK.monotonic) -> None:
        self._as_json = as_json
        self._clock = clock
        self._total = self._done = 0
        self._unreachable = 0
        self._is_total_known = True
        self._is_ended = self._is_temporary = False
        self._shows_counter = self._shows_total = False
        self._next_line_s = clock() + INTERVAL_S
        self.failures: list[Failure] = []
        self._warnings: list[str] = []

    @property
    def exit_code(self) -> int:
        """0 if every item is done, 1 if some failed or warn, `terminal.RUN_AGAIN` if repeating may help."""
        if self._is_temporary or (self._is_ended and self._is_incomplete):
            return terminal.RUN_AGAIN
        return 1 if self.failures or self._warnings else 0

    async def run(
        self,
        items: Mapping[str, T] | AsyncIterable[Mapping[str, T]],
        process: Callable[[T], Awaitable[Result]],
    ) -> None:
        """Process every item, several concurrently, and collect the failures by the items' names.

        Items that come in parts are processed as they come, and count from then on. SIGTERM ends it after
        the items in hand, a second one at once.

        Errors that concern every item are raised at once: `CdnUnreachable`, `Unauthorized`, and `OSError`
        from writing to stdout; those of finding the items; and `StoreUnreachable` once it lasts.
        """
        import asyncio

        from galerly_cdn.errors import GalerlyError

        self._is_total_known = isinstance(items, Mapping)
        remaining: asyncio.Queue[tuple[str, T] | None] = asyncio.Queue(_MAX_QUEUED)
        error: Exception | None = None

        async def process_remaining() -> None:
            while (entry := await remaining.get()) is not None:
                await self._process(entry[0], process(entry[1]))

        try:
            async with asyncio.TaskGroup() as group:
                parts = _one_part(items) if isinstance(items, Mapping) else items
                adding = group.create_task(self._add_items(parts, remaining))
                workers = [group.create_task(process_remaining()) for _ in range(_MAX_CONCURRENT_ITEMS)]
                with _on_sigterm(lambda: self._end(adding, remaining)):
                    await asyncio.wait([adding, *workers])
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
            self._print_counter()
            for entry in part.items():
                await remaining.put(entry)
        self._is_total_known = True
        for _ in range(_MAX_CONCURRENT_ITEMS):
            await remaining.put(None)

    def _end(self, adding: Task[None], remaining: Queue[tuple[str, T] | None]) -> None:
        """Find no more items, and leave those that are not begun."""
        self._is_ended = True
        adding.cancel()
        while not remaining.empty():
            remaining.get_nowait()
        for _ in range(_MAX_CONCURRENT_ITEMS):
            remaining.put_nowait(None)

    async def _process(self, item_name: str, work: Awaitable[Result]) -> None:
        """Process an item, and print its result or keep its failure. Raises what concerns every item."""
        from galerly_cdn.errors import CdnUnreachable, GalerlyError, StoreUnreachable, Unauthorized

        try:
            result = await work
        except (CdnUnreachable, Unauthorized):
            raise
        except (GalerlyError, OSError) as error:
            self._unreachable = self._unreachable + 1 if isinstance(error, StoreUnreachable) else 0
            if self._unreachable >= _MAX_UNREACHABLE:
                raise
            self._add_failure(Failure.of(item_name, error), error)
        else:
            self._unreachable = 0
            self._print(result)

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

    def _add_failure(self, failure: Failure, error: GalerlyError | OSError) -> None:
        from galerly_cdn.retries import TEMPORARY

        self._is_temporary |= isinstance(error, TEMPORARY)
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
        if self._total > 1 and (self._shows_counter or self._shows_total or self._is_incomplete):
            click.echo(f"{self._done} of {self._known_total} done.", err=True)
        if self._is_ended and self._is_incomplete:
            terminal.print_error("ended by SIGTERM; the same command goes on.")

    @property
    def _is_incomplete(self) -> bool:
        return self._done < self._total or not self._is_total_known

    @property
    def _known_total(self) -> str:
        return f"{self._total}{'' if self._is_total_known else '+'}"

    def _print_counter(self) -> None:
        """The counter of a terminal; elsewhere a line if it is time."""
        processed = self._done + len(self.failures)
        if self._shows_counter:
            click.echo(f"\r{processed} of {self._known_total} ", err=True, nl=False)
        elif self._clock() >= self._next_line_s:
            self._next_line_s = self._clock() + INTERVAL_S
            self._shows_total = True
            click.echo(f"{processed} of {self._known_total}, {len(self.failures)} failed.", err=True)

    def _clear_counter(self) -> None:
        if self._shows_counter:
            click.echo("\r\x1b[K", err=True, nl=False)


@contextlib.contextmanager
def _on_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at the first SIGTERM; the next one ends the process, as without this."""
    import asyncio

    loop = asyncio.get_running_loop()

    def once() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        terminal.end_at_sigterm()
        act()

    # ValueError, RuntimeError: not in the main thread, which alone gets signals
    with contextlib.suppress(ValueError, RuntimeError):
        loop.add_signal_handler(signal.SIGTERM, once)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, RuntimeError):
            loop.remove_signal_handler(signal.SIGTERM)
            terminal.end_at_sigterm()


async def _one_part(items: Mapping[str, T]) -> AsyncIterator[Mapping[str, T]]:
    yield items
