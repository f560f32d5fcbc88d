"""Sends requests to S3 that obstore has signed and cannot send: listings of any key, conditional deletions.

obstore presigns them with the credentials that it has found. Everything here blocks.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from http import HTTPStatus

from galerly_cdn.errors import StoreRefused, StoreUnreachable

_MAX_PAGE_BYTES = 16 * 1024 * 1024
"""A page has at most 1000 keys of 1024 bytes, each of which may be percent-encoded."""
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_CHANGED = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}


def fetch(url: str, timeout_s: float) -> bytes:
    """The body of a response; redirects are not followed.

    Raises `StoreRefused`, `StoreUnreachable`.
    """
    try:
        with _opener().open(url, timeout=timeout_s) as response:
            content: bytes = response.read(_MAX_PAGE_BYTES)
            return content
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal("listing", error) from error
    except (OSError, http.client.HTTPException) as error:
        raise StoreUnreachable(str(error)) from error


def fetch_date(url: str, timeout_s: float) -> str:
    """The header Date of any response; empty if there is none."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the opener knows HTTP only
    try:
        with _opener().open(request, timeout=timeout_s) as response:
            return str(response.headers.get("Date", ""))
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers.get("Date", ""))
    except (OSError, http.client.HTTPException):
        return ""


def delete(url: str, etag: str, timeout_s: float) -> bool | None:
    """Delete an object if it has this ETag, without its quotes; whether it was deleted.

    None if the server knows no condition on a deletion (501). Raises `StoreRefused`, `StoreUnreachable`.
    (Amazon S3 User Guide, "How to perform conditional deletes".)
    """
    request = urllib.request.Request(url, method="DELETE", headers={"If-Match": f'"{etag}"'})  # noqa: S310 - the opener knows HTTP only
    try:
        with _opener().open(request, timeout=timeout_s):
            return True
    except urllib.error.HTTPError as error:
        with error:
            if error.code in _CHANGED:
                return False
            if error.code == HTTPStatus.NOT_IMPLEMENTED:
                return None
            raise _refusal("deletion", error) from error
    except (OSError, http.client.HTTPException) as error:
        raise StoreUnreachable(str(error)) from error


def _refusal(what: str, error: urllib.error.HTTPError) -> StoreRefused | StoreUnreachable:
    detail = f"the {what} was refused with {error.code}: {error.read(500)!r}"
    passes = error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in _PASSING
    return (StoreUnreachable if passes else StoreRefused)(detail)


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
