"""Reads logs into a table of requests, and answers questions about it. The only importer of DuckDB.

The database is a file in a folder of the caller's, so that a log may be larger than the memory. DuckDB loads
no extension and reads no file but those that it is given.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from galerly_cdn.errors import CommandError
from galerly_cdn.insight import log_lines
from galerly_cdn.insight.log_lines import FileKind
from galerly_cdn.insight.outcomes import (
    OUTERMOST_FIRST,
    Outcome,
    Tier,
    access_outcome,
    cloudfront_outcome,
    nginx_outcome,
)
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from galerly_cdn.insight.log_files import LogFile

MEMORY = "600MB"
"""DuckDB's limit; Python, the library and its threads' stacks are beside it."""


class InsightMissing(CommandError):
    """DuckDB, an optional dependency, is not installed; `detail` says how to install it."""

    code = "insight-missing"
    public = "This command requires DuckDB, which is not installed."


def is_installed() -> bool:
    """Whether DuckDB is there; it is not loaded."""
    return importlib.util.find_spec("duckdb") is not None


class UnreadableLog(CommandError):
    """A file that is no log, for example a damaged archive; `detail` is DuckDB's message."""

    code = "unreadable-log"
    public = "A log file cannot be read."


class Selection(Value, frozen=True):
    """Which requests a report is about: those since a time, in seconds of the epoch, and of one gallery."""

    since_s: float | None = None
    gallery: str = ""


class LogDatabase:
    """The requests in some log files. Use as a context manager, which closes it.

    `segments` are the sizes of the allow-list, by the segment of a URL that names them: `thumbnail.webp` is
    `("800x600", "webp")`. Raises `InsightMissing`.
    """

    def __init__(self, folder: Path, segments: Mapping[str, tuple[str, str]]) -> None:
        try:
            import duckdb  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise InsightMissing("pip install 'galerly-cdn[insight]'") from error
        self._errors = duckdb.Error
        self._links = folder / "links"
        self._names: dict[str, str] = {}
        self._connection = duckdb.connect(
            str(folder / "requests.duckdb"),
            config={
                "memory_limit": MEMORY,
                "temp_directory": str(folder / "spilled"),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self._execute("SET TimeZone = 'UTC'")
        self._execute(log_lines.TABLES)
        rows = [(segment, size, format_) for segment, (size, format_) in segments.items()]
        self._connection.executemany("INSERT INTO segments VALUES (?, ?, ?)", rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def load(self, files: Iterable[LogFile], selection: Selection) -> Tier | None:
        """Read every line; the outermost tier that has logged a request. Raises `UnreadableLog`.

        Called once. Lines that are not selected are counted, and not kept.
        """
        by_kind: dict[FileKind, list[str]] = {}
        self._links.mkdir()
        for number, file in enumerate(files):
            link = self._links / f"{number:08}"  # DuckDB takes a file's name for a pattern
            link.symlink_to(Path(file.path).absolute())
            self._names[str(link)] = file.path
            by_kind.setdefault(file.kind, []).append(str(link))
        parameters = {
            "since_s": selection.since_s,
            "folder": f"{selection.gallery}/" if selection.gallery else "",
        }
        for kind, paths in by_kind.items():
            self._execute(log_lines.insert(log_lines.reader(kind)), {"files": paths, **parameters})
            self._accept_start_lines(kind, paths)
        kinds = [_LineKind(*row) for row in self.rows(log_lines.KINDS_OF_LINES)]
        if kinds:
            outcomes = [(*kind, kind.outcome) for kind in kinds]
            self._connection.executemany("INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)", outcomes)
        tiers = {kind.tier for kind in kinds}
        return next((tier for tier in OUTERMOST_FIRST if tier in tiers), None)

    def _accept_start_lines(self, kind: FileKind, paths: list[str]) -> None:
        """Count the lines of a server's start as no requests; files are read again only where they may be."""
        ((malformed,),) = self.rows(log_lines.COUNT_MALFORMED)
        if malformed and kind is not FileKind.PARQUET:
            ((found,),) = self.rows(log_lines.start_lines(kind), {"files": paths, "at_most": malformed})
            self._execute(log_lines.ACCEPT_START_LINES, {"start_lines": found})

    def rows(self, query: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query's result. Raises `UnreadableLog`."""
        rows: list[tuple[Any, ...]] = self._execute(query, parameters).fetchall()
        return rows

    def insert_originals(self, lengths: Sequence[tuple[str, int]]) -> None:
        """Add originals, by key, with their lengths in bytes."""
        if lengths:
            self._execute(
                "INSERT INTO originals SELECT unnest($keys), unnest($lengths)",
                {"keys": [key for key, _ in lengths], "lengths": [length for _, length in lengths]},
            )

    def _execute(self, query: str, parameters: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - DuckDB's
        try:
            return self._connection.execute(query, parameters)
        except self._errors as error:
            text = str(error).partition("\n")[0]
            for link, name in self._names.items():
                text = text.replace(link, name)
            raise UnreadableLog(text) from error


class _LineKind(NamedTuple):
    """A row of `KINDS_OF_LINES`."""

    tier: str
    status: int
    result: str
    response_result: str
    has_render: bool
    is_picture: bool

    @property
    def outcome(self) -> Outcome:
        if self.tier == Tier.CLOUDFRONT:
            return cloudfront_outcome(
                self.status, self.result, self.response_result, is_picture=self.is_picture
            )
        if self.tier == Tier.NGINX:
            return nginx_outcome(self.status, self.result, is_picture=self.is_picture)
        return access_outcome(self.status, self.result, has_render=self.has_render)
