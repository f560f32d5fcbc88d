"""Decides on the facts of a store: reachable, writable, its clock, its keys, its originals. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.insight.doctor.checks import (
    Check,
    Result,
    Status,
    Subject,
    Symptom,
    judged,
    skipped,
    some,
)
from galerly_cdn.insight.doctor.machine import mib
from galerly_cdn.serialization import Value
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class Writing(Value, frozen=True):
    """The result of writing a file or an object of its own, and removing it again."""

    problem: str = ""
    creates_once: bool | None = None
    """Whether the store refuses to create an object that exists; None for a folder, or after a problem."""


class Contents(Value, frozen=True, kw_only=True):
    """What a listing of the originals shows, each list with the first examples only."""

    originals: int
    is_complete: bool
    """False if there are more than were listed."""
    unservable: tuple[str, ...]
    """Names that are no keys, written in ASCII."""
    unservable_count: int
    oversize: tuple[str, ...]
    """Keys of originals above `max_original_bytes`."""
    oversize_count: int
    largest_bytes: int
    sample: str
    """The key of a photograph that needs no signature; empty for none."""


class Recipes(Value, frozen=True, kw_only=True):
    """The recipes of these settings and this release, against the store's list (decision 0022)."""

    problem: str = ""
    """Why the list cannot be read."""
    own: int = 0
    entries: int = 0
    outdated: tuple[str, ...] = ()
    """The sizes and formats whose recipes are listed, and not current."""
    unlisted: tuple[str, ...] = ()
    """Those whose recipes are in no entry."""
    changed_by: str = ""
    """The entry that made the first of the outdated ones so, with its release."""


class StoreFacts(Value, frozen=True, kw_only=True):
    """A store, as this machine and its credentials reach it."""

    settings: Settings
    originals: str
    """The root: a path or an address."""
    renditions: str
    problem: str = ""
    """Why the originals cannot be read or listed."""
    clock_difference: str | None = None
    """How far this machine's clock is off; empty if it is not. None if the store does not tell the time."""
    writing_renditions: Writing | None = None
    writing_originals: Writing | None = None
    """None for a remote store: an object of a test would start what an upload starts."""
    contents: Contents | None = None
    misspelt_prefixes: tuple[str, ...] = ()
    """A line for each private prefix that is nearly a folder's name."""
    absent_prefixes: tuple[str, ...] = ()
    recipes: Recipes | None = None
    """None if the store cannot be reached."""


def _reachable(facts: StoreFacts) -> Result:
    return judged(facts.problem or f"{facts.originals} can be read and listed", is_ok=not facts.problem)


def _clock(facts: StoreFacts) -> Result:
    if facts.clock_difference is None:
        return skipped("the store does not tell the time")
    difference = facts.clock_difference
    return judged(difference or "the clocks agree within five minutes", is_ok=not difference)


def _writable(facts: StoreFacts) -> Result:
    roots = ((facts.renditions, facts.writing_renditions), (facts.originals, facts.writing_originals))
    tried = [(root, writing) for root, writing in roots if writing is not None]
    if not tried:
        return skipped("the store cannot be reached")
    problems = [f"{root}: {writing.problem}" for root, writing in tried if writing.problem]
    return judged(
        "; ".join(problems) or f"can be written: {', '.join(root for root, _ in tried)}", is_ok=not problems
    )


def _creates_once(facts: StoreFacts) -> Result:
    creates_once = facts.writing_renditions.creates_once if facts.writing_renditions else None
    if creates_once is None:
        return skipped("this is for remote stores that can be written")
    found = "an object that exists is " + (
        "not replaced" if creates_once else "REPLACED by a put that only creates"
    )
    return judged(found, is_ok=creates_once)


def _if_listed(decide: Callable[[Contents], Result]) -> Callable[[StoreFacts], Result]:
    """A check of a listing."""

    def decide_if_listed(facts: StoreFacts) -> Result:
        return skipped("the originals cannot be listed") if facts.contents is None else decide(facts.contents)

    return decide_if_listed


def _keys(contents: Contents) -> Result:
    if contents.unservable:
        found = f"cannot be served: {some(contents.unservable, contents.unservable_count)}"
        return Result(Status.WARNING, found)
    return Result(Status.OK, f"{_counted(contents)} have names that are keys")


