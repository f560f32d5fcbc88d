"""Builds renditions (whose bodies are not pictures) and opens folders of them."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from galerly_cdn.model import Format, Record, Rendition, Size, Target
from galerly_cdn.store.folder.renditions import FolderRenditions
from galerly_cdn.store.folder.renditions_index import file_name, file_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

TARGET = Target(Size(800, 600), Format.WEBP)
MIB = 1 << 20


def make_rendition(
    key: str, body: bytes = b"the picture", target: Target = TARGET, *, version: str = "v1"
) -> Rendition:
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    record = Record(
        key=key,
        target=target,
        version=version,
        recipe="r1",
        format=target.format or Format.JPEG,
        width_px=800,
        height_px=600,
        length_bytes=len(body),
        md5=md5,
        lost=("gain map",),
    )
    return Rendition(record, body)


def file_of(root: Path, key: str, target: Target = TARGET) -> Path:
    return file_path(root, file_name(target.rendition_key(key)))


def rendition_files(root: Path) -> list[Path]:
    """The files of renditions, including temporary ones."""
    return [path for path in root.glob("??/*") if path.is_file()]


class Counted:
    """Records events in place of the telemetry's counters."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, event: str) -> None:
        self.events.append(event)


@asynccontextmanager
async def open_folder(
    root: Path, limit_bytes: int = MIB, count: Callable[[str], None] = lambda _event: None, now_s: float = 0
) -> AsyncIterator[FolderRenditions]:
    """Opens a folder of renditions and waits for its index; closes it at the end."""
    store = FolderRenditions(root, limit_bytes, count, lambda: now_s)
    store.start()
    assert store._index_task is not None
    await store._index_task
    try:
        yield store
    finally:
        await store.close()
