"""What a gallery's developer puts into a page: `src`, `srcset`, `sizes`, a whole `<picture>`, downloads.

    links = Links("https://cdn.example.com")
    links.src("wedding/first dance.jpg", "thumbnail")
    links.srcset("wedding/first dance.jpg", 6000, 4000)
    links.picture("wedding/first dance.jpg", 6000, 4000, "thumbnail", alt="The first dance")

Everything comes from the allow-list, so a page can only ask for what is answered. Width and height
are those of the upright original. Nothing of the server is imported.

    signer = Signer(key_id, private_pem)  # of galerly_cdn.access.signing
    private = Links("https://cdn.example.com", signer=signer)
    private.src("clients/smith/1.jpg", "small", expires_s=1_800_000_000)

A browser keeps a picture for a year. Of a photograph that was replaced, say which `version` it is now (a
count, a date, the version its upload answered): `?v=…` is a new address for every browser, and the same
one for the CDN, which reads no query.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from galerly_cdn.errors import FormatNotAllowed
from galerly_cdn.http.urls import AllowList, checked_key, format_original, format_path
from galerly_cdn.model import PREFERENCE, Format, Target
from galerly_cdn.serialization import Value
from galerly_cdn.settings.sizes import parse_sizes
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.access.signing import Signer

Loading = Literal["lazy", "eager"]
Decoding = Literal["async", "sync", "auto"]


class Source(Value, frozen=True):
    """A `<source>`: one format at every width."""

    type: str
    srcset: str


class Picture(Value, frozen=True, kw_only=True):
    """A `<picture>` in its parts, unescaped; `str` of it is the element.

    Templates that escape take it as it is (`__html__`). Width and height are those of the size it was asked
    at, so that the page keeps its place before it loads.
    """

    sources: tuple[Source, ...]
    src: str
    srcset: str
    sizes: str
    width_px: int
    height_px: int
    alt: str
    loading: Loading
    decoding: Decoding

    def __str__(self) -> str:
        sources = "".join(
            f"<source{_attributes(type=one.type, srcset=one.srcset, sizes=self.sizes)}>"
            for one in self.sources
        )
        image = _attributes(
            src=self.src,
            srcset=self.srcset,
            sizes=self.sizes,
            width=self.width_px,
            height=self.height_px,
            alt=self.alt,
            loading=self.loading,
            decoding=self.decoding,
        )
        return f"<picture>{sources}<img{image}></picture>"

    def __html__(self) -> str:
        return str(self)


class Links:
    """Addresses of pictures below `base_url` (empty: addresses relative to the host).

    `sizes` are lines of the allow-list, as in the settings; the default allow-list if left out.
    With a `signer`, an address is signed where `expires_s` (seconds of the epoch) is given; CloudFront's
    canned policy, which names the address with its `?v=`.
    """

    def __init__(
        self, base_url: str = "", sizes: Iterable[str] | None = None, signer: Signer | None = None
    ) -> None:
        if signer is not None and not base_url:
            raise ValueError("a signature is for a scheme and host: base_url is missing")
        lines = Settings().sizes if sizes is None else sizes
        self._base_url = base_url.rstrip("/")
        self._signer = signer
        self.allowed = AllowList(parse_sizes(lines))

    def src(
        self,
        key: str,
        size: str,
        image_format: Format | None = None,
        expires_s: int | None = None,
        *,
        version: str = "",
    ) -> str:
        """The address of one picture; without a format, `Accept` chooses.

        `size` is `800x600` or a size's name. Raises `SizeNotAllowed`, `FormatNotAllowed`,
        `MalformedKey`.
        """
        segment = f"{size}.{image_format}" if image_format else size
        _, target = self.allowed.find(segment.encode())
        return self._address(format_path(target, checked_key(key)), expires_s, version)

    def original(self, key: str, expires_s: int | None = None, *, version: str = "") -> str:
        """The address that downloads the original; unless told otherwise, a server wants it signed.

        Raises `MalformedKey`.
        """
        return self._address(format_original(checked_key(key)), expires_s, version)

    def dimensions(self, width_px: int, height_px: int, size: str) -> tuple[int, int]:
        """Width and height in pixels of an upright original's rendition at a size."""
        return self.allowed.rule(size).size.fit(width_px, height_px)

    def srcset(  # noqa: PLR0913 - its options
        self,
        key: str,
        width_px: int,
        height_px: int,
        image_format: Format | None = None,
        expires_s: int | None = None,
        *,
        version: str = "",
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
            if width in candidates:
                continue
            path = format_path(Target(rule.size, image_format), checked_key(key))
            address = self._address(path, expires_s, version)
            if address.endswith(","):  # HTML would read a candidate's end into it
                address = address[:-1] + "%2C"
            candidates[width] = f"{address} {width}w"
        return ", ".join(candidates[width] for width in sorted(candidates))

    def sizes(self, width_px: int, height_px: int, size: str) -> str:
        """An `<img sizes>` for a picture as wide as the window, up to its rendition's width."""
        width, _ = self.dimensions(width_px, height_px, size)
        return f"(max-width: {width}px) 100vw, {width}px"

    def picture(  # noqa: PLR0913 - its options
        self,
        key: str,
        width_px: int,
        height_px: int,
        size: str,
        *,
        alt: str,
        sizes: str = "",
        loading: Loading = "lazy",
        decoding: Decoding = "async",
        expires_s: int | None = None,
        version: str = "",
    ) -> Picture:
        """A `<picture>` shown as large as `size`: AVIF and WebP where offered, else the `<img>`.

        Formats are part of the addresses, so it is right behind a CDN that ignores `Vary` too. The `<img>` is
        for a browser that takes neither, whose `Accept` then chooses the original's own format. `sizes`
        says how wide the page shows it (CSS); as the method of that name, if left out. Raises as `src` does.
        """
        sources = tuple(
            Source(one.media_type, self.srcset(key, width_px, height_px, one, expires_s, version=version))
            for one in PREFERENCE  # a browser takes the first `<source>` that it can show
            if any(one in rule.qualities for rule in self.allowed.rules)
        )
        width, height = self.dimensions(width_px, height_px, size)
        return Picture(
            sources=sources,
            src=self.src(key, size, None, expires_s, version=version),
            srcset=self.srcset(key, width_px, height_px, None, expires_s, version=version),
            sizes=sizes or self.sizes(width_px, height_px, size),
            width_px=width,
            height_px=height,
            alt=alt,
            loading=loading,
            decoding=decoding,
        )

    def _address(self, path: str, expires_s: int | None, version: str) -> str:
        query = f"?v={quote(version, safe='')}" if version else ""
        address = self._base_url + path + query
        if expires_s is None:
            return address
        if self._signer is None:
            raise ValueError("expires_s needs a signer")
        # In a signed address `*` would be a wildcard.
        return self._signer.url(address.replace("*", "%2A"), expires_s=expires_s)


def _attributes(**values: str | int) -> str:
    """HTML attributes, quoted: what is in a value cannot end it."""
    return "".join(f' {name}="{escape(str(value))}"' for name, value in values.items())
