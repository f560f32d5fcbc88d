"""Handles the admin API's operations on originals: parses requests, calls the library, builds responses.

The query, body and response types in this file are the API's schemas: `openapi` describes the API from them.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from typing import TYPE_CHECKING, Annotated

from galerly_cdn.admin.responses import Failed, json_lines_response, json_response
from galerly_cdn.errors import (
    BadRequest,
    ChecksumMismatch,
    EmptyUpload,
    GalerlyError,
    MalformedKey,
    MalformedQuery,
    NoDirectUploads,
    NoSuchUpload,
    Unrenderable,
    UploadTooLarge,
)
from galerly_cdn.http import checksums, responses
from galerly_cdn.http.urls import checked_key, parse_key
from galerly_cdn.serialization import Meta, Value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.admin.warming import Warmer
    from galerly_cdn.http.responses import Response
    from galerly_cdn.library import Accepted, StoreLibrary
    from galerly_cdn.model import Forgotten
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import DirectUploads

_NO_CONTROL = r"\x00-\x1f\x7f-\x9f"
_INNER = rf"[^/\\{_NO_CONTROL}]"
_FIRST = rf"[^./\\{_NO_CONTROL}]"
SEGMENT_PATTERN = rf"{_FIRST}{_INNER}*"
KEY_PATTERN = rf"^{SEGMENT_PATTERN}(/{SEGMENT_PATTERN})*$"
"""The grammar of `urls.checked_key`, without its limit in bytes, for JSON Schema; a test compares the two."""
PREFIX_PATTERN = rf"^({SEGMENT_PATTERN}/)*({SEGMENT_PATTERN})?$"
UPLOAD_ID_PATTERN = "[0-9a-f]{32}"
_MAX_PAGE_KEYS = 1000

Key = Annotated[str, Meta(extra_json_schema={"pattern": KEY_PATTERN})]
KeyOrEmpty = Annotated[str, Meta(extra_json_schema={"pattern": f"^$|{KEY_PATTERN}"})]
Prefix = Annotated[str, Meta(extra_json_schema={"pattern": PREFIX_PATTERN})]


class UploadQuery(Value, frozen=True):
    """Whether to replace a photograph with the same key. Uploading the same bytes again always succeeds."""

    replace: bool = False


class ListQuery(Value, frozen=True):
    """Lists keys that begin with `prefix` and sort after `after`, at most `limit` of them."""

    prefix: Prefix = ""
    after: KeyOrEmpty = ""
    limit: Annotated[int, Meta(ge=1, le=_MAX_PAGE_KEYS)] = _MAX_PAGE_KEYS


class GalleryQuery(Value, frozen=True):
    """Selects every original whose key begins with `gallery` and a slash."""

    gallery: Key


class WarmQuery(Value, frozen=True):
    """Selects the originals of a gallery whose keys sort after `after`, to resume after an interruption."""

    gallery: Key
    after: KeyOrEmpty = ""


class Completion(Value, frozen=True):
    """The key for the uploaded photograph, and whether to replace a photograph with the same key."""

    key: Key
    replace: bool = False


class Invited(Value, frozen=True):
    """A presigned upload: send the bytes within `expires_s` seconds, then complete it."""

    id: str
    method: str
    url: str
    headers: dict[str, str]
    expires_s: int


class Handlers:
    """The operations on originals and their renditions, as HTTP handlers.

    `forget` removes an original from memory. `direct_uploads` is None where the store presigns no uploads
    (a folder). `new_upload_id` makes the 32 hexadecimal digits that name a direct upload.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        library: StoreLibrary,
        warmer: Warmer,
        settings: Settings,
        *,
        forget: Callable[[str], Awaitable[Forgotten]],
        direct_uploads: DirectUploads | None = None,
        new_upload_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._library = library
        self._warmer = warmer
        self._settings = settings
        self._forget = forget
        self._direct_uploads = direct_uploads
        self._new_upload_id = new_upload_id

    async def upload(self, request: AdminRequest) -> Response:
        """Store the body as an original: 201 for a new key, 200 for a replaced or unchanged one."""
        query = request.parse_query(UploadQuery)
        key = _key_from_path(request)
        _check_conditions(request, query.replace)
        length = request.headers.get(b"content-length", b"0")
        if len(length) > 18 or int(length) > self._settings.max_original_bytes:
            raise UploadTooLarge(f"Content-Length is {length[:32]!r} bytes")
        accepted = await self._library.upload(
            key,
            request.body(),
            replaces=query.replace,
            digests=checksums.read_checksums(request.headers),
        )
        return self._accepted_response(request, accepted)

    async def list(self, request: AdminRequest) -> Response:
        """Return one page of the listing."""
        query = request.parse_query(ListQuery)
        _check_query_key(query.prefix + "x")  # a prefix is valid if some key can begin with it
        _check_query_key(query.after or "x")
        return json_response(await self._library.list(query.prefix, query.after, query.limit))

    async def inspect(self, request: AdminRequest) -> Response:
        """Return an original's facts and its stored renditions."""
        return json_response(await self._library.inspect(_key_from_path(request)))

    async def delete(self, request: AdminRequest) -> Response:
        """Delete an original and its renditions."""
        deleted = await self._library.delete(_key_from_path(request))
        request.outcome = "deleted" if deleted.existed else "absent"
        return json_response(deleted)

    async def purge(self, request: AdminRequest) -> Response:
        """Delete the renditions of one original."""
        purged = await self._library.purge(_key_from_path(request))
        request.outcome = f"purged {len(purged.removed)}"
        return json_response(purged)

    async def forget(self, request: AdminRequest) -> Response:
        """Remove an original from this process's memory, because another process has changed it."""
        forgotten = await self._forget(_key_from_path(request))
        request.outcome = f"forgot {len(forgotten.removed)}"
        return json_response(forgotten)

    async def purge_gallery(self, request: AdminRequest) -> Response:
        """Delete the renditions of every original in a gallery; one line for each original."""
        request.subject = _check_query_key(request.parse_query(GalleryQuery).gallery)
        return _json_lines(request, self._library.purge_gallery(request.subject), "purged")

    async def warm(self, request: AdminRequest) -> Response:
        """Render the missing renditions of one original; one line for each rendition."""
        return _json_lines(request, self._library.warm(_key_from_path(request)), "warmed")

    async def warm_gallery(self, request: AdminRequest) -> Response:
        """Render the missing renditions of a gallery; one line for each rendition."""
        query = request.parse_query(WarmQuery)
        request.subject = _check_query_key(query.gallery)
        _check_query_key(query.after or "x")
        values = self._warmer.warm_gallery(request.subject, query.after, request.request_id)
        return _json_lines(request, values, "warmed")

    async def invite(self, request: AdminRequest) -> Response:
        """Return a presigned upload to the store. Raises `NoDirectUploads`."""
        if self._direct_uploads is None:
            raise NoDirectUploads
        request.subject = self._new_upload_id()
        presigned = await self._direct_uploads.presign(request.subject)
        request.outcome = "invited"
        return json_response(
            Invited(request.subject, presigned.method, presigned.url, presigned.headers, presigned.expires_s),
            201,
        )

    async def complete(self, request: AdminRequest) -> Response:
        """Import a direct upload as an original: read, verified, decoded and put as any upload.

        Raises `NoDirectUploads`, `NoSuchUpload`, and as an upload does.
        """
        if self._direct_uploads is None:
            raise NoDirectUploads
        upload_id = request.named.decode("latin-1")
        if not re.fullmatch(UPLOAD_ID_PATTERN, upload_id):
            raise NoSuchUpload
        completion = await request.json(Completion)
        request.subject = f"{upload_id} as {checked_key(completion.key)}"
        try:
            accepted = await self._library.upload(
                completion.key, self._direct_uploads.read(upload_id), replaces=completion.replace
            )
        except (ChecksumMismatch, EmptyUpload, Unrenderable, UploadTooLarge):
            await self._direct_uploads.remove(upload_id)  # the bytes are at fault, whatever the key
            raise
        await self._direct_uploads.remove(upload_id)
        return self._accepted_response(request, accepted)

    def _accepted_response(self, request: AdminRequest, accepted: Accepted) -> Response:
        request.outcome = accepted.outcome
        if self._settings.warm_on_upload:
            self._warmer.enqueue(accepted.key)
        return json_response(accepted, 201 if accepted.outcome == "created" else 200)


