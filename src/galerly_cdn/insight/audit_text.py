"""Writes an audit and a clean-up for a terminal. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.audit.judgement import Reason
from galerly_cdn.insight.text import printable, table
from galerly_cdn.insight.units import count, length

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from galerly_cdn.audit.result import Audit, Cleaned, Group, Removed

_ROWS = 10
"""Rows of a table; the JSON has all of them."""
_EXAMPLES = 3


def audit_text(audit: Audit) -> str:
    """The audit as lines of text."""
    return "\n".join(_audit_lines(audit))


def removed_line(removed: Removed, *, is_trial: bool) -> str:
    """A removed item as one line."""
    verb = "would remove" if is_trial else "removed"
    return f"{verb}  {removed.reason:<9}  {length(removed.bytes):>10}  {printable(removed.what)}"


def cleaned_text(cleaned: Cleaned) -> str:
    """What a clean-up has done, in one or two lines."""
    total = sum(one.items for one in cleaned.removed.values())
    length_bytes = sum(one.bytes for one in cleaned.removed.values())
    reasons = ", ".join(f"{one.items:,} {reason}" for reason, one in cleaned.removed.items())
    verb = "would be removed" if cleaned.is_trial else "removed"
    lines = [f"{total:,} {verb}, {length(length_bytes)}{f': {reasons}' if reasons else ''}"]
    if cleaned.kept:
        lines.append(f"{cleaned.kept:,} kept: changed or removed by another process since they were listed")
    if cleaned.failed:
        lines.append(f"{cleaned.failed:,} failed: the store refused; another run tries them again")
    return "\n".join(lines)


def question(audit: Audit) -> str:
    """Asks for confirmation, with what is lost."""
    total = sum(one.items for one in audit.removable)
    length_bytes = sum(one.bytes for one in audit.removable)
    lost = audit.expired_originals
    what = f"{count(lost)} of them photographs, which are lost" if lost else "all can be made again"
    return f"Remove {count(total)} items, {length(length_bytes)}; {what}?"


def _audit_lines(audit: Audit) -> Iterator[str]:
    if audit.shard != "1/1":
        yield f"Shard {audit.shard} of the photographs."
    for name, amount in (
        ("originals", audit.originals),
        ("renditions", audit.renditions),
        ("fact records", audit.facts),
        ("left alone", audit.foreign),
    ):
        yield f"{name:<14}{amount.items:>12,}  {length(amount.bytes):>10}"
    yield ""
    yield from _removable(audit)
    yield from _unshown(audit)
    for name, groups in (("size", audit.sizes), ("gallery", audit.galleries), ("day", audit.days[::-1])):
        yield from _groups(name, groups)
    if audit.gallery_count > _ROWS:
        yield f"{audit.gallery_count:,} galleries in all"


def _removable(audit: Audit) -> Iterator[str]:
    if audit.is_clean:
        yield "Nothing to clean."
        return
    yield "To clean:"
    for one in audit.removable:
        yield f"  {one.reason:<10}{one.items:>14,}  {length(one.bytes):>10}  {one.reason.meaning}"
        yield f"{'':<40}{_some(one.examples, one.items)}"
    reasons = {one.reason for one in audit.removable}
    if reasons - {Reason.EXPIRED}:
        yield "`galerly-cdn store clean` removes them; `--dry-run` lists them."


def _unshown(audit: Audit) -> Iterator[str]:
    if audit.unshown:
        yield ""
        yield "Originals that cannot be shown:"
    for one in audit.unshown:
        yield f"  {one.originals:>12,}  {one.code}: {one.message}"
        yield f"{'':<16}{_some(one.examples, one.originals)}"
    unknown = [
        f"{number:,} {text}"
        for number, text in (
            (audit.without_facts, "were never requested, and not decoded by this audit"),
            (audit.unread_facts, "have renditions, and their fact records were not read"),
        )
        if number
    ]
    if unknown:
        yield f"Not checked: {'; '.join(unknown)}."


def _some(names: Sequence[str], number: int) -> str:
    more = f" and {number - _EXAMPLES:,} more" if number > _EXAMPLES else ""
    return printable(", ".join(names[:_EXAMPLES]) + more)


def _groups(name: str, groups: Sequence[Group]) -> Iterator[str]:
    """The first rows of a table; a size has no originals."""
    if not groups:
        return
    header = ("originals", "", "renditions", "")
    cells = [
        (count(one.originals), length(one.original_bytes), count(one.renditions), length(one.rendition_bytes))
        for one in groups[:_ROWS]
    ]
    first = 2 if name == "size" else 0
    rows = [(one.name or "/", *row[first:]) for one, row in zip(groups[:_ROWS], cells, strict=True)]
    yield ""
    yield from table((name, *(title or "bytes" for title in header[first:])), rows)
    if len(groups) > _ROWS:
        yield f"… and {count(len(groups) - _ROWS)} more"
