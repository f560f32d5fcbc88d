"""What does each operation on originals do? What was asked is read here, done by the archive, and told.

The values asked for and answered are the API: `openapi` describes them from their types.
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
    from collections.abc import AsyncGenerator, Callable

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.admin.warming import Warmer
    from galerly_cdn.http.responses import Response
    from galerly_cdn.library import Accepted, StoreLibrary
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import DirectUploads

_NO_CONTROL = r"\x00-\x1f\x7f-\x9f"
_INNER = rf"[^/\\{_NO_CONTROL}]"
_FIRST = rf"[^./\\{_NO_CONTROL}]"
SEGMENT_PATTERN = rf"({_FIRST}{_INNER}*|\.{_FIRST}{_INNER}*|\.\.{_INNER}+)"
KEY_PATTERN = rf"^{SEGMENT_PATTERN}(/{SEGMENT_PATTERN})*$"
"""`url.checked_key` as JSON Schema can say it, but for the length in bytes; a test compares the two."""
PREFIX_PATTERN = rf"^({SEGMENT_PATTERN}/)*{_INNER}*$"
NUMBER_PATTERN = "[0-9a-f]{32}"
_PAGE = 1000

Key = Annotated[str, Meta(extra_json_schema={"pattern": KEY_PATTERN})]
NoKey = Annotated[str, Meta(extra_json_schema={"pattern": f"^$|{KEY_PATTERN}"})]
Prefix = Annotated[str, Meta(extra_json_schema={"pattern": PREFIX_PATTERN})]


class UploadQuery(Value, frozen=True):
    """Whether another photograph of this name may go; the same bytes again are never a fault."""

    replace: bool = False


class ListQuery(Value, frozen=True):
    """Which part of the listing: keys with this prefix, after this one, at most so many."""

    prefix: Prefix = ""
    after: NoKey = ""
    limit: Annotated[int, Meta(ge=1, le=_PAGE)] = _PAGE


class GalleryQuery(Value, frozen=True):
    """Every original whose key begins with this and a slash."""

    gallery: Key


class WarmQuery(Value, frozen=True):
    """A gallery's originals; those after a key, to go on where lines ended."""

    gallery: Key
    after: NoKey = ""


class Completion(Value, frozen=True):
    """The key an upload is to have, and whether another photograph of this name may go."""

    key: Key
    replace: bool = False


class Invited(Value, frozen=True):
    """Where to send an upload's bytes, with which method and headers, and by when; then complete it."""

    id: str
    method: str
    url: str
    headers: dict[str, str]
    expires_s: int


