"""What the types promise to those who build on them: checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from galerly_cdn.cache import MemoryCache, SingleFlight
from galerly_cdn.errors import GalerlyError, by_code
from galerly_cdn.http import urls
from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.links import Links, Picture
from galerly_cdn.model import Format, Rendition, Size, Target
from galerly_cdn.serialization import from_json
from galerly_cdn.settings import load
from tests.support.in_memory_cdn import CountingRenderer, MemoryOriginals, MemoryRenditions

if TYPE_CHECKING:
    from galerly_cdn.client import Client
    from galerly_cdn.fill import Renderer
    from galerly_cdn.library import Library, StoreLibrary
    from galerly_cdn.store.interfaces import Originals, Renditions


def links() -> None:
    made = Links("https://cdn.example.com", sizes=["thumbnail 800x600 webp=80"])
    assert_type(made.src("gallery/photo.jpg", "thumbnail"), str)
    assert_type(made.src("gallery/photo.jpg", "thumbnail", Format.WEBP), str)
    assert_type(made.srcset("gallery/photo.jpg", 6000, 4000), str)
    assert_type(made.dimensions(6000, 4000, "thumbnail"), tuple[int, int])
    assert_type(made.src("gallery/photo.jpg", "thumbnail", expires_s=1, version="2"), str)
    picture = made.picture("gallery/photo.jpg", 6000, 4000, "thumbnail", alt="")
    assert_type(picture, Picture)
    assert_type([one.srcset for one in picture.sources], list[str])
    assert_type(picture.width_px, int)
    assert_type(picture.image(), str)
    made.src("gallery/photo.jpg", "thumbnail", "webp")  # type: ignore[arg-type]  # a Format, no text
    made.src("gallery/photo.jpg", "thumbnail", version=2)  # type: ignore[arg-type]  # text
    made.picture("gallery/photo.jpg", 6000, 4000, "thumbnail")  # type: ignore[call-arg]  # alt is asked for
    made.picture("k", 1, 1, "thumbnail", alt="", loading="soon")  # type: ignore[arg-type]  # no such word


def values() -> None:
    target = Target(Size(800, 600))
    assert_type(target.format, Format | None)
    assert_type(target.size.fit(6000, 4000), tuple[int, int])
    assert_type(from_json(Target, b""), Target)
    target.size = Size(1, 1)  # type: ignore[misc]  # frozen


def decisions() -> None:
    settings = load.load_settings().settings
    assert_type(settings.sizes, tuple[str, ...])
    assert_type(settings.idle_s, float)
    assert_type(
        urls.parse(b"/", urls.AllowList(settings.size_rules)), urls.PictureRequest | urls.OriginalRequest
    )
    assert_type(negotiate(b"*/*", (Format.WEBP,)), Format | None)
    assert_type(by_code()["internal"], type[GalerlyError])


async def memory() -> None:
    hot: MemoryCache[str, Rendition] = MemoryCache(10, lambda one: len(one.body))
    assert_type(hot.get("a"), Rendition | None)

    async def work() -> bytes:
        return b""

    shared: SingleFlight[str, bytes] = SingleFlight()
    assert_type(await shared.run("a", work), tuple[bytes, bool])


def keepers(archive: StoreLibrary, client: Client) -> tuple[Library, Library]:
    return archive, client


def fakes_are_what_they_stand_for() -> tuple[Originals, Renditions, Renderer]:
    return MemoryOriginals(), MemoryRenditions(), CountingRenderer()
