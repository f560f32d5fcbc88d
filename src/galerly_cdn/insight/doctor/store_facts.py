"""Reads the facts of a store: opens it, writes something of its own, lists the originals."""

from __future__ import annotations

import itertools
import os
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.errors import (
    GalerlyError,
    OriginalExists,
    SettingsError,
    StoreRefused,
    StoreUnreachable,
)
from galerly_cdn.http.urls import is_key
from galerly_cdn.insight.doctor.machine_facts import existing_folder
from galerly_cdn.insight.doctor.store import Contents, Recipes, StoreFacts, Writing
from galerly_cdn.prefix_check import PrefixCheck
from galerly_cdn.recipes import Ranks, named_digests, recipes_of
from galerly_cdn.render.formats import is_photograph_name
from galerly_cdn.render.libvips_version import packaged_version
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.locations import is_remote, resolve_locations
from galerly_cdn.store import open as store_open
from galerly_cdn.store.remote.clock_skew import skew_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.clock import Clock
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.remote.bucket import Bucket
    from galerly_cdn.telemetry import Telemetry

_MAX_LISTED = 100_000
"""Originals that are listed: a hundred requests to S3."""
_MAX_EXAMPLES = 3


async def read(settings: Settings, telemetry: Telemetry, clock: Clock) -> StoreFacts:
    """The facts of the settings' store. Raises `SettingsError` for roots that cannot be used."""
    places = resolve_locations(settings, None)
    facts = StoreFacts(settings=settings, originals=places.originals, renditions=places.renditions)
    if is_remote(places.originals):
        facts = await _remote(facts, settings, telemetry, clock)
    else:
        facts = _folder(facts, places)
    if not is_remote(places.renditions):
        facts = replaced(facts, writing_renditions=_write_file(Path(places.renditions)))
    elif not facts.problem:
        bucket = store_open.connect_bucket(places.renditions, settings, telemetry, clock)
        facts = replaced(facts, writing_renditions=await _write_object(bucket))
    if facts.problem:
        return facts
    recipes = await _read_recipes(facts, telemetry, clock)
    return await _with_prefixes(replaced(facts, recipes=recipes), places, telemetry, clock)


def _folder(facts: StoreFacts, places: Locations) -> StoreFacts:
    root, survey = Path(places.originals), _Survey(facts.settings)
    if not root.is_dir():
        return replaced(facts, problem=f"there is no folder {root}")
    try:
        for key, length_bytes in itertools.takewhile(lambda _: not survey.is_full, _files(root)):
            survey.add(key, length_bytes)
    except OSError as error:
        return replaced(facts, problem=str(error))
    writing = _write_file(root) if places.is_writable else None
    return replaced(facts, writing_originals=writing, contents=survey.contents())


def _files(root: Path) -> Iterator[tuple[str, int]]:
    """The key and the length of each file under a root, in a lasting order. Raises `OSError`."""

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            yield str(file.relative_to(root)), file.lstat().st_size


async def _remote(facts: StoreFacts, settings: Settings, telemetry: Telemetry, clock: Clock) -> StoreFacts:
    bucket = None
    try:
        bucket = store_open.connect_bucket(facts.originals, settings, telemetry, clock)
        if bucket.is_s3 and (date := await bucket.fetch_date()):
            facts = replaced(facts, clock_difference=skew_text(date, clock.wall()))
        await bucket.check()
        contents = await _list(bucket, settings)
    except SettingsError as error:
        return replaced(facts, problem=" ".join(error.problems))
    except GalerlyError as error:
        return replaced(facts, problem=error.detail or error.public)
    return replaced(facts, contents=contents)


async def _list(bucket: Bucket, settings: Settings) -> Contents:
    """What a listing shows, without the empty objects that the clouds' consoles create for folders."""
    survey = _Survey(settings)
    async for listed in bucket.list("", ""):
        if survey.is_full:
            break
        if listed.length_bytes or not listed.key.endswith("/"):
            survey.add(listed.key, listed.length_bytes)
    return survey.contents()


