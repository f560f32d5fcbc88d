"""Is every bad file refused, in time, with nothing stored, leaked or kept in memory?"""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from checks.corpus import entries
from galerly_cdn.http.urls import format_path
from galerly_cdn.model import Target
from galerly_cdn.settings.table import Settings
from tests.support.shapes import ServeProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.corpus import Entry
    from tests.support.shapes import Answer

BEACON = ("127.0.0.1", 9)
"""Where the hostile files of a corpus try to phone."""
LEAKS = (b"root:", b"Traceback", b"/usr/", b"/home/", b"vips", b"pyvips")


def check(folder: Path, scratch: Path) -> list[str]:
    """Every deviation, as a line."""
    settings = Settings()
    size = next(rule.size for rule in settings.size_rules if rule.name == "thumbnail")
    shape = ServeProcess(folder, scratch, {"workers": 2})
    findings: list[str] = []
    with Beacon() as beacon:
        shape.request("GET", format_path(Target(size), "no such file"), {})
        before_bytes = resident_bytes(shape.process.pid)
        counts = {"ok": 0, "reject": 0, "either": 0}
        for entry in entries(folder):
            counts[entry.expected] += 1
            stored = len(shape.rendition_files())
            started_s = time.monotonic()
            answer = shape.request("GET", format_path(Target(size), entry.key), {})
            took_s = time.monotonic() - started_s
            grown = len(shape.rendition_files()) - stored
            findings += [
                f"{entry.key} ({entry.expected}): {said}" for said in _deviations(entry, answer, grown)
            ]
            if took_s > settings.render_deadline_s + 1:
                findings.append(f"{entry.key}: answered after {took_s:.1f} s")
        after_bytes = resident_bytes(shape.process.pid)
        if beacon.hits:
            findings.append(f"{beacon.hits} connections to {BEACON}")
    records = shape.stop()
    deaths = sum(record.get("reason") in {"worker-died", "render-timeout"} for record in records)
    memory = f"RSS {before_bytes >> 20} → {after_bytes >> 20} MiB"
    print(f"bad: {counts}; {deaths} renders ended their worker; {memory}")
    if after_bytes > before_bytes * 1.2:
        findings.append(f"resident memory grew from {before_bytes >> 20} to {after_bytes >> 20} MiB")
    return findings


def _deviations(entry: Entry, answer: Answer, grown: int) -> Iterator[str]:
    allowed = {"ok": {200}, "reject": {415}, "either": {200, 415}}[entry.expected]
    if answer.status not in allowed:
        yield f"status {answer.status} {answer.body[:120]!r}"
    if answer.status != 200 and grown:
        yield "refused, but something was stored"
    if answer.status != 200 and any(leak in answer.body for leak in LEAKS):
        yield f"the refusal says too much: {answer.body!r}"


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children (Linux)."""
    process = Path(f"/proc/{pid}")
    children = (process / f"task/{pid}/children").read_text().split()
    pages = int((process / "statm").read_text().split()[1])
    return pages * 4096 + sum(resident_bytes(int(child)) for child in children)


class Beacon:
    """Counts connections to `BEACON`."""

    def __enter__(self) -> Self:
        self.hits = 0
        self._listening = socket.create_server(BEACON)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self) -> None:
        while True:
            try:
                self._listening.accept()[0].close()
            except OSError:
                return
            self.hits += 1

    def __exit__(self, *raised: object) -> None:
        self._listening.close()
