"""Serves a folder's originals and renditions as an S3 bucket, where no S3 server is installed.

`originals/` and `resized/` are those of a folder store of `galerly-cdn serve`; the resizer uses the same
folder. Signatures are verified here as S3 verifies them, and a rendition has the headers that S3 would
return.

Source: the S3 API Reference, GetObject and its errors.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.aws_local.cloudformation.stack import REGION
from galerly_cdn.aws_local.http import sigv4
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.errors import GalerlyError, NoSuchOriginal
from galerly_cdn.http.urls import AllowList, cache_tags, checked_key, parse_key, split_stored
from galerly_cdn.render.formats import media_type_by_name
from galerly_cdn.serialization import replaced
from galerly_cdn.store.folder.originals import FolderOriginals
from galerly_cdn.store.folder.renditions import FolderRenditions
from galerly_cdn.store.remote.renditions import object_attributes
from galerly_cdn.stored_keys import key_of

if TYPE_CHECKING:
    from pathlib import Path

    from botocore.credentials import Credentials

    from galerly_cdn.model import Record, Target
    from galerly_cdn.settings.table import Settings

_ORIGINALS = b"/originals/"
_HTTP_ATTRIBUTES = {"content-type", "cache-control", "content-disposition"}
"""Object attributes that are HTTP headers; all others are user metadata (`x-amz-meta-…`)."""


class FolderBucket:
    """Responds in place of an S3 server, for the bucket of a stack with these settings."""

    def __init__(self, root: Path, settings: Settings, credentials: Credentials) -> None:
        now = time.time  # noqa: TID251 - files have the machine's time, whatever CloudFront's clock says
        self._allowed = AllowList(settings.size_rules)
        self._originals = FolderOriginals(
            root / "originals",
            checked_key,
            now=now,
            private_folders=private_folders(settings.private_prefixes),
        )
        self._renditions = FolderRenditions(root / "resized", settings.renditions_bytes, lambda _: None, now)
        self._credentials = credentials

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """An object, or S3's error. The path begins with the bucket's name."""
        if not sigv4.is_signed(request, self._credentials, "s3", REGION):
            return _error(403, "SignatureDoesNotMatch")
        try:
            response = await self._object("/" + request.raw_path.lstrip("/").partition("/")[2])
        except GalerlyError:  # the key is not valid, so no object has it
            return _error(404, "NoSuchKey")
        if request.headers.get("if-none-match") == response.headers["etag"]:
            return replaced(response, status=304, body=b"")
        return replaced(response, body=b"") if request.method == "HEAD" else response

    async def _object(self, raw_path: str) -> OriginResponse:
        encoded = raw_path.encode("latin-1")
        if encoded.startswith(_ORIGINALS):
            return await self._original(parse_key(encoded.removeprefix(_ORIGINALS)))
        target, name = split_stored(encoded, self._allowed)
        key = key_of(name.decode("latin-1"))
        if key is None:  # a digest: the resizer, which gets the key, finds the rendition in the folder
            raise NoSuchOriginal
        return await self._rendition(checked_key(key), target)

    async def _rendition(self, key: str, target: Target) -> OriginResponse:
        rendition = await self._renditions.get(key, target)
        if rendition is None:
            raise NoSuchOriginal
        return _ok(_headers(rendition.record), rendition.record.md5, rendition.body)

    async def _original(self, key: str) -> OriginResponse:
        head = await self._originals.head(key)
        chunks = self._originals.read(key, head.version, 0, head.length_bytes)
        body = b"".join([chunk async for chunk in chunks])
        return _ok({"content-type": media_type_by_name(key) or "binary/octet-stream"}, head.version, body)


def _headers(record: Record) -> dict[str, str]:
    """The attributes with which a rendition is put to S3, as the headers that S3 returns."""
    attributes = {**object_attributes(record), "cache-tag": cache_tags(record.key)}
    lower_case = {name.lower(): value for name, value in attributes.items()}
    return {
        name if name in _HTTP_ATTRIBUTES else f"x-amz-meta-{name}": value
        for name, value in lower_case.items()
    }


def _ok(headers: dict[str, str], etag: str, body: bytes) -> OriginResponse:
    fixed = {"accept-ranges": "bytes", "etag": f'"{etag}"', "server": "AmazonS3"}
    return OriginResponse(200, {"content-length": str(len(body)), **fixed, **headers}, body)


def _error(status: int, code: str) -> OriginResponse:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'.encode()
    return OriginResponse(status, {"content-type": "application/xml", "server": "AmazonS3"}, body)
