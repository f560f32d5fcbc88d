"""Compares the private prefixes with the store's folders: a misspelt prefix would leave its folder public.

A folder's name that equals a prefix after NFC and case folding (Unicode, "Canonical Caseless Matching"), but
not byte for byte, is an error. A prefix without a folder is a warning: its first photograph may come later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import folded
from galerly_cdn.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.store.interfaces import Originals


class PrefixCheck:
    """Checks the prefixes of a store of originals; `/` has no name to compare."""

    def __init__(self, originals: Originals, prefixes: Iterable[str]) -> None:
        self._originals = originals
        self._prefixes = [one for one in prefixes if one != "/"]
        self.absent: tuple[str, ...] = ()
        """The prefixes without a folder at the last check."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each prefix without a folder."""
        return tuple(
            f"private_prefixes: there is no folder {one!a} yet; check its spelling" for one in self.absent
        )

    async def check(self) -> None:
        """Compare all prefixes. Raises `SettingsError`, `StoreRefused`, `StoreUnreachable`."""
        problems: list[str] = []
        absent = []
        for prefix in self._prefixes:
            found = await self._folders_like(prefix)
            problems += [
                f"private_prefixes: {prefix!a} is not the folder {one!a}, which would be public; "
                "write its name exactly"
                for one in found
                if one != prefix
            ]
            if prefix not in found:
                absent.append(prefix)
        self.absent = tuple(absent)
        if problems:
            raise SettingsError(problems)

    async def refresh(self) -> None:
        """Look again for the folders that were missing. Raises `StoreRefused`, `StoreUnreachable`."""
        self.absent = tuple(
            [one for one in self.absent if one not in await self._folders_like(one)] if self.absent else ()
        )

    async def _folders_like(self, prefix: str) -> list[str]:
        """The folders whose path equals the prefix after folding."""
        paths = [""]
        for segment in prefix.split("/"):
            paths = [
                f"{path}/{name}" if path else name
                for path in paths
                for name in await self._originals.folders(path)
                if folded(name) == folded(segment)
            ]
        return paths
