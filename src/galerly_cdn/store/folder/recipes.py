"""Stores the list of recipes as files `recipes/00000001.json` in the root of the renditions.

They do not count towards the limit of the renditions, and are never evicted.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.store.folder.paths import fsync_folder
from galerly_cdn.store.folder.renditions_index import TEMP_PREFIX
from galerly_cdn.store.recipe_entry import FOLDER, decode_entry, encode_entry, entry_name
from galerly_cdn.store.temp_files import lock_temp_file, store_errors

if TYPE_CHECKING:
    from galerly_cdn.model import RecipeEntry


class FolderRecipes:
    """The entries in `root`. Reading creates nothing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / FOLDER

    async def entries(self, after: int = 0) -> tuple[RecipeEntry, ...]:
        """The entries after a number. Raises as the interface says."""
        found: list[RecipeEntry] = []
        with store_errors(), suppress(FileNotFoundError, NotADirectoryError):
            while True:
                number = after + len(found) + 1
                content = (self._folder / entry_name(number)).read_bytes()
                found.append(decode_entry(content, number))
        return tuple(found)

    async def append(self, entry: RecipeEntry) -> bool:
        """Store an entry, unless there is one of its number. Raises as the interface says.

        It needs hard links: only `link` takes a name in one step and fails if it is taken.
        """
        with store_errors():
            return await asyncio.shield(asyncio.to_thread(self._append, entry))

    def _append(self, entry: RecipeEntry) -> bool:
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fsync_folder(self._root)
        fd, temp_path = tempfile.mkstemp(prefix=TEMP_PREFIX, dir=self._folder)
        try:
            with os.fdopen(fd, "wb") as file:
                lock_temp_file(fd)
                file.write(encode_entry(entry))
                file.flush()
                os.fsync(fd)
                (self._folder / entry_name(entry.number)).hardlink_to(temp_path)
        except FileExistsError:
            return False
        finally:
            Path(temp_path).unlink(missing_ok=True)
        fsync_folder(self._folder)
        return True