def _key_from_path(request: AdminRequest) -> str:
    """The key in the path, which is also the audit log's subject. Raises `MalformedKey`."""
    request.subject = parse_key(request.named)
    return request.subject


def _check_query_key(key: str) -> str:
    """The key, if it is valid. Raises `MalformedQuery`."""
    try:
        return checked_key(key)
    except MalformedKey as error:
        raise MalformedQuery(repr(key)) from error


def _check_conditions(request: AdminRequest, replaces: bool) -> None:  # noqa: FBT001 - as in the query
    """Refuse preconditions that the upload does not implement. Raises `BadRequest`.

    Creating without replacing is the default, which is what `If-None-Match: *` asks for. Ignoring another
    precondition could replace a photograph that the client wants kept (RFC 9110 §13.1); ignoring
    `Content-Range` would store a part as the whole (RFC 9110 §14.5).
    """
    if_none_match = request.headers.get(b"if-none-match")
    if if_none_match is not None and (if_none_match.strip() != b"*" or replaces):
        raise BadRequest("If-None-Match must be *, and cannot be combined with replace")
    for name in (b"if-match", b"if-unmodified-since", b"content-range", b"content-encoding"):
        if name in request.headers:
            raise BadRequest(f"the header {name.decode()} is not supported")


def _json_lines(request: AdminRequest, values: AsyncGenerator[Value, None], verb: str) -> Response:
    """Stream `values` as lines and record the outcome; an error after the first line becomes a line."""

    async def recorded() -> AsyncGenerator[Value, None]:
        count = 0
        try:
            async with contextlib.aclosing(values):
                async for value in values:
                    count += 1
                    yield value
        except GalerlyError as error:
            request.outcome = error.code
            if not count:
                raise  # nothing was sent yet: the response can still have the error's status
            yield Failed(request.subject, responses.problem(error, request.request_id))
        else:
            request.outcome = f"{verb} {count}"

    return json_lines_response(recorded())