class _Survey:
    """Counts originals, and keeps the first names of those that are not shown."""

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_original_bytes
        self._private = private_folders(settings.private_prefixes)
        self._sample = ""
        self._originals = self._largest_bytes = 0
        self._unservable: list[str] = []
        self._oversize: list[str] = []
        self.is_full = False
        """Whether no more are counted."""

    def add(self, key: str, length_bytes: int) -> None:
        """Count an original; hidden names are left out on purpose."""
        if _is_hidden(key):
            return
        if self._originals == _MAX_LISTED:
            self.is_full = True
            return
        self._originals += 1
        self._largest_bytes = max(self._largest_bytes, length_bytes)
        if not is_key(key):
            self._unservable.append(ascii(key))
        elif length_bytes > self._max_bytes:
            self._oversize.append(key)
        elif not self._sample and is_photograph_name(key) and not key.startswith(self._private):
            self._sample = key

    def contents(self) -> Contents:
        return Contents(
            originals=self._originals,
            is_complete=not self.is_full,
            unservable=tuple(self._unservable[:_MAX_EXAMPLES]),
            unservable_count=len(self._unservable),
            oversize=tuple(self._oversize[:_MAX_EXAMPLES]),
            oversize_count=len(self._oversize),
            largest_bytes=self._largest_bytes,
            sample=self._sample,
        )


def _is_hidden(key: str) -> bool:
    """Whether a segment begins with a dot: such names are left out on purpose, unless it is `.` or `..`."""
    return any(one.startswith(".") and one not in {".", ".."} for one in key.split("/"))


def _write_file(root: Path) -> Writing:
    """Write a file without a name in a folder, or in the folder that it would be created in."""
    try:
        with tempfile.TemporaryFile(dir=existing_folder(root)) as file:
            file.write(b"galerly-cdn doctor")
            file.flush()
    except OSError as error:
        return Writing(error.strerror or str(error))
    return Writing()


async def _write_object(bucket: Bucket) -> Writing:
    """Create an object, try to create it again, and delete it."""
    key, attributes = f".galerly-cdn-doctor-{uuid.uuid4().hex}", {"Cache-Control": "private, no-store"}
    try:
        await bucket.put(key, b"galerly-cdn doctor", attributes, creates=True)
        try:
            await bucket.put(key, b"galerly-cdn doctor", attributes, creates=True)
        except OriginalExists:
            creates_once = True
        else:
            creates_once = False
        await bucket.delete(key)
    except GalerlyError as error:
        return Writing(error.detail or error.public)
    return Writing(creates_once=creates_once)


async def _read_recipes(facts: StoreFacts, telemetry: Telemetry, clock: Clock) -> Recipes:
    """What a server with these settings would find in the list; nothing is appended."""
    try:
        listed = await store_open.open_recipes(facts.settings, facts.renditions, telemetry, clock)
        entries = await listed.entries()
    except SettingsError as error:
        return Recipes(problem=" ".join(error.problems))
    except (StoreRefused, StoreUnreachable) as error:
        return Recipes(problem=error.detail or error.public)
    own, ranks = named_digests(recipes_of(facts.settings, packaged_version())), Ranks.of(entries)
    outdated = tuple(ranks.outdated(own))
    newer = next((one for one in reversed(entries) if outdated and outdated[0] in one.recipes), None)
    return Recipes(
        own=len(own),
        entries=len(entries),
        outdated=outdated,
        unlisted=tuple(ranks.unlisted(own)),
        changed_by=f"entry {newer.number}, by release {newer.release or 'unknown'}," if newer else "",
    )


async def _with_prefixes(
    facts: StoreFacts, places: Locations, telemetry: Telemetry, clock: Clock
) -> StoreFacts:
    """The facts with the private prefixes that are no folder's name."""
    if not facts.settings.private_prefixes:
        return facts
    read_only = replaced(places, is_writable=False)
    originals = await store_open.open_originals(facts.settings, read_only, telemetry, clock)
    prefixes = PrefixCheck(originals, facts.settings.private_prefixes)
    try:
        await prefixes.check()
    except SettingsError as error:
        return replaced(facts, misspelt_prefixes=tuple(error.problems))
    except (StoreRefused, StoreUnreachable) as error:
        return replaced(facts, problem=error.detail or error.public)
    return replaced(facts, absent_prefixes=prefixes.absent)
