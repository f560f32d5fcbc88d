"""Lists an S3 bucket by ListObjectsV2, with the keys that obstore cannot represent.

obstore refuses a whole page of a listing if one key in it has an empty, `.` or `..` segment, a tab or a
newline (obstore, issue 429).
"""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple
from urllib.parse import quote, unquote_plus, urlencode
from xml.etree import ElementTree as ET

from galerly_cdn.errors import StoreUnreachable


class ListedObject(NamedTuple):
    """An object in a listing; `etag` is without quotes, `modified_s` in seconds of the epoch."""

    key: str
    length_bytes: int
    modified_s: float
    etag: str


class RawPage(NamedTuple):
    """A page of a listing, by whole keys in the order of their UTF-8 bytes."""

    objects: list[ListedObject]
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


def _object(element: ET.Element, *, is_encoded: bool) -> ListedObject:
    """Raises `KeyError`, `ValueError`."""
    values = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
    key = unquote_plus(values["Key"]) if is_encoded else values["Key"]
    modified = dt.datetime.fromisoformat(values["LastModified"])
    return ListedObject(key, int(values["Size"]), modified.timestamp(), values.get("ETag", "").strip('"'))