class Handlers:
    """The operations. `incoming` is None where the store takes no uploads by itself."""

    def __init__(
        self,
        archive: StoreLibrary,
        warming: Warmer,
        settings: Settings,
        *,
        incoming: DirectUploads | None = None,
        number: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._archive = archive
        self._warming = warming
        self._settings = settings
        self._incoming = incoming
        self._number = number

    async def upload(self, call: AdminRequest) -> Response:
        """Store the body as an original; 201 if there was none of this key."""
        asked = call.parse_query(UploadQuery)
        key = _key(call)
        _check_conditions(call, asked.replace)
        length = call.headers.get(b"content-length", b"0")
        if len(length) > 18 or int(length) > self._settings.max_original_bytes:
            raise UploadTooLarge(f"{length[:32]!r} bytes announced")
        accepted = await self._archive.upload(
            key, call.body(), replaces=asked.replace, digests=checksums.read_checksums(call.headers)
        )
        return self._accepted(call, accepted)

    async def list(self, call: AdminRequest) -> Response:
        """A part of the originals."""
        asked = call.parse_query(ListQuery)
        _check(asked.prefix + "x")  # a prefix is what a key may begin with
        _check(asked.after or "x")
        return json_response(await self._archive.list(asked.prefix, asked.after, asked.limit))

    async def inspect(self, call: AdminRequest) -> Response:
        """What is known of one."""
        return json_response(await self._archive.inspect(_key(call)))

    async def delete(self, call: AdminRequest) -> Response:
        """Remove one, and what was made of it."""
        deleted = await self._archive.delete(_key(call))
        call.outcome = "deleted" if deleted.existed else "absent"
        return json_response(deleted)

    async def purge(self, call: AdminRequest) -> Response:
        """Remove what was made of one."""
        purged = await self._archive.purge(_key(call))
        call.outcome = f"purged {len(purged.removed)}"
        return json_response(purged)

    async def purge_gallery(self, call: AdminRequest) -> Response:
        """Remove what was made of a gallery."""
        call.subject = _check(call.parse_query(GalleryQuery).gallery)
        return _lines(call, self._archive.purge_gallery(call.subject), "purged")

    async def warm(self, call: AdminRequest) -> Response:
        """Make what is lacking of one."""
        return _lines(call, self._archive.warm(_key(call)), "warmed")

    async def warm_gallery(self, call: AdminRequest) -> Response:
        """Make what is lacking of a gallery."""
        asked = call.parse_query(WarmQuery)
        call.subject = _check(asked.gallery)
        _check(asked.after or "x")
        made = self._warming.gallery(call.subject, asked.after, call.request_id)
        return _lines(call, made, "warmed")

    async def invite(self, call: AdminRequest) -> Response:
        """Where an upload may be sent straight to the store."""
        if self._incoming is None:
            raise NoDirectUploads
        call.subject = self._number()
        invitation = await self._incoming.presign(call.subject)
        call.outcome = "invited"
        return json_response(
            Invited(
                call.subject, invitation.method, invitation.url, invitation.headers, invitation.expires_s
            ),
            201,
        )

    async def complete(self, call: AdminRequest) -> Response:
        """Take what was sent straight to the store, as any upload is taken: read, verified, decoded, put."""
        if self._incoming is None:
            raise NoDirectUploads
        number = call.named.decode("latin-1")
        if not re.fullmatch(NUMBER_PATTERN, number):
            raise NoSuchUpload
        asked = await call.json(Completion)
        call.subject = f"{number} as {checked_key(asked.key)}"
        try:
            accepted = await self._archive.upload(
                asked.key, self._incoming.read(number), replaces=asked.replace
            )
        except (ChecksumMismatch, EmptyUpload, Unrenderable, UploadTooLarge):
            await self._incoming.remove(number)  # no other key would make it a photograph
            raise
        await self._incoming.remove(number)
        return self._accepted(call, accepted)

    def _accepted(self, call: AdminRequest, accepted: Accepted) -> Response:
        call.outcome = accepted.outcome
        if self._settings.warm_on_upload:
            self._warming.soon(accepted.key)
        return json_response(accepted, 201 if accepted.outcome == "created" else 200)


def _key(call: AdminRequest) -> str:
    """The key in the path. Raises `MalformedKey`."""
    call.subject = parse_key(call.named)
    return call.subject


def _check(key: str) -> str:
    """A key in the query. Raises `MalformedQuery`."""
    try:
        return checked_key(key)
    except MalformedKey as error:
        raise MalformedQuery(repr(key)) from error


def _check_conditions(call: AdminRequest, replaces: bool) -> None:  # noqa: FBT001 - the query's word
    """Creating is the default, as `If-None-Match: *` says it. Raises `BadRequest` for other conditions.

    One passed over would have a photograph replaced that was to stay (RFC 9110 §13.1); a part of one would
    be stored for the whole (§14.5).
    """
    told_none = call.headers.get(b"if-none-match")
    if told_none is not None and (told_none.strip() != b"*" or replaces):
        raise BadRequest("If-None-Match takes * alone, and not with replace")
    for name in (b"if-match", b"if-unmodified-since", b"content-range", b"content-encoding"):
        if name in call.headers:
            raise BadRequest(f"{name.decode()} is not taken")


def _lines(call: AdminRequest, values: AsyncGenerator[Value, None], verb: str) -> Response:
    """Lines that end with what went wrong, if something did, and note what came of them."""

    async def noted() -> AsyncGenerator[Value, None]:
        number = 0
        try:
            async with contextlib.aclosing(values):
                async for one in values:
                    number += 1
                    yield one
        except GalerlyError as error:
            call.outcome = error.code
            if not number:
                raise  # nothing is sent yet: the status can still say it
            yield Failed(call.subject, responses.problem(error, call.request_id))
        else:
            call.outcome = f"{verb} {number}"

    return json_lines_response(noted())
