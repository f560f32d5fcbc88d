"""Tests uploads into a whole CDN over a folder, with real workers, composed as `serve --store` does."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from PIL import Image

from galerly_cdn.app.server import Cdn, compose
from galerly_cdn.errors import (
    GalerlyError,
    ReadOnlyStore,
    SettingsError,
    TooManyFrames,
    TooManyPixels,
    Undecodable,
    Unrenderable,
    UnsupportedFormat,
    UploadTooLarge,
)
from galerly_cdn.settings import locations
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.folder_library import ask, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from galerly_cdn.library import Accepted, StoreLibrary

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def running(store: Path, **settings: object) -> AsyncIterator[Cdn]:
    changed = Settings(store=str(store), workers=1, access_log=False, **settings)  # type: ignore[arg-type]  # any setting
    async with compose(changed, locations.resolve_locations(changed, None)) as cdn:
        yield cdn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Cdn, Path]]:
    store = tmp_path_factory.mktemp("store")
    async with running(store, max_megapixels=2, max_frames=4, max_original_bytes=2_000_000) as cdn:
        yield cdn, store


def archive_of(cdn: Cdn) -> StoreLibrary:
    assert cdn.library is not None
    return cdn.library


async def upload(cdn: Cdn, key: str, content: bytes, *, replaces: bool = False) -> Accepted:
    chunks = (content[at : at + 65_536] for at in range(0, len(content), 65_536))
    return await archive_of(cdn).upload(key, stream(chunks), replaces=replaces)


ACCEPTED = {
    "jpeg": pictures.jpeg(),
    "sideways": pictures.jpeg(orientation=6),
    "progressive": pictures.jpeg(progressive=True),
    "cmyk": pictures.cmyk_jpeg(),
    "png": pictures.png(),
    "webp": pictures.webp(),
    "avif": pictures.avif(),
    "gif": pictures.gif(),
    "animation": pictures.gif(frames=3),
    "tiff": pictures.tiff(),
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_accepted_upload_is_served(shared: tuple[Cdn, Path], name: str) -> None:
    cdn, store = shared
    key = f"accepted/{name}"
    accepted = await upload(cdn, key, ACCEPTED[name])
    assert accepted.outcome == "created"
    assert (store / "originals" / key).read_bytes() == ACCEPTED[name]
    answer = await ask(cdn, f"/resize/tiny/{key}")
    assert answer.status == 200
    assert (accepted.width_px, accepted.height_px) in {(600, 400), (60, 40)}  # upright
    assert Image.open(io.BytesIO(answer.body)).size in {(150, 100), (60, 40)}


REFUSED: dict[str, tuple[bytes, type[GalerlyError]]] = {
    **{name: (content, UnsupportedFormat) for name, content in pictures.disguises().items() if content},
    **{
        f"truncated {name}": (pictures.truncated(content), Undecodable)
        for name, content in ACCEPTED.items()
        if name != "animation"
    },
    "a valid header, then nothing": (pictures.jpeg()[:1000], Undecodable),
    "a valid header, then noise": (pictures.jpeg()[:3000] + bytes(range(256)) * 100, Undecodable),
    "too many pixels": (pictures.jpeg(2000, 1001), TooManyPixels),
    "a header of too many pixels": (pictures.huge_header_png(), TooManyPixels),
    "too many frames": (pictures.gif(frames=5), TooManyFrames),
    "adam7": (pictures.adam7_png(), Undecodable),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_upload_that_cannot_be_rendered_is_refused_with_its_reason(
    shared: tuple[Cdn, Path], name: str
) -> None:
    cdn, store = shared
    content, reason = REFUSED[name]
    with pytest.raises(reason) as caught:
        await upload(cdn, f"refused/{name}", content)
    assert caught.value.status == 415
    assert isinstance(caught.value, Unrenderable)
    assert not (store / "originals" / "refused").exists()
    assert list((store / "originals" / ".galerly").iterdir()) == []
    assert (await archive_of(cdn).list("refused/")).originals == ()
    assert (await ask(cdn, "/resize/tiny/refused/" + name.replace(" ", "%20"))).status == 404


async def test_upload_above_the_limit_is_refused_while_it_is_received(
    shared: tuple[Cdn, Path],
) -> None:
    cdn, _ = shared
    with pytest.raises(UploadTooLarge):
        await upload(cdn, "large/a.jpg", pictures.jpeg() + bytes(2_000_000))
    assert (await archive_of(cdn).list("large/")).originals == ()


async def test_replaced_original_is_never_served_again(shared: tuple[Cdn, Path]) -> None:
    """Neither from memory nor from the store, also while it is being rendered."""
    cdn, _ = shared
    key = "replaced/a.jpg"
    await upload(cdn, key, solid("blue"))
    for color in ["red", "blue"] * 10:
        in_progress = [asyncio.create_task(ask(cdn, f"/resize/{size}/{key}")) for size in ("tiny", "small")]
        accepted = await upload(cdn, key, solid(color), replaces=True)
        assert accepted.outcome == "replaced"
        for size in ("tiny", "small"):
            answer = await ask(cdn, f"/resize/{size}/{key}")
            assert (answer.status, color_of(answer.body)) == (200, color)
        await asyncio.gather(*in_progress)
        inspection = await archive_of(cdn).inspect(key)
        assert inspection.version == accepted.version
        assert all(one.is_current for one in inspection.renditions)


async def test_deleted_original_is_neither_served_nor_stored(shared: tuple[Cdn, Path]) -> None:
    cdn, store = shared
    key = "deleted/a.jpg"
    await upload(cdn, key, solid("red"))
    before = set(renditions(store))
    for size in ("tiny", "small"):
        assert (await ask(cdn, f"/resize/{size}/{key}")).status == 200
    await cdn.filler.drain()  # a viewer does not wait until a rendition is written
    assert len(set(renditions(store)) - before) == 2
    deleted = await archive_of(cdn).delete(key)
    assert (deleted.existed, deleted.removed) == (True, ("150x150", "400x400"))
    assert set(renditions(store)) == before
    assert (await ask(cdn, f"/resize/tiny/{key}")).status == 404


async def test_purged_picture_is_rendered_again(shared: tuple[Cdn, Path]) -> None:
    cdn, _ = shared
    key = "purged/a.jpg"
    await upload(cdn, key, solid("red"))
    first = await ask(cdn, f"/resize/tiny/{key}")
    assert (await archive_of(cdn).purge(key)).removed == ("150x150",)
    renders = cdn.telemetry.counters.snapshot()["render"]
    assert (await ask(cdn, f"/resize/tiny/{key}")).body == first.body
    assert cdn.telemetry.counters.snapshot()["render"] == renders + 1


def solid(color: str) -> bytes:
    """A small JPEG of one colour. The files of red and blue have the same length."""
    return pictures.saved(Image.new("RGB", (300, 200), color), "JPEG", quality=90)


def color_of(body: bytes) -> str:
    seen = Image.open(io.BytesIO(body)).convert("RGB").getpixel((70, 50))
    assert isinstance(seen, tuple)
    red, _, blue = seen
    return "red" if red > blue else "blue"


def renditions(store: Path) -> list[Path]:
    return [
        path
        for path in (store / "resized").glob("??/*")
        if path.read_bytes().startswith(b"galerly-rendition")
    ]


# writable and read-only folders


async def test_missing_store_folder_is_created(tmp_path: Path) -> None:
    async with running(tmp_path / "new" / "store") as cdn:
        await upload(cdn, "a.jpg", pictures.jpeg())
    assert (tmp_path / "new" / "store" / "originals" / "a.jpg").exists()


@pytest.mark.parametrize("writable", [False, True])
async def test_plain_folder_is_read_only_unless_writable_is_set(tmp_path: Path, *, writable: bool) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    settings = Settings(writable=writable, renditions=str(tmp_path / "r"), workers=1, access_log=False)
    async with compose(settings, locations.resolve_locations(settings, str(photographs))) as cdn:
        assert (photographs / ".galerly").exists() == writable
        if not writable:
            with pytest.raises(ReadOnlyStore):
                await upload(cdn, "a.jpg", pictures.jpeg())
            assert list(photographs.iterdir()) == []
            return
        await upload(cdn, "a.jpg", pictures.jpeg())
        assert (photographs / "a.jpg").read_bytes() == pictures.jpeg()


async def test_missing_writable_folder_is_not_created(tmp_path: Path) -> None:
    settings = Settings(writable=True, renditions=str(tmp_path / "r"), workers=1, access_log=False)
    with pytest.raises(SettingsError, match="cannot read the folder"):
        async with compose(settings, locations.resolve_locations(settings, str(tmp_path / "mistyped"))):
            pass
    assert not (tmp_path / "mistyped").exists()
