"""Checks that every bad file is refused in time, and that nothing is stored or leaked, memory included."""

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
"""The address that hostile files of the corpus try to connect to."""
_RENDITION = b"galerly-rendition "
LEAKS = (b"root:", b"Traceback", b"/usr/", b"/home/", b"vips", b"pyvips")


def check(folder: Path, scratch: Path) -> list[str]:
    """Every deviation, one line each."""
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
            stored = _rendition_count(shape)
            started_s = time.monotonic()
            answer = shape.request("GET", format_path(Target(size), entry.key), {})
            duration_s = time.monotonic() - started_s
            newly_stored = _rendition_count(shape) - stored
            findings += [
                f"{entry.key} ({entry.expected}): {deviation}"
                for deviation in _deviations(entry, answer, newly_stored)
            ]
            if duration_s > settings.render_deadline_s + 1:
                findings.append(f"{entry.key}: answered after {duration_s:.1f} s")
        after_bytes = resident_bytes(shape.process.pid)
        if beacon.connections:
            findings.append(f"{beacon.connections} connections to {BEACON}")
    records = shape.stop()
    worker_exits = sum(record.get("reason") in {"worker-died", "render-timeout"} for record in records)
    memory = f"RSS {before_bytes >> 20} → {after_bytes >> 20} MiB"
    print(f"bad: {counts}; {worker_exits} renders ended with their worker; {memory}")
    if after_bytes > before_bytes * 1.2:
        findings.append(f"resident memory grew from {before_bytes >> 20} to {after_bytes >> 20} MiB")
    return findings


def _rendition_count(shape: ServeProcess) -> int:
    """The stored renditions; a refused original has a fact record beside them."""
    return sum(_starts_as_rendition(file) for file in shape.rendition_files())


def _starts_as_rendition(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(len(_RENDITION)) == _RENDITION


def _deviations(entry: Entry, answer: Answer, newly_stored: int) -> Iterator[str]:
    allowed = {"ok": {200}, "reject": {415}, "either": {200, 415}}[entry.expected]
    if answer.status not in allowed:
        yield f"status {answer.status} {answer.body[:120]!r}"
    if answer.status != 200 and newly_stored:
        yield "refused, but something was stored"
    if answer.status != 200 and any(leak in answer.body for leak in LEAKS):
        yield f"the error response contains internal details: {answer.body!r}"


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children (Linux)."""
    process = Path(f"/proc/{pid}")
    children = (process / f"task/{pid}/children").read_text().split()
    pages = int((process / "statm").read_text().split()[1])
    return pages * 4096 + sum(resident_bytes(int(child)) for child in children)


class Beacon:
    """Listens on `BEACON` and counts the connections."""

    def __enter__(self) -> Self:
        self.connections = 0
        self._listener = socket.create_server(BEACON)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self) -> None:
        while True:
            try:
                self._listener.accept()[0].close()
            except OSError:
                return
            self.connections += 1

    def __exit__(self, *raised: object) -> None:
        self._listener.close()
