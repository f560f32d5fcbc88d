"""The nouns: sizes, formats, targets, originals, renditions and render jobs, as frozen values."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Literal

from galerly_cdn.serialization import Value
from galerly_cdn.stored_keys import stored_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Learn = Callable[["Facts"], None]
    """Receives the facts of an original when a renderer has read its header."""


class Format(enum.StrEnum):
    """The encoding of a rendition."""

    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"
    PNG = "png"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"

    @property
    def extension(self) -> str:
        return "jpg" if self is Format.JPEG else self.value

    @property
    def has_quality(self) -> bool:
        """Whether its encoder is lossy, with a quality of 1 to 100.

        The match has no default, so that the type checker names it when a format is added.
        """
        match self:
            case Format.PNG:
                return False
            case Format.JPEG | Format.WEBP | Format.AVIF:
                return True


PREFERENCE = (Format.AVIF, Format.WEBP)
"""The formats that an `Accept` header may choose instead of the original's own, the preferred one first."""


OWN_FORMATS = (Format.JPEG, Format.PNG)
"""The formats of renditions whose request names none."""


def own_format(*, has_alpha: bool) -> Format:
    """The format of an original's renditions if the request names none."""
    return Format.PNG if has_alpha else Format.JPEG


class Size(Value, frozen=True, order=True, cache_hash=True):
    """A box in pixels, width × height; a rendition fits inside it."""

    width_px: int
    height_px: int

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"

    def fit(self, width_px: int, height_px: int) -> tuple[int, int]:
        """The width and height, in pixels, of an upright original of this size inside the box.

        The aspect ratio is kept, nothing is enlarged, sides are rounded to nearest (halves up) and at least
        1 px. Integer arithmetic, so that every language and every code path computes the same.
        """
        if width_px <= self.width_px and height_px <= self.height_px:
            return width_px, height_px
        if width_px * self.height_px >= height_px * self.width_px:
            scaled = (2 * height_px * self.width_px + width_px) // (2 * width_px)
            return self.width_px, max(1, scaled)
        scaled = (2 * width_px * self.height_px + height_px) // (2 * height_px)
        return max(1, scaled), self.height_px


class Target(Value, frozen=True, order=True, cache_hash=True):
    """What a request asks of the renderer: a size and a format; None is the original's own format."""

    size: Size
    format: Format | None = None

    def __str__(self) -> str:
        return f"{self.size}.{self.format}" if self.format else f"{self.size}"

    def rendition_key(self, key: str) -> str:
        """The rendition's name in the store, `resized/` excluded: `800x600.webp/gallery/a.jpg`."""
        return f"{self}/{stored_key(key)}"


_TARGET = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})(?:\.([a-z]+))?")


def parse_target(text: str) -> Target | None:
    """The inverse of a target's `str`, of any size; None for another text."""
    found = _TARGET.fullmatch(text)
    if found is None or not (found[3] is None or found[3] in set(Format)):
        return None
    return Target(Size(int(found[1]), int(found[2])), Format(found[3]) if found[3] else None)


class SizeRule(Value, frozen=True):
    """A line of the allow-list: a size, its name, and the quality of every format that it offers."""

    size: Size
    name: str | None
    qualities: dict[Format, int]

    @property
    def negotiable(self) -> tuple[Format, ...]:
        """The formats an `Accept` header may choose."""
        return tuple(one for one in PREFERENCE if one in self.qualities)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets of URLs that name no format."""
        return tuple(Target(self.size, form) for form in (None, *self.negotiable))

    @property
    def all_targets(self) -> tuple[Target, ...]:
        """The targets of all URLs, also of those that name a format."""
        return tuple(Target(self.size, form) for form in (None, *self.qualities))


class Head(Value, frozen=True):
    """An original's metadata from its store, without its bytes."""

    version: str
    length_bytes: int
    stale_s: float = 0.0
    """The age of this metadata, while the store cannot be reached; else 0."""

    def token(self, key: str) -> str:
        """Identifies the original and this version of it; the renderer's quarantine is by token."""
        return f"{self.version} {key}"


class Listed(Value, frozen=True):
    """An original in a listing; `modified_s` is in seconds of the epoch."""

    key: str
    length_bytes: int
    modified_s: float


class Record(Value, frozen=True):
    """A rendition's metadata and what it was made from; stored beside its bytes.

    `md5` (hex, of the body) is also the ETag, as S3 computes it. `lost` names what the original had and the
    rendition has not, in the words of `render.losses`.
    """

    key: str
    target: Target
    version: str
    recipe: str
    format: Format
    width_px: int
    height_px: int
    length_bytes: int
    md5: str
    lost: tuple[str, ...] = ()

    @property
    def named_target(self) -> Target:
        """The target that names the rendition's size and format: its recipe is listed under it."""
        return Target(self.target.size, self.format)

    def is_current(self, version: str, recipe: str) -> bool:
        """Whether the rendition was made from this version of the original by this recipe."""
        return self.version == version and self.recipe == recipe


