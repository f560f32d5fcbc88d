"""How does an upload reach a remote store without passing through us? By an address signed for one PUT."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import obstore
from obstore.store import AzureStore

from galerly_cdn.errors import NoSuchOriginal, NoSuchUpload, StoreUnreachable
from galerly_cdn.store import Invitation
from galerly_cdn.store.remote import translated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from obstore import SignCapableStore
    from obstore.store import ObjectStore

_EXPIRES_S = 3600
_CHUNK_BYTES = 1024 * 1024


class RemoteIncoming:
    """Uploads in a remote store, beside its originals."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._headers = {"x-ms-blob-type": "BlockBlob"} if isinstance(store, AzureStore) else {}
        """Azure takes no PUT without (REST reference, Put Blob)."""

    async def invite(self, number: str) -> Invitation:
        """Sign an address. Raises as the interface says."""
        lasts = timedelta(seconds=_EXPIRES_S)
        with translated():
            signed = await obstore.sign_async(cast("SignCapableStore", self._store), "PUT", number, lasts)
        return Invitation(method="PUT", url=signed, headers=self._headers, expires_s=_EXPIRES_S)

    async def read(self, number: str) -> AsyncGenerator[bytes, None]:
        """What was sent. Raises as the interface says."""
        try:
            with translated():
                found = await obstore.get_async(self._store, number)
                left_bytes = found.meta["size"]
                async for chunk in found.stream(_CHUNK_BYTES):
                    left_bytes -= len(chunk)
                    yield bytes(chunk)
        except NoSuchOriginal as error:
            raise NoSuchUpload(error.detail) from error
        if left_bytes:
            raise StoreUnreachable(f"{left_bytes} bytes did not come")

    async def remove(self, number: str) -> None:
        """Remove. Raises as the interface says."""
        with contextlib.suppress(NoSuchOriginal), translated():
            await obstore.delete_async(self._store, number)
