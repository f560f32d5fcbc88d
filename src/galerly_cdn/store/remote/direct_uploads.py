"""How does an upload reach a remote store without passing through us? By an address signed for one PUT.

It lies beside the originals then, under a number that no key leads to, and is read as an original is.
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

_LASTS_S = 3600


class RemoteDirectUploads:
    """Uploads in a remote store: `bucket` at their root, and `originals` over it."""

    def __init__(self, bucket: Bucket, originals: Originals) -> None:
        self._bucket = bucket
        self._originals = originals

    async def presign(self, number: str) -> PresignedUpload:
        """Sign an address. Raises as the interface says."""
        url, headers = await self._bucket.sign_put(number, _LASTS_S)
        return PresignedUpload(method="PUT", url=url, headers=headers, expires_s=_LASTS_S)

    async def read(self, number: str) -> AsyncGenerator[bytes, None]:
        """What was sent, once all of it is here. Raises as the interface says, and `UploadTooLarge`."""
        try:
            sent = await self._originals.open(number)
        except NoSuchOriginal as error:
            raise NoSuchUpload(error.detail) from error
        except TooManyBytes as error:
            raise UploadTooLarge(error.detail) from error
        with sent:
            for first in range(0, sent.head.length_bytes, CHUNK_BYTES):
                yield os.pread(sent.fd, CHUNK_BYTES, first)

    async def remove(self, number: str) -> None:
        """Remove. Raises as the interface says."""
        await self._bucket.delete(number)
