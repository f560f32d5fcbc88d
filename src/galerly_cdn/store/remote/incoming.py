"""How does an upload reach a remote store without passing through us? By an address signed for one PUT."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from galerly_cdn.errors import NoSuchOriginal, NoSuchUpload
from galerly_cdn.store import Invitation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from galerly_cdn.store.remote.bucket import Bucket

_EXPIRES_S = 3600
_PIECE_BYTES = 8 * 1024 * 1024


class RemoteIncoming:
    """Uploads in a remote store, beside its originals."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def invite(self, number: str) -> Invitation:
        """Sign an address. Raises as the interface says."""
        url, headers = await self._bucket.sign_put(number, _EXPIRES_S)
        return Invitation(method="PUT", url=url, headers=headers, expires_s=_EXPIRES_S)

    async def read(self, number: str) -> AsyncGenerator[bytes, None]:
        """What was sent, in pieces of one version. Raises as the interface says."""
        try:
            meta = await self._bucket.head(number)
            for begin in range(0, meta["size"], _PIECE_BYTES):
                piece = (begin, min(begin + _PIECE_BYTES, meta["size"]))
                _, content = await self._bucket.read(number, {"if_match": meta["e_tag"], "range": piece})
                yield content
        except NoSuchOriginal as error:
            raise NoSuchUpload(error.detail) from error

    async def remove(self, number: str) -> None:
        """Remove. Raises as the interface says."""
        with contextlib.suppress(NoSuchOriginal):
            await self._bucket.delete(number)