def _sizes(contents: Contents) -> Result:
    if contents.oversize:
        found = f"refused with 415: {some(contents.oversize, contents.oversize_count)}"
        return Result(Status.WARNING, f"{found}; the largest has {mib(contents.largest_bytes)}")
    return Result(Status.OK, f"the largest of {_counted(contents)} has {mib(contents.largest_bytes)}")


def _counted(contents: Contents) -> str:
    return f"{'' if contents.is_complete else 'the first '}{contents.originals:,} originals"


def _prefixes(facts: StoreFacts) -> Result:
    prefixes = facts.settings.private_prefixes
    if facts.problem or not prefixes:
        return skipped(facts.problem or "no folder is private")
    if facts.misspelt_prefixes:
        return Result(Status.FAILED, "; ".join(facts.misspelt_prefixes))
    if facts.absent_prefixes:
        return Result(Status.WARNING, f"no folder is named {some(facts.absent_prefixes)}")
    return Result(Status.OK, f"folders of the store: {some(prefixes)}")


def _recipes(facts: StoreFacts) -> Result:
    recipes = facts.recipes
    if recipes is None:
        return skipped("the store cannot be reached")
    if recipes.problem:
        return Result(Status.FAILED, f"the list of recipes cannot be read: {recipes.problem}")
    if not recipes.entries:
        return Result(Status.OK, "no server has listed recipes yet")
    if recipes.outdated:
        found = f"{recipes.changed_by} is newer than these settings for {some(recipes.outdated)}"
        return Result(Status.WARNING, found)
    if recipes.unlisted:
        found = f"no server has rendered by these settings: {some(recipes.unlisted)} would be rendered anew"
        return Result(Status.WARNING, found)
    return Result(Status.OK, f"the {recipes.own} recipes of these settings are current")


CHECKS: tuple[Check[StoreFacts], ...] = (
    Check(
        "store-reachable",
        Subject.STORE,
        Symptom.NOT_LOADING,
        "The originals can be read and listed with the credentials at hand.",
        "While the store cannot be reached only pictures in memory are served, and new ones are 502 or 503.",
        "Correct the address, the endpoint or the credentials; on a machine create the folder by an upload.",
        _reachable,
    ),
    Check(
        "store-clock",
        Subject.STORE,
        Symptom.NOT_LOADING,
        "This machine’s clock agrees with the store’s.",
        "S3 refuses requests that are signed with a time more than 15 minutes from its own.",
        "Synchronise the clock (chrony, systemd-timesyncd).",
        _clock,
    ),
    Check(
        "store-writable",
        Subject.STORE,
        Symptom.SLOW,
        "Renditions can be stored, and in a folder uploads too.",
        "A rendition that cannot be stored is rendered again when it leaves the memory.",
        "Allow PutObject and DeleteObject under the root of the renditions, or change the folder’s owner.",
        _writable,
    ),
    Check(
        "store-creates-once",
        Subject.STORE,
        Symptom.UNSAFE,
        "The store honours If-None-Match: a put that only creates does not replace an object.",
        "Otherwise two uploads of one name at once can replace each other without a word.",
        "Use a store, or a newer version of it, that supports conditional puts.",
        _creates_once,
    ),
    Check(
        "unservable-keys",
        Subject.STORE,
        Symptom.NOT_LOADING,
        "Each original’s name is a key, which a URL can hold.",
        "An original whose name has an empty segment, a control character or a backslash is never shown.",
        "Rename these originals.",
        _if_listed(_keys),
    ),
    Check(
        "oversize-originals",
        Subject.STORE,
        Symptom.SLOW,
        "No original has more bytes than `max_original_bytes`.",
        "Larger originals are refused, and large ones take long to fetch and to render.",
        "Raise `max_original_bytes`, or upload smaller files.",
        _if_listed(_sizes),
    ),
    Check(
        "private-prefixes",
        Subject.STORE,
        Symptom.UNSAFE,
        "Each private prefix is the name of a folder of the store.",
        "A prefix that matches nothing protects nothing: the folder that was meant is public.",
        "Write the folder’s name exactly, also its case and its Unicode normalisation.",
        _prefixes,
    ),
    Check(
        "store-recipes",
        Subject.STORE,
        Symptom.SLOW,
        "The recipes of these settings and this release are the current ones of the store’s list.",
        "A server with older recipes serves what newer servers made; one with new ones renders all anew.",
        "Give the servers one release and one configuration; to go back, run `galerly-cdn store rollback`.",
        _recipes,
    ),
)
"""The checks of a store, in the order of the report."""
