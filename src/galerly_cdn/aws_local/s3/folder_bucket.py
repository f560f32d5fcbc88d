"""A bucket without an S3 server: what CloudFront asks of S3 is answered from the folders of one machine.

`originals/` and `resized/` are those of a store of `galerly-cdn serve`; the resizer is led to the same ones.
Signatures are verified as S3 does, here by ourselves, and a rendition has the headers that S3 would keep.

Source: the S3 API Reference, GetObject and its errors.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.cloudformation.stack import REGION
from galerly_cdn.aws_local.http import sigv4
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.errors import GalerlyError, NoSuchOriginal
from galerly_cdn.http.urls import AllowList, cache_tag, checked_key, parse_stored
from galerly_cdn.serialization import replaced
from galerly_cdn.store.folder.originals import FolderOriginals
from galerly_cdn.store.folder.renditions import FolderRenditions
from galerly_cdn.store.remote.renditions import object_attributes

if TYPE_CHECKING:
    from botocore.credentials import Credentials

    from galerly_cdn.model import Record, Target
    from galerly_cdn.settings.table import Settings

_MEDIA_TYPES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "image/jpeg"),
    **dict.fromkeys((".tif", ".tiff"), "image/tiff"),
    **{f".{name}": f"image/{name}" for name in ("png", "webp", "gif", "avif", "heic", "heif")},
}
_OWN = {"content-type", "cache-control", "content-disposition"}
"""Attributes that are headers of HTTP's; all others are metadata."""


def media_type(key: str) -> str | None:
    """A photograph's, by its name; None for what is named like none."""
    return _MEDIA_TYPES.get(Path(key).suffix.lower())


class FolderBucket:
    """Answers in the place of an S3 server, for the bucket of a stack with these settings."""

    def __init__(self, root: Path, settings: Settings, credentials: Credentials) -> None:
        now = time.time  # noqa: TID251 - ages of files are the machine's, whatever clock CloudFront has
        self._allowed = AllowList(settings.size_rules)
        self._originals = FolderOriginals(root / "originals", checked_key, now=now)
        self._renditions = FolderRenditions(root / "resized", settings.renditions_bytes, lambda _: None, now)
        self._credentials = credentials

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """An object, or S3's error; the path begins with the bucket's name."""
        if not sigv4.is_signed(request, self._credentials, "s3", REGION):
            return _error(403, "SignatureDoesNotMatch")
        try:
            found = await self._object("/" + request.raw_path.lstrip("/").partition("/")[2])
        except GalerlyError:  # no key of ours: nothing can lie there
            return _error(404, "NoSuchKey")
        if request.headers.get("if-none-match") == found.headers["etag"]:
            return replaced(found, status=304, body=b"")
        return replaced(found, body=b"") if request.method == "HEAD" else found

    async def _object(self, raw_path: str) -> OriginResponse:
        target, key = parse_stored(raw_path.encode("latin-1"), self._allowed)
        return await (self._original(key) if target is None else self._rendition(key, target))

    async def _rendition(self, key: str, target: Target) -> OriginResponse:
        found = await self._renditions.get(key, target)
        if found is None:
            raise NoSuchOriginal
        return _stored(_headers(found.record), found.record.md5, found.body)

    async def _original(self, key: str) -> OriginResponse:
        head = await self._originals.head(key)
        read = self._originals.read(key, head.version, 0, head.length_bytes)
        body = b"".join([chunk async for chunk in read])
        return _stored({"content-type": media_type(key) or "binary/octet-stream"}, head.version, body)


def _headers(record: Record) -> dict[str, str]:
    """What a rendition is put to S3 with, as S3 tells it."""
    told = {**object_attributes(record), "cache-tag": cache_tag(record.key)}
    small = {name.lower(): value for name, value in told.items()}
    return {name if name in _OWN else f"x-amz-meta-{name}": value for name, value in small.items()}


def _stored(headers: dict[str, str], etag: str, body: bytes) -> OriginResponse:
    own = {"accept-ranges": "bytes", "etag": f'"{etag}"', "server": "AmazonS3"}
    return OriginResponse(200, {"content-length": str(len(body)), **own, **headers}, body)


def _error(status: int, code: str) -> OriginResponse:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'.encode()
    return OriginResponse(status, {"content-type": "application/xml", "server": "AmazonS3"}, body)
