"""Presigns uploads that clients send directly to a remote store, and reads them.

A direct upload is an object beside the originals, under an id that no key names. It is read, with the same
checks, as an original is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from galerly_cdn.errors import NoSuchOriginal, NoSuchUpload, TooManyBytes, UploadTooLarge
from galerly_cdn.store.interfaces import PresignedUpload
from galerly_cdn.store.remote.bucket import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from galerly_cdn.store.interfaces import Originals
    from galerly_cdn.store.remote.bucket import Bucket

_EXPIRES_S = 3600


class RemoteDirectUploads:
    """Direct uploads in a remote store. `bucket` is their root, and `originals` reads from the same root."""

    def __init__(self, bucket: Bucket, originals: Originals) -> None:
        self._bucket = bucket
        self._originals = originals

    async def presign(self, upload_id: str) -> PresignedUpload:
        """Presign a PUT. Raises as the interface says."""
        url, headers = await self._bucket.presign_put(upload_id, _EXPIRES_S)
        return PresignedUpload(method="PUT", url=url, headers=headers, expires_s=_EXPIRES_S)

    async def read(self, upload_id: str) -> AsyncGenerator[bytes, None]:
        """An upload's bytes, after all of it was fetched and verified.

        Raises as the interface says, and `UploadTooLarge`.
        """
        try:
            upload = await self._originals.open(upload_id)
        except NoSuchOriginal as error:
            raise NoSuchUpload(error.detail) from error
        except TooManyBytes as error:
            raise UploadTooLarge(error.detail) from error
        with upload:
            for first in range(0, upload.head.length_bytes, CHUNK_BYTES):
                yield os.pread(upload.fd, CHUNK_BYTES, first)

    async def remove(self, upload_id: str) -> None:
        """Remove an upload. Raises as the interface says."""
        await self._bucket.delete(upload_id)
