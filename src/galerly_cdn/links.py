"""Builds the addresses and HTML for pages: `src`, `srcset`, `sizes`, whole `<picture>` elements, downloads.

    links = Links("https://cdn.example.com")
    links.src("wedding/first dance.jpg", "thumbnail")
    links.srcset("wedding/first dance.jpg", 6000, 4000)
    links.picture("wedding/first dance.jpg", 6000, 4000, "thumbnail", alt="The first dance")

Every address follows from the allow-list, so the CDN can answer it. Width and height are those of the
upright original, in pixels. This module imports no part of the server.

    signer = Signer(key_id, private_pem)  # of galerly_cdn.access.signing
    private = Links("https://cdn.example.com", signer=signer)
    private.src("clients/smith/1.jpg", "small", expires_s=1_800_000_000)

Browsers cache a picture for a year. After replacing a photograph, pass a new `version` (a count, a date, or
the version in the upload's response): `?v=…` is a new address for browsers. The CDN ignores the query.
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
    """A `<source>` element: one format at every width."""

    type: str
    srcset: str


class Picture(Value, frozen=True, kw_only=True):
    """The parts of a `<picture>` element, not escaped; `str()` returns the element's HTML.

    Templates with automatic escaping insert it without escaping it again (`__html__`). Width and height are
    those of the requested size, so that the browser reserves the space before the picture loads.
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
            f"<source{_attributes(type=source.type, srcset=source.srcset, sizes=self.sizes)}>"
            for source in self.sources
        )
        return f"<picture>{sources}{self.image()}</picture>"

    def image(self) -> str:
        """The `<img>` element alone: the browser's `Accept` header decides the format."""
        attributes = _attributes(
            src=self.src,
            srcset=self.srcset,
            sizes=self.sizes,
            width=self.width_px,
            height=self.height_px,
            alt=self.alt,
            loading=self.loading,
            decoding=self.decoding,
        )
        return f"<img{attributes}>"

    def __html__(self) -> str:
        return str(self)


class Links:
    """Builds addresses of pictures under `base_url`; if it is empty, addresses without scheme and host.

    `sizes` are lines of the allow-list, as in the settings; by default the default allow-list. With a
    `signer` and `expires_s` (seconds of the epoch), an address is signed with CloudFront's canned policy,
    which includes the query `?v=`. Raises `ValueError` for a signer without a base URL, and each method for a
    signer without an expiry: the address would be refused.
    """

    def __init__(
        self, base_url: str = "", sizes: Iterable[str] | None = None, signer: Signer | None = None
    ) -> None:
        if signer is not None and not base_url:
            raise ValueError("a signed address needs a scheme and host: pass base_url")
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
        """The address of one picture. Without a format, the browser's `Accept` header decides.

        `size` is `800x600` or the name of a size. Raises `SizeNotAllowed`, `FormatNotAllowed`,
        `MalformedKey`.
        """
        segment = f"{size}.{image_format}" if image_format else size
        _, target = self.allowed.find(segment.encode())
        return self._address(format_path(target, checked_key(key)), expires_s, version)

    def original(self, key: str, expires_s: int | None = None, *, version: str = "") -> str:
        """The address that downloads the original. By default, a server requires it to be signed.

        Raises `MalformedKey`.
        """
        return self._address(format_original(checked_key(key)), expires_s, version)

    def dimensions(self, width_px: int, height_px: int, size: str) -> tuple[int, int]:
        """Width and height in pixels of the rendition of an upright original at a size.

        Raises `SizeNotAllowed`.
        """
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
        """One candidate for every width that the allow-list gives this original, in ascending order.

        Renditions are never enlarged, so sizes that give the same width are listed once. Sizes that do not
        offer the format are omitted. Raises `FormatNotAllowed` if no size offers it, and `MalformedKey`.
        """
        candidates: dict[int, str] = {}
        rules = [rule for rule in self.allowed.rules if image_format in {None, *rule.qualities}]
        if not rules:
            raise FormatNotAllowed
        for rule in sorted(rules, key=lambda rule: rule.size):
            width = rule.size.fit(width_px, height_px)[0]
            if width in candidates:
                continue
            path = format_path(Target(rule.size, image_format), checked_key(key))
            address = self._address(path, expires_s, version)
            if address.endswith(","):  # HTML parses a comma at the end of a URL as the end of the candidate
                address = address[:-1] + "%2C"
            candidates[width] = f"{address} {width}w"
        return ", ".join(candidates[width] for width in sorted(candidates))

    def sizes(self, width_px: int, height_px: int, size: str) -> str:
        """A `sizes` attribute for a picture as wide as the window, at most as wide as its rendition."""
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
        """A `<picture>` shown at `size`, with a `<source>` for AVIF and WebP if the widest size offers it.

        A browser uses the first `<source>` that it supports, even if another one has wider pictures: HTML,
        "update the source set". A format that only smaller sizes offer would be enlarged.
        The sources' addresses contain the format, so a CDN that ignores `Vary` serves them correctly too. The
        `<img>` is for other browsers: they get the original's own format. `sizes` is the layout width (in
        CSS), by default the result of the method `sizes`. Raises as `src` does.
        """
        widest_px = self._widest_px(width_px, height_px, None)
        sources = tuple(
            Source(one.media_type, self.srcset(key, width_px, height_px, one, expires_s, version=version))
            for one in PREFERENCE
            if self._widest_px(width_px, height_px, one) == widest_px
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

    def _widest_px(self, width_px: int, height_px: int, image_format: Format | None) -> int:
        """Return the width of the widest rendition of an original; 0 if no size offers the format."""
        rules = (rule for rule in self.allowed.rules if image_format in {None, *rule.qualities})
        return max((rule.size.fit(width_px, height_px)[0] for rule in rules), default=0)

    def _address(self, path: str, expires_s: int | None, version: str) -> str:
        query = f"?v={quote(version, safe='')}" if version else ""
        address = self._base_url + path + query
        if expires_s is None:
            if self._signer is not None:
                raise ValueError(
                    "a signed address needs its expiry: pass expires_s, or use Links without signer"
                )
            return address
        if self._signer is None:
            raise ValueError("expires_s needs a signer: pass signer to Links")
        # In a policy's resource, `*` is a wildcard.
        return self._signer.url(address.replace("*", "%2A"), expires_s=expires_s)


def _attributes(**values: str | int) -> str:
    """HTML attributes, with quoted and escaped values."""
    return "".join(f' {name}="{escape(str(value))}"' for name, value in values.items())
