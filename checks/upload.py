"""Checks that every file is accepted or refused at its upload, and that a refused file leaves nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from checks.corpus import entries
from galerly_cdn.app.server import compose
from galerly_cdn.errors import GalerlyError
from galerly_cdn.http.urls import format_path
from galerly_cdn.model import Target
from galerly_cdn.settings import locations
from galerly_cdn.settings.table import Settings
from tests.support.folder_library import ask, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from checks.corpus import Entry
    from galerly_cdn.app.server import Cdn

_CHUNK_BYTES = 256 * 1024
_ALLOWED = {"ok": {200}, "reject": {400, 413, 415}, "either": {200, 415}}


def check(folder: Path, scratch: Path) -> list[str]:
    """Every deviation, one line each."""
    settings = Settings(
        store=str(scratch / "store"), workers=2, access_log=False, max_original_bytes=128 * 1024 * 1024
    )
    return asyncio.run(_check(folder, settings))


async def _check(folder: Path, settings: Settings) -> list[str]:
    findings: list[str] = []
    codes: Counter[str] = Counter()
    async with compose(settings, locations.resolve_locations(settings, None)) as cdn:
        uploader = Uploader(cdn, settings)
        for entry in entries(folder):
            started_s = time.monotonic()
            code = await uploader.send(entry)
            duration_s = time.monotonic() - started_s
            codes[code] += 1
            findings += [
                f"{entry.key} ({entry.expected}): {deviation}"
                async for deviation in uploader.deviations(entry)
            ]
            if duration_s > settings.render_deadline_s + 1:
                findings.append(f"{entry.key}: answered after {duration_s:.1f} s")
        if await uploader.listed_keys() != sorted(uploader.accepted, key=str.encode):
            findings.append("the listed keys are not the accepted ones")
    print(f"upload of {folder.name}: {dict(codes.most_common())}")
    return findings


class Uploader:
    """Uploads files to a CDN, and finds the deviations of the last upload."""

    def __init__(self, cdn: Cdn, settings: Settings) -> None:
        self._cdn = cdn
        self._library = cdn.library
        self._temporary = Path(settings.store, "originals", ".galerly")
        self._sizes = [rule.size for rule in settings.size_rules]
        self.accepted: list[str] = []
        self.status = 0

    async def send(self, entry: Entry) -> str:
        """Upload one file; returns `accepted` or the error's code."""
        content = await asyncio.to_thread(entry.path.read_bytes)
        chunks = (content[at : at + _CHUNK_BYTES] for at in range(0, len(content), _CHUNK_BYTES))
        try:
            await self._library.upload(entry.key, stream(chunks))
        except GalerlyError as error:
            self.status = error.status
            return error.code
        self.status = 200
        self.accepted.append(entry.key)
        return "accepted"

    async def listed_keys(self, prefix: str = "") -> list[str]:
        """The keys in the listing."""
        return [one.key for one in (await self._library.list(prefix, limit=10_000)).originals]

    async def deviations(self, entry: Entry) -> AsyncIterator[str]:
        """The deviations of the last upload."""
        if self.status not in _ALLOWED.get(entry.expected, _ALLOWED["either"]):
            yield f"upload answered {self.status}"
        if remaining := [path.name for path in self._temporary.iterdir()]:
            yield f"temporary files remain: {remaining}"
        is_listed = entry.key in await self.listed_keys(entry.key)
        answers = [
            (await ask(self._cdn, format_path(Target(size), entry.key))).status
            for size in (self._sizes if self.status == 200 else self._sizes[:1])
        ]
        if self.status == 200:
            if not is_listed:
                yield "accepted, but not listed"
            if set(answers) != {200}:
                yield f"accepted, but answered {answers}"
        elif is_listed or answers != [404]:
            yield f"refused, but listed: {is_listed}, answered {answers}"
