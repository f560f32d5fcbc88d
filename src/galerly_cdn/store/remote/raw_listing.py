"""Lists an S3 bucket by ListObjectsV2, with the keys that obstore cannot represent.

obstore refuses a whole page of a listing if one key in it has an empty, `.` or `..` segment, a tab or a
newline (obstore, issue 429). obstore signs the request, with the credentials that it has found; it is sent
and read here.
"""

from __future__ import annotations

import datetime as dt
import http.client
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import quote, unquote_plus, urlencode
from xml.etree import ElementTree as ET

from galerly_cdn.errors import StoreRefused, StoreUnreachable
from galerly_cdn.model import Listed

_MAX_PAGE_BYTES = 16 * 1024 * 1024
"""A page has at most 1000 keys of 1024 bytes, each of which may be percent-encoded."""
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class RawPage(NamedTuple):
    """A page of a listing, by whole keys in the order of their UTF-8 bytes."""

    objects: list[Listed]
    folders: list[str]
    """The common prefixes of a listing with a delimiter, each with its final slash."""
    next_token: str
    """Continues the listing; empty on the last page."""


def query(prefix: str, after: str = "", token: str = "", *, delimiter: str = "") -> str:
    """The query of ListObjectsV2 for the keys with a prefix that sort after a key, or for a token's page.

    With a delimiter the keys that have it after the prefix are listed as common prefixes.

    It ends with a parameter that S3 ignores (the AWS SDKs send it to name the operation): obstore appends a
    path to it.
    """
    parameters = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
    if delimiter:
        parameters["delimiter"] = delimiter
    if token:
        parameters["continuation-token"] = token
    elif after:
        parameters["start-after"] = after
    return urlencode({**parameters, "x-id": "ListObjectsV2"}, quote_via=quote, safe="")


def fetch(url: str, timeout_s: float) -> bytes:
    """The body of a response; redirects are not followed. Blocks.

    Raises `StoreRefused`, `StoreUnreachable`.
    """
    try:
        with _opener().open(url, timeout=timeout_s) as response:
            content: bytes = response.read(_MAX_PAGE_BYTES)
            return content
    except urllib.error.HTTPError as error:
        with error:
            detail = f"the listing was refused with {error.code}: {error.read(500)!r}"
        passes = error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in _PASSING
        raise (StoreUnreachable if passes else StoreRefused)(detail) from error
    except (OSError, http.client.HTTPException) as error:
        raise StoreUnreachable(str(error)) from error


def fetch_date(url: str, timeout_s: float) -> str:
    """The header Date of any response; empty if there is none. Blocks."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the opener knows HTTP only
    try:
        with _opener().open(request, timeout=timeout_s) as response:
            return str(response.headers.get("Date", ""))
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers.get("Date", ""))
    except (OSError, http.client.HTTPException):
        return ""


def parse_page(content: bytes) -> RawPage:
    """A page from the XML of ListObjectsV2 (S3 API Reference). Raises `StoreUnreachable` otherwise."""
    try:
        root = ET.fromstring(content)  # noqa: S314 - expat bounds the expansion of entities
        name = "{*}"
        is_encoded = root.findtext(f"{name}EncodingType") == "url"
        objects = [_object(one, is_encoded=is_encoded) for one in root.findall(f"{name}Contents")]
        prefixes = [one.findtext(f"{name}Prefix") or "" for one in root.findall(f"{name}CommonPrefixes")]
        folders = [unquote_plus(one) if is_encoded else one for one in prefixes]
        return RawPage(objects, folders, root.findtext(f"{name}NextContinuationToken") or "")
    except (ET.ParseError, KeyError, TypeError, ValueError) as error:
        raise StoreUnreachable(f"the listing cannot be read: {error}") from error


def _object(element: ET.Element, *, is_encoded: bool) -> Listed:
    """Raises `KeyError`, `ValueError`."""
    values = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
    key = unquote_plus(values["Key"]) if is_encoded else values["Key"]
    modified = dt.datetime.fromisoformat(values["LastModified"])
    return Listed(key, int(values["Size"]), modified.timestamp())


def _opener() -> urllib.request.OpenerDirector:
    """Follows no redirects: an https store could lead to http, and there to a cloud's metadata service."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener
