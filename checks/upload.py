"""Is every file taken or refused at its upload, with the reason, and is what was refused nowhere?"""

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
    """Every deviation, as a line."""
    settings = Settings(
        store=str(scratch / "store"), workers=2, access_log=False, max_original_bytes=128 * 1024 * 1024
    )
    return asyncio.run(_check(folder, settings))


async def _check(folder: Path, settings: Settings) -> list[str]:
    findings: list[str] = []
    codes: Counter[str] = Counter()
    async with compose(settings, locations.resolve_locations(settings, None)) as cdn:
        upload = Upload(cdn, settings)
        for entry in entries(folder):
            started_s = time.monotonic()
            code = await upload.send(entry)
            took_s = time.monotonic() - started_s
            codes[code] += 1
            findings += [f"{entry.key} ({entry.expected}): {said}" async for said in upload.deviations(entry)]
            if took_s > settings.render_deadline_s + 1:
                findings.append(f"{entry.key}: answered after {took_s:.1f} s")
        if await upload.listed() != sorted(upload.accepted, key=str.encode):
            findings.append("what is listed is not what was accepted")
    print(f"upload of {folder.name}: {dict(codes.most_common())}")
    return findings


class Upload:
    """Uploads into a CDN, and looks at what came of the last one."""

    def __init__(self, cdn: Cdn, settings: Settings) -> None:
        self._cdn = cdn
        self._archive = cdn.library
        self._waiting = Path(settings.store, "originals", ".galerly")
        self._sizes = [rule.size for rule in settings.size_rules]
        self.accepted: list[str] = []
        self.status = 0

    async def send(self, entry: Entry) -> str:
        """Upload one file: `accepted`, or the error's code."""
        content = await asyncio.to_thread(entry.path.read_bytes)
        chunks = (content[at : at + _CHUNK_BYTES] for at in range(0, len(content), _CHUNK_BYTES))
        try:
            await self._archive.upload(entry.key, stream(chunks))
        except GalerlyError as error:
            self.status = error.status
            return error.code
        self.status = 200
        self.accepted.append(entry.key)
        return "accepted"

    async def listed(self, prefix: str = "") -> list[str]:
        """The keys that are listed."""
        return [one.key for one in (await self._archive.list(prefix, limit=10_000)).originals]

    async def deviations(self, entry: Entry) -> AsyncIterator[str]:
        """What is wrong with what came of it."""
        if self.status not in _ALLOWED.get(entry.expected, _ALLOWED["either"]):
            yield f"upload answered {self.status}"
        if left := [path.name for path in self._waiting.iterdir()]:
            yield f"left behind: {left}"
        is_listed = entry.key in await self.listed(entry.key)
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
