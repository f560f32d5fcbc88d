"""Keeps what an audit has to remember in a temporary SQLite database, so that its memory does not grow.

The names of renditions do not sort as the keys of originals do, and an inventory is not sorted at all, so
that two listings cannot be merged while they are read.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.audit.judgement import Reason
from galerly_cdn.errors import CommandError
from galerly_cdn.serialization import Value, from_json, to_json
from galerly_cdn.store.stored_items import OriginalItem, StoredItem

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLES = """
    CREATE TABLE originals (stored TEXT PRIMARY KEY, key TEXT, version TEXT, modified_s REAL, is_shown INT)
        WITHOUT ROWID;
    CREATE TABLE groups (kind TEXT, name TEXT, originals INT, original_bytes INT, items INT, item_bytes INT,
        PRIMARY KEY (kind, name)) WITHOUT ROWID;
    CREATE TABLE findings (key TEXT, label TEXT, length_bytes INT, reason TEXT, finding BLOB);
"""
_ADD_GROUP = """
    INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET
        originals = originals + excluded.originals, original_bytes = original_bytes + excluded.original_bytes,
        items = items + excluded.items, item_bytes = item_bytes + excluded.item_bytes
"""
ORIGINALS = "originals/"
_PRAGMAS = ("journal_mode = OFF", "synchronous = OFF", "cache_size = -32000", "temp_store = FILE")
"""Nothing has to survive the process."""
_MAX_BUFFERED = 10_000
_FETCHED = 1000


class NoTemporarySpace(CommandError):
    """The database cannot be written; `detail` is SQLite's message."""

    code = "no-temporary-space"
    public = "The folder of temporary files has no room; name another one by TMPDIR."


class Known(NamedTuple):
    """An original as the listing showed it."""

    key: str
    version: str
    modified_s: float


class Finding(Value, frozen=True, kw_only=True):
    """An item that can be removed, or an original that expires; `root` is the number of the item's root."""

    reason: Reason
    root: int = 0
    item: StoredItem | None = None
    original: OriginalItem | None = None

    @property
    def name(self) -> str:
        """The name in its root; that of an original begins with `originals/`."""
        return self.item.name if self.item else self.label

    @property
    def label(self) -> str:
        """What it is, for people."""
        return self.item.label if self.item else f"{ORIGINALS}{self.key}"

    @property
    def key(self) -> str:
        """The key of the photograph; empty if it is not known."""
        return self.item.key if self.item else self.original.key if self.original else ""

    @property
    def length_bytes(self) -> int:
        """The bytes that its removal frees."""
        return self.item.length_bytes if self.item else self.original.length_bytes if self.original else 0


class GroupSums(NamedTuple):
    """What belongs to one gallery, size or day."""

    name: str
    originals: int
    original_bytes: int
    items: int
    item_bytes: int


