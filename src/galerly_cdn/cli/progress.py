"""How does a command over many things tell how it goes? A line for each, and at the end what failed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from galerly_cdn.serialization import Value

T = TypeVar("T")

_AT_ONCE = 8
"""Things under way at a time: enough to keep a network and the workers busy, too few to fill a queue."""


class Outcome(NamedTuple):
    """What came of one thing: for programs, and for people."""

    values: Sequence[Value]
    text: str


class Failure(NamedTuple):
    """What did not come of one thing, and why."""

    name: str
    code: str
    message: str


class Progress:
    """Tells results on stdout, a counter (on a terminal) and failures on stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._total = self._done = 0
        self._is_counting = False
        self.failures: list[Failure] = []

    async def run(self, things: Mapping[str, T], act: Callable[[T], Awaitable[Outcome]]) -> None:
        """Act on every thing, several at a time, by the name it is told under; go on when one fails.

        Raises at once what is no fault of one thing: `CdnUnreachable`, `Unauthorized`, a reader that left.
        """
        import asyncio

        from galerly_cdn.errors import GalerlyError

        self._total = len(things)
        self._is_counting = self._total > 1 and sys.stderr.isatty()
        left = iter(things.items())

        async def work() -> None:
            for name, thing in left:
                told = await _attempt(name, act(thing))
                self._fail(told) if isinstance(told, Failure) else self._tell(told)

        self._count()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, self._total)):
                    group.create_task(work())
        except* (GalerlyError, OSError) as errors:
            raise errors.exceptions[0] from None
        finally:
            self._end()

    def _tell(self, told: Outcome) -> None:
        self._done += 1
        self._wipe()
        if self._as_json:
            for value in told.values:
                terminal.print_value(value, "", as_json=True)
        else:
            click.echo(told.text)
        self._count()

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._count()

    def _end(self) -> None:
        """Also of what was cut off: what failed, and how far it came."""
        self._wipe()
        for failure in self.failures:
            if self._as_json:
                click.echo(json.dumps({"failed": failure._asdict()}, ensure_ascii=False))
            terminal.print_error(f"{failure.name}: {failure.message}")
        if self._total > 1 and (self._is_counting or self._done < self._total):
            click.echo(f"{self._done} of {self._total} done.", err=True)

    def _count(self) -> None:
        if self._is_counting:
            click.echo(f"\r{self._done + len(self.failures)} of {self._total} ", err=True, nl=False)

    def _wipe(self) -> None:
        if self._is_counting:
            click.echo("\r\x1b[K", err=True, nl=False)


async def _attempt(thing: str, act: Awaitable[Outcome]) -> Outcome | Failure:
    from galerly_cdn.errors import CdnUnreachable, GalerlyError, Unauthorized

    name = click.format_filename(thing)  # printable, whatever its bytes are
    try:
        return await act
    except (CdnUnreachable, Unauthorized):
        raise
    except GalerlyError as error:
        return Failure(name, error.code, error.public)
    except OSError as error:
        return Failure(name, "file", error.strerror or str(error))
