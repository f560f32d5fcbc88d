"""Decides whether a request may have a key's pictures or its original. Pure; the clock is an argument.

The decision is made before the store is asked: a request without a signature cannot find out what exists.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from galerly_cdn.errors import Forbidden, LooksPrivate, MalformedKey, SignatureRequired
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from galerly_cdn.access.signing import Verifier
    from galerly_cdn.http.request import Request

_SEGMENTS = 2
"""Gallery and photograph. A policy's `*` matches `/` too, so deeper keys could match another gallery's."""


class AccessDecision(Value, frozen=True):
    """Whether the key is private, and the error that refuses the request, if one does."""

    is_private: bool
    refusal: MalformedKey | Forbidden | None = None


_PUBLIC = AccessDecision(is_private=False)
_SIGNED = AccessDecision(is_private=True)


def private_folders(prefixes: Iterable[str]) -> tuple[str, ...]:
    """The beginnings of private keys: `clients/` for the prefix `clients`, the empty string for `/`."""
    return tuple("" if one == "/" else f"{one}/" for one in prefixes)


def folded(name: str) -> str:
    """A name without differences of case and of Unicode normalisation: for comparison, never as a key."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class Authorizer:
    """Allows requests for public keys, and signed requests for private ones.

    Without a verifier, every request for a private key is refused. With `signs_originals`, every original is
    private. `now` returns seconds since the epoch.
    """

    def __init__(
        self,
        prefixes: Iterable[str],
        verifier: Verifier | None,
        now: Callable[[], float],
        *,
        signs_originals: bool,
    ) -> None:
        self._folders = private_folders(prefixes)
        self._folded = tuple((one, folded(one)) for one in self._folders)
        self._verifier = verifier
        self._now = now
        self._signs_originals = signs_originals

    def is_public(self, key: str) -> bool:
        """Whether everybody may have the key's pictures."""
        return self._folder(key) is None

    def decide(
        self, key: str, request: Request, *, is_original: bool = False, raw_path: bytes | None = None
    ) -> AccessDecision:
        """The decision on a request for the key's pictures, or for its original.

        `raw_path` is the path that has to be signed, if it is not that of the request.

        The refusal is `MalformedKey` under a private prefix unless exactly two segments follow, or else an
        error of `Verifier.verify`.
        """
        if self.is_public(key) and not (is_original and self._signs_originals):
            return _PUBLIC
        try:
            self.checked(key)
            if self._verifier is None:
                raise SignatureRequired
            self._verifier.verify(
                request.raw_path if raw_path is None else raw_path,
                request.query,
                request.headers.get(b"cookie", b""),
                client=request.client,
                now_s=self._now(),
            )
        except (MalformedKey, Forbidden) as error:
            return AccessDecision(is_private=True, refusal=error)
        return _SIGNED

    def checked(self, key: str) -> str:
        """The key itself. Raises `MalformedKey` for a key that no signature can allow."""
        folder = self._folder(key)
        if folder is not None and key[len(folder) :].count("/") != _SEGMENTS - 1:
            raise MalformedKey
        return key

    def checked_upload(self, key: str) -> str:
        """As `checked`, for a key that is to be stored.

        Raises `LooksPrivate` as well, for a public key whose folder equals a private one after NFC and case
        folding: its owner takes it for private.
        """
        beginning = folded(f"{key}/")
        for folder, folded_folder in self._folded:
            if beginning.startswith(folded_folder) and not key.startswith(folder):
                raise LooksPrivate(f"the private folder is {folder!a}")
        return self.checked(key)

    def _folder(self, key: str) -> str | None:
        """The private folder that holds the key, or None."""
        return next((one for one in self._folders if f"{key}/".startswith(one)), None)