class AuditIndex:
    """The database of one audit; its methods raise `NoTemporarySpace`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._sums: dict[tuple[str, str], list[int]] = {}
        self._originals: list[tuple[str, str, str, float]] = []
        self._findings: list[tuple[str, str, int, str, bytes]] = []
        self._shown: list[tuple[str]] = []

    def add_original(self, stored: str, item: OriginalItem) -> None:
        """Remember an original by its stored key."""
        self._originals.append((stored, item.key, item.version, item.modified_s))
        self._flush_if_full(len(self._originals))

    def original(self, stored: str) -> Known | None:
        """The original of a stored key, after `flush`; None if the listing did not show it."""
        found = self._connection.execute(
            "SELECT key, version, modified_s FROM originals WHERE stored = ?", (stored,)
        ).fetchone()
        return Known(*found) if found else None

    def set_shown(self, stored: str) -> None:
        """Note that an original has a rendition."""
        self._shown.append((stored,))
        self._flush_if_full(len(self._shown))

    def is_shown(self, stored: str) -> bool:
        """Whether an original has a rendition, by what was noted before the last `flush`."""
        found = self._connection.execute("SELECT is_shown FROM originals WHERE stored = ?", (stored,))
        return bool((found.fetchone() or (0,))[0])

    def add_to_group(self, kind: str, name: str, *, original_bytes: int = -1, item_bytes: int = -1) -> None:
        """Add an original, an item or both to the sums of a group; -1 stands for none."""
        sums = self._sums.setdefault((kind, name), [0, 0, 0, 0])
        for at, length_bytes in ((0, original_bytes), (2, item_bytes)):
            if length_bytes >= 0:
                sums[at] += 1
                sums[at + 1] += length_bytes
        self._flush_if_full(len(self._sums))

    def add_finding(self, finding: Finding) -> None:
        """Remember an item that can be removed."""
        row = (finding.key, finding.label, finding.length_bytes, finding.reason.value, to_json(finding))
        self._findings.append(row)
        self._flush_if_full(len(self._findings))

    def groups(self, kind: str, *, limit: int = -1, by_name: bool = False) -> list[GroupSums]:
        """The groups of a kind: the largest first, or all in the order of their names."""
        order = "name" if by_name else "original_bytes + item_bytes DESC, name"
        query = f"SELECT name, originals, original_bytes, items, item_bytes FROM groups WHERE kind = ? ORDER BY {order} LIMIT ?"  # noqa: E501, S608 - `order` is one of two constants
        return [GroupSums(*row) for row in self._connection.execute(query, (kind, limit))]

    def count_groups(self, kind: str) -> int:
        """How many groups of a kind there are."""
        return int(
            self._connection.execute("SELECT count(*) FROM groups WHERE kind = ?", (kind,)).fetchone()[0]
        )

    def findings_by_reason(self) -> dict[str, tuple[int, int]]:
        """How many items can be removed for each reason, and their bytes."""
        rows = self._connection.execute(
            "SELECT reason, count(*), sum(length_bytes) FROM findings GROUP BY reason"
        )
        return {reason: (count, length_bytes) for reason, count, length_bytes in rows}

    def examples(self, reason: str, limit: int) -> tuple[str, ...]:
        """The first items of a reason."""
        rows = self._connection.execute(
            "SELECT label FROM findings WHERE reason = ? ORDER BY label LIMIT ?", (reason, limit)
        )
        return tuple(label for (label,) in rows)

    def findings(self) -> Iterator[list[Finding]]:
        """All findings in lists of at most 1000, those of one photograph together."""
        rows = self._connection.execute("SELECT finding FROM findings ORDER BY key, label")
        while batch := rows.fetchmany(_FETCHED):
            yield [from_json(Finding, content) for (content,) in batch]

    def flush(self) -> None:
        """Write what was added to the database."""
        try:
            self._connection.execute("BEGIN")
            for table, rows in (
                ("INSERT OR REPLACE INTO originals VALUES (?, ?, ?, ?, 0)", self._originals),
                ("UPDATE originals SET is_shown = 1 WHERE stored = ?", self._shown),
                ("INSERT INTO findings VALUES (?, ?, ?, ?, ?)", self._findings),
            ):
                self._connection.executemany(table, rows)
            self._connection.executemany(_ADD_GROUP, [(*name, *sums) for name, sums in self._sums.items()])
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise NoTemporarySpace(str(error)) from error
        for buffer in (self._originals, self._shown, self._findings, self._sums):
            buffer.clear()

    def _flush_if_full(self, count: int) -> None:
        if count >= _MAX_BUFFERED:
            self.flush()


@contextmanager
def open_index() -> Iterator[AuditIndex]:
    """A new database in the folder of temporary files, removed at the end. Raises `NoTemporarySpace`."""
    with tempfile.TemporaryDirectory(prefix="galerly-audit-") as folder:
        try:
            connection = sqlite3.connect(f"{folder}/audit.sqlite", isolation_level=None)
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            connection.executescript(_TABLES)
        except sqlite3.OperationalError as error:
            raise NoTemporarySpace(str(error)) from error
        try:
            yield AuditIndex(connection)
        finally:
            connection.close()
