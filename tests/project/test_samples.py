"""Tests of the sample gallery: the pictures' properties, interrupted and repeated runs."""

from pathlib import Path

import pytest
from pyvips import Image, Operation

from samples import SAMPLES, Sample, gallery, make

_MEGAPIXELS = 0.3
_QUICK = "portraits/red-satin.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gallery")
    make(out, _MEGAPIXELS)
    return out


@pytest.fixture(params=SAMPLES, ids=lambda sample: sample.name)
def sample(request: pytest.FixtureRequest) -> Sample:
    chosen: Sample = request.param
    return chosen


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def opened(folder: Path, name: str) -> Image:
    return Image.new_from_file(str(folder / name))


def test_make_writes_the_files_of_the_table(folder: Path) -> None:
    assert files(folder) == {sample.name for sample in SAMPLES}


def test_table_covers_every_kind_of_picture() -> None:
    assert len({sample.name.split("/")[0] for sample in SAMPLES}) == 3
    assert {1, 3, 6, 8} == {sample.finish.orientation for sample in SAMPLES}
    assert {"srgb", "p3"} == {sample.finish.profile for sample in SAMPLES}
    assert min(sample.aspect for sample in SAMPLES) < 1 < max(sample.aspect for sample in SAMPLES)


def test_picture_has_the_requested_size_when_it_is_upright(folder: Path, sample: Sample) -> None:
    stored = opened(folder, sample.name)
    upright = stored.autorot()
    assert (upright.width, upright.height) == sample.size(_MEGAPIXELS)
    assert upright.width * upright.height >= _MEGAPIXELS * 1e6
    assert stored.get("orientation") == sample.finish.orientation
    assert (stored.width == upright.width) == (sample.finish.orientation in {1, 3} or sample.aspect == 1)


@pytest.mark.parametrize("name", ["coast/blue-ridges.jpg", "forest/pines-in-mist.jpg"])
def test_upright_picture_has_the_sky_at_the_top(folder: Path, name: str) -> None:
    upright = opened(folder, name).autorot()
    half = upright.height // 2
    top, bottom = (upright.crop(0, y, upright.width, half).avg() for y in (0, half))
    assert top > bottom


def test_picture_embeds_its_colour_profile(folder: Path, sample: Sample) -> None:
    profile = opened(folder, sample.name).get("icc-profile-data")
    assert profile == Operation.call("profile_load", sample.finish.profile)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.finish.profile == "p3"], ids=lambda s: s.name)
def test_wide_gamut_picture_has_colours_outside_srgb(folder: Path, sample: Sample) -> None:
    # scRGB keeps what sRGB clips: red above 1, over an area and not in one pixel.
    linear = opened(folder, sample.name).icc_import(embedded=True, intent="relative").colourspace("scrgb")
    assert (linear[0] > 1.02).avg() / 255 > 0.02


def test_cut_out_has_transparent_soft_and_opaque_parts(folder: Path) -> None:
    leaf = opened(folder, "forest/maple-leaf.png")
    assert leaf.bands == 4
    alpha = leaf[3]
    assert (alpha.min(), alpha.max()) == (0, 255)
    soft = ((alpha > 10) & (alpha < 200)).avg() / 255
    assert soft > 0.01


def test_picture_has_gps_author_and_copyright(folder: Path) -> None:
    fields = opened(folder, "coast/evening-tide.jpg")
    assert str(fields.get("exif-ifd3-GPSLatitude")).startswith("48/1 23/1 ")
    assert "Galerly" in str(fields.get("exif-ifd0-Artist"))
    assert "2026" in str(fields.get("exif-ifd0-Copyright"))


def test_one_picture_is_progressive(folder: Path) -> None:
    fields = opened(folder, "portraits/lights-in-the-rain.jpg").get_fields()
    assert "interlaced" in fields


@pytest.mark.parametrize(
    "name", ["coast/evening-tide.jpg", "forest/maple-leaf.png", _QUICK, "portraits/window-light.jpg"]
)
def test_picture_is_reproducible(folder: Path, tmp_path: Path, name: str) -> None:
    again = make(tmp_path, _MEGAPIXELS, [name])
    assert again == [tmp_path / name]
    assert again[0].read_bytes() == (folder / name).read_bytes()


def test_existing_file_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / _QUICK
    kept.parent.mkdir()
    kept.write_bytes(b"mine")
    make(tmp_path, _MEGAPIXELS, [_QUICK])
    assert kept.read_bytes() == b"mine"
    assert capsys.readouterr().err == f"{_QUICK}: there already\n"


def test_interrupted_run_leaves_no_partial_file_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Path, _: Path) -> Path:
        assert self.exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path, _MEGAPIXELS, [_QUICK])
    assert files(tmp_path) == set()
    assert make(tmp_path, _MEGAPIXELS, [_QUICK]) == [tmp_path / _QUICK]
    assert files(tmp_path) == {_QUICK}


def test_unknown_name_raises(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        make(tmp_path, _MEGAPIXELS, ["coast/nowhere.jpg"])
    assert gallery.SAMPLES is SAMPLES
