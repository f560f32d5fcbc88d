"""How is a remote store spoken to: S3 and its like, Google Cloud Storage, Azure? obstore's door.

An original's version is the object's ETag. A rendition is an object whose metadata names what it was made
from. What is read is whole, or it is not read at all.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from galerly_cdn.errors import NoSuchOriginal, OriginalExists, StoreRefused, StoreUnreachable, Unsettled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

    from galerly_cdn.config import Settings

MD5 = "md5"
"""The name of the metadata that holds an original's or a rendition's MD5, in hex."""


def connect(address: str, settings: Settings) -> ObjectStore:
    """The store at `s3://bucket/prefix`; credentials are found as its vendor's tools find them.

    Raises `SettingsError` for what is no address of a store.
    """
    options: dict[str, Any] = {}
    if settings.store_endpoint and address.startswith("s3://"):
        options["endpoint"] = settings.store_endpoint
    return from_url(
        address,
        client_options={
            "allow_http": True,
            "connect_timeout": "3s",
            "timeout": f"{settings.store_deadline_s}s",
        },
        **options,
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """A remote store's errors as ours.

    `NoSuchOriginal`, `OriginalExists`, `StoreRefused`, `StoreUnreachable`; `Unsettled` for another version.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchOriginal(_first_line(error)) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreRefused(_first_line(error)) from error
    except AlreadyExistsError as error:
        raise OriginalExists(_first_line(error)) from error
    except PreconditionError as error:
        raise Unsettled(_first_line(error)) from error
    except (BaseError, OSError, ValueError) as error:
        raise StoreUnreachable(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    """obstore tells the request's whole inside below it."""
    return (str(error).splitlines() or [type(error).__name__])[0]
