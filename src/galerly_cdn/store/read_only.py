"""Originals that are only read: whoever would write is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.errors import ReadOnlyStore

if TYPE_CHECKING:
    from galerly_cdn.model import Head
    from galerly_cdn.store.interfaces import Originals
    from galerly_cdn.store.temp_files import UploadFile


class ReadOnlyOriginals:
    """Reads as `originals` do; writing raises `ReadOnlyStore`."""

    def __init__(self, originals: Originals) -> None:
        self.head = originals.head
        self.open = originals.open
        self.read = originals.read
        self.list = originals.list

    def spool(self) -> UploadFile:
        raise ReadOnlyStore

    async def put(
        self,
        key: str,  # noqa: ARG002 - the interface's
        spool: UploadFile,  # noqa: ARG002 - likewise
        *,
        media_type: str,  # noqa: ARG002 - likewise
        md5: str,  # noqa: ARG002 - likewise
        replaces: bool,  # noqa: ARG002 - likewise
    ) -> tuple[Head, bool]:
        raise ReadOnlyStore

    async def delete(self, key: str) -> bool:  # noqa: ARG002 - likewise
        raise ReadOnlyStore
