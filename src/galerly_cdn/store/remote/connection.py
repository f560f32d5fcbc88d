"""Connects to remote stores, and translates errors of obstore, which only this module and `bucket` import."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from typing import TYPE_CHECKING, Any

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from galerly_cdn.errors import (
    GalerlyError,
    NoSuchOriginal,
    OriginalExists,
    SettingsError,
    StoreBusy,
    StoreRefused,
    StoreSlow,
    StoreUnreachable,
    TooManyFiles,
    Unsettled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from galerly_cdn.settings.table import Settings

_BACKOFF_S = 0.1
"""The wait before obstore's first retry; the next ones are longer, at random, up to 2 s."""
_MAX_ERROR_CHARACTERS = 500
_REFUSED = re.compile(r"status code: (?!408|429)[34]\d\d|redirect|BadScheme")
_KINDS: tuple[tuple[re.Pattern[str], type[GalerlyError]], ...] = (
    (re.compile(r"status code: (429|503)|<Code>SlowDown"), StoreBusy),
    (_REFUSED, StoreRefused),
    (re.compile(r"too many open files", re.IGNORECASE), TooManyFiles),
    (re.compile(r"timed out", re.IGNORECASE), StoreSlow),
)
_VARIABLES = {
    "Account must be specified": "AZURE_STORAGE_ACCOUNT_NAME",
    "Invalid Access Key": "AZURE_STORAGE_ACCOUNT_KEY",
    "service account file from": "GOOGLE_SERVICE_ACCOUNT",
    "decode service account file": "GOOGLE_SERVICE_ACCOUNT_KEY",
    "Failed to read token file": "AWS_WEB_IDENTITY_TOKEN_FILE",
}
"""The variable that an error of obstore is about."""


def connect(
    address: str, settings: Settings, client: ClientConfig, *, retries: int = 0, endpoint: str = ""
) -> ObjectStore:
    """A store. `endpoint` is an address of the bucket itself, in place of the settings' endpoint."""
    retry: RetryConfig = {
        "max_retries": retries,
        "retry_timeout": timedelta(settings.store_deadline_s),
        "backoff": {"init_backoff": timedelta(_BACKOFF_S), "max_backoff": timedelta(2), "base": 2},
    }
    options: dict[str, Any] = {}
    if address.startswith("s3://"):
        options["disable_bulk_delete"] = True  # every server knows a plain DELETE, and it is retried
        if settings.store_endpoint:
            options["endpoint"] = settings.store_endpoint
        if endpoint:
            options |= {"endpoint": endpoint, "virtual_hosted_style_request": True}
    try:
        return from_url(address, client_options=client, retry_config=retry, **options)
    except (BaseError, ValueError) as error:
        text = _error_text(error)
        raise SettingsError([f"{variable_of(text) or address}: {text}"]) from error


def variable_of(error: str) -> str:
    """The variable of the environment that an error is about; empty for another one."""
    return next((name for text, name in _VARIABLES.items() if text in error), "")


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Raises galerly-cdn's errors for obstore's; the cause contains the store's whole response."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchOriginal(_error_text(error)) from error
    except AlreadyExistsError as error:
        raise OriginalExists(_error_text(error)) from error
    except PreconditionError as error:
        raise Unsettled(_error_text(error)) from error
    except (PermissionDeniedError, UnauthenticatedError, InvalidPathError) as error:
        raise StoreRefused(_error_text(error)) from error
    except (BaseError, OSError) as error:
        raise _kind_of(str(error))(_error_text(error)) from error
    except Exception as error:
        if type(error).__name__ != "RustPanic":  # obstore exports no name for it
            raise
        raise StoreRefused("a setting of the store has a value that obstore cannot use") from error


def _kind_of(text: str) -> type[GalerlyError]:
    """The error that obstore's words mean."""
    return next((kind for words, kind in _KINDS if words.search(text)), StoreUnreachable)


def timedelta(seconds: float) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)


def _error_text(error: Exception) -> str:
    """obstore's and the store's message on one line, without obstore's dump of its own state below them."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:_MAX_ERROR_CHARACTERS]
