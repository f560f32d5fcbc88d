"""What a gallery's developer puts into a page: `src`, `srcset`, `sizes`, width and height, downloads.

    links = Links("https://cdn.example.com")
    links.src("wedding/first dance.jpg", "thumbnail")
    links.srcset("wedding/first dance.jpg", 6000, 4000)

Everything comes from the allow-list, so a page can only ask for what is answered. Width and height
are those of the upright original. Nothing of the server is imported.

    signer = Signer(key_id, private_pem)  # of galerly_cdn.signing
    private = Links("https://cdn.example.com", signer=signer)
    private.src("clients/smith/1.jpg", "small", expires_s=1_800_000_000)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.config import Settings
from galerly_cdn.errors import FormatNotAllowed
from galerly_cdn.model import Format, Target
from galerly_cdn.sizes import allow_list
from galerly_cdn.url import AllowList, checked_key, format_original, format_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.signing import Signer


class Links:
    """Addresses of pictures below `base_url` (empty: addresses relative to the host).

    `sizes` are lines of the allow-list, as in the settings; the default allow-list if left out.
    With a `signer`, an address is signed where `expires_s` (seconds of the epoch) is given.
    """

    def __init__(
        self, base_url: str = "", sizes: Iterable[str] | None = None, signer: Signer | None = None
    ) -> None:
        if signer is not None and not base_url:
            raise ValueError("a signature is for a scheme and host: base_url is missing")
        lines = Settings().sizes if sizes is None else sizes
        self._base_url = base_url.rstrip("/")
        self._signer = signer
        self.allowed = AllowList(allow_list(lines))

    def src(
        self, key: str, size: str, image_format: Format | None = None, expires_s: int | None = None
    ) -> str:
        """The address of one picture; without a format, `Accept` chooses.

        `size` is `800x600` or a size's name. Raises `SizeNotAllowed`, `FormatNotAllowed`,
        `MalformedKey`.
        """
        segment = f"{size}.{image_format}" if image_format else size
        _, target = self.allowed.find(segment.encode())
        return self._address(format_path(target, checked_key(key)), expires_s)

    def original(self, key: str, expires_s: int | None = None) -> str:
        """The address that downloads the original; unless told otherwise, a server wants it signed.

        Raises `MalformedKey`.
        """
        return self._address(format_original(checked_key(key)), expires_s)

    def _address(self, path: str, expires_s: int | None) -> str:
        address = self._base_url + path
        if expires_s is None:
            return address
        if self._signer is None:
            raise ValueError("expires_s needs a signer")
        # In a signed address `*` would be a wildcard.
        return self._signer.url(address.replace("*", "%2A"), expires_s=expires_s)

    def dimensions(self, width_px: int, height_px: int, size: str) -> tuple[int, int]:
        """Width and height in pixels of an upright original's rendition at a size."""
        return self.allowed.rule(size).size.fit(width_px, height_px)

    def srcset(
        self,
        key: str,
        width_px: int,
        height_px: int,
        image_format: Format | None = None,
        expires_s: int | None = None,
    ) -> str:
        """One candidate for every width the allow-list can give this original, narrowest first.

        An original smaller than several sizes is listed once: none of them enlarges it. Sizes that
        do not offer the format are left out. Raises `FormatNotAllowed` if none does, `MalformedKey`.
        """
        candidates: dict[int, str] = {}
        offering = [one for one in self.allowed.rules if image_format in {None, *one.qualities}]
        if not offering:
            raise FormatNotAllowed
        for rule in sorted(offering, key=lambda one: one.size):
            width = rule.size.fit(width_px, height_px)[0]
            path = format_path(Target(rule.size, image_format), checked_key(key))
            address = self._address(path, expires_s)
            if address.endswith(","):  # HTML would read a candidate's end into it
                address = address[:-1] + "%2C"
            candidates.setdefault(width, f"{address} {width}w")
        return ", ".join(candidates[width] for width in sorted(candidates))

    def sizes(self, width_px: int, height_px: int, size: str) -> str:
        """An `<img sizes>` for a picture as wide as the window, up to its rendition's width."""
        width, _ = self.dimensions(width_px, height_px, size)
        return f"(max-width: {width}px) 100vw, {width}px"