IMMUTABLE = "public, max-age=31536000, immutable"
"""`Cache-Control` of a rendition, answered by the edge or by a store that CloudFront reads directly."""


class Rendition(Value, frozen=True):
    """A record and the encoded bytes of its picture."""

    record: Record
    body: bytes


class Forgotten(Value, frozen=True):
    """What a node has removed from its memory of a photograph, and the version that the store has now."""

    key: str
    removed: tuple[str, ...]
    version: str
    """Empty if there is no such original."""


class Refreshed(Value, frozen=True, kw_only=True):
    """What a front or a node has dropped of a changed photograph."""

    kind: Literal["front", "node"]
    address: str
    dropped: tuple[str, ...] = ()
    """Of a front's cache, or a node's memory: `800x600.webp` and the like; `all` if it does not tell."""
    found: str = ""
    """Of a node: the version that it has now, or `absent`. Of a front: status and ETag of its next answer for
    the first picture that it had used without asking a node, or empty if there was none."""
    problem: str = ""
    """Why it was not refreshed, or not wholly; it shows the change within the usual time. Else empty."""


class Limits(Value, frozen=True):
    """Limits of an original, checked from its header before any pixel is decoded."""

    max_pixels: int
    max_frames: int
    max_coefficient_bytes: int


class Picture(Value, frozen=True):
    """One picture of a job: its target, and the quality of every format that it may be encoded in."""

    target: Target
    qualities: dict[Format, int]


class Job(Value, frozen=True):
    """What to render of one original: at least one picture, and each target at most once."""

    pictures: tuple[Picture, ...]
    limits: Limits
    keep_copyright: bool = False

    def of(self, pictures: Iterable[Picture]) -> Job:
        """The same job for other pictures."""
        return Job(tuple(pictures), self.limits, self.keep_copyright)


class Rendered(Value, frozen=True):
    """The renderer's description of a picture that it has made; the bytes are passed beside it."""

    target: Target
    format: Format
    width_px: int
    height_px: int
    length_bytes: int
    md5: str
    lost: tuple[str, ...] = ()


class Facts(Value, frozen=True):
    """The facts of an original's header; width and height are those of the upright picture."""

    format: str
    width_px: int
    height_px: int
    orientation: int
    frames: int
    bits: int
    bands: int
    has_alpha: bool
    is_progressive: bool
    profile: str | None
    metadata: tuple[str, ...]
    loses: tuple[str, ...]
    """What every rendition of it loses, in the words of `Record.lost`."""
    decode_bytes: int
    """Estimated memory to decode it; the renderer's memory budget counts it."""
    coefficient_bytes: int
    """Of them, the memory of a progressive JPEG's coefficients, which has a limit of its own."""


class Refusal(Value, frozen=True):
    """Why an original cannot be rendered: the code of an `errors.Unrenderable`, its sentence and its detail.

    `detail` is for the log alone.
    """

    code: str
    public: str
    detail: str


def ignore_facts(_facts: Facts) -> None:
    """The `Learn` of a caller that needs no facts."""


class FactRecord(Value, frozen=True):
    """What is known about one version of an original; stored beside its renditions.

    `facts` is None if the header cannot be read. `is_good`: the pixels were decoded, and no damage was found.
    With neither `is_good` nor a `refusal`, only the header has been read. `revision` identifies what made the
    record (`render.recipe`). A record of another version or revision is made anew, and so is one that lacks
    a field of the present release: a new field of `Facts` needs no default.
    """

    key: str
    version: str
    revision: str
    facts: Facts | None
    is_good: bool = False
    refusal: Refusal | None = None

    @property
    def is_decided(self) -> bool:
        """Whether the pixels have been decoded, or a refusal makes that needless."""
        return self.is_good or self.refusal is not None


def facts_key(key: str) -> str:
    """The name of an original's record in the store of renditions: `facts/gallery/a.jpg`.

    No URL leads to it: the first segment of every rendition's name is a size (decision 0020).
    """
    return f"facts/{stored_key(key)}"


class RecipeEntry(Value, frozen=True, forbid_unknown_fields=False):
    """An entry of the store's list of recipes: those that are current from this number on.

    `recipes` holds digests by target, such as `800x600.webp`. Names are strings, and unknown fields are
    ignored, because another release may have written them. `at_s` is in seconds since the epoch.
    """

    number: int
    recipes: dict[str, str]
    release: str = ""
    at_s: float = 0.0
