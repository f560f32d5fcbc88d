"""Which keys are private, and may this visit have one? Pure, but for the clock it is handed.

Asked before the store, on every answer: whoever has no signature cannot tell what exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.errors import MalformedKey, SignatureRequired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from galerly_cdn.access.signing import Verifier
    from galerly_cdn.http.exchange import Exchange

_SEGMENTS = 2
"""Gallery and photograph: a policy's `*` crosses `/`, so deeper keys could pass for another gallery's."""


def private_folders(prefixes: Iterable[str]) -> tuple[str, ...]:
    """What private keys begin with: `clients` is `clients/`, `/` is everything."""
    return tuple("" if one == "/" else f"{one}/" for one in prefixes)


class Authorizer:
    """Lets pass what is public, and what is signed.

    Without a verifier nobody has a key, and nothing private is for anybody. `signs_originals`: originals
    are private wherever they are. `now` is the wall clock in seconds.
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
        self._verifier = verifier
        self._now = now
        self._signs_originals = signs_originals

    def admit(self, key: str, visit: Exchange, *, is_original: bool = False) -> None:
        """Return if the visit may have the key's pictures, or its original; marked as private where it is.

        Raises `MalformedKey` under a private prefix unless exactly two segments follow, and as
        `Verifier.verify` does.
        """
        if self._folder(key) is None and not (is_original and self._signs_originals):
            return
        visit.is_private = True
        self.checked(key)
        if self._verifier is None:
            raise SignatureRequired
        self._verifier.verify(
            visit.raw_path,
            visit.query,
            visit.headers.get(b"cookie", b""),
            client=visit.client,
            now_s=self._now(),
        )

    def checked(self, key: str) -> str:
        """`key` itself, unless nobody could ever be let have it. Raises `MalformedKey`."""
        folder = self._folder(key)
        if folder is not None and key[len(folder) :].count("/") != _SEGMENTS - 1:
            raise MalformedKey
        return key

    def _folder(self, key: str) -> str | None:
        """The private folder that it lies in."""
        return next((one for one in self._folders if f"{key}/".startswith(one)), None)
