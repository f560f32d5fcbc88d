"""Tests which candidates of `srcset` Chromium chooses on the gallery page, and the widths that it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import pictures
from tests.support.chromium import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.chromium import Browser

pytestmark = pytest.mark.browser

PHONE, TABLET, DESKTOP = (390, 844), (820, 1180), (1440, 900)
PHOTOGRAPHS = {
    "landscape": (3000, 2000),
    "panorama": (3900, 1300),
    "portrait": (2000, 3000),
    "tall": (1600, 2400),
}


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page with a landscape, a panorama and two portraits."""
    folder = tmp_path_factory.mktemp("gallery")
    for name, sides in PHOTOGRAPHS.items():
        (folder / f"{name}.jpg").write_bytes(pictures.jpeg(*sides))
    with serving(folder, tmp_path_factory.mktemp("renditions")) as address:
        yield address


def show(browser: Browser, address: str, screen: tuple[int, int], ratio: int = 1) -> None:
    """Open the page on a screen with `ratio` device pixels a pixel, and load its pictures."""
    touch = {} if screen == DESKTOP else {"mobile": True}
    browser.set_screen(*screen, ratio, **touch)
    browser.open(address)
    browser.load_pictures()


@pytest.mark.parametrize(
    ("screen", "ratio", "chosen"),
    [
        # tiles of 364, 364 and 179 px
        (PHONE, 1, ("400x400", "400x400", "280x280")),
        (PHONE, 2, ("800x600", "800x600", "540x540")),
        (PHONE, 3, ("1200x1200", "1200x1200", "880x880")),
        # 594, 764 and 265 px
        (TABLET, 1, ("800x600", "800x600", "400x400")),
        (TABLET, 2, ("1200x1200", "2000x2000", "880x880")),
        (TABLET, 3, ("2000x2000", "2560x2560", "1200x1200")),
        # 337, 674 and 151 px
        (DESKTOP, 1, ("400x400", "800x600", "280x280")),
        (DESKTOP, 2, ("800x600", "2000x2000", "540x540")),
        (DESKTOP, 3, ("1200x1200", "2560x2560", "880x880")),
    ],
)
def test_browser_chooses_the_smallest_candidate_that_fills_the_tile(
    browser: Browser,
    gallery: str,
    screen: tuple[int, int],
    ratio: int,
    chosen: tuple[str, str, str],
) -> None:
    show(browser, gallery, screen, ratio)
    found = browser.run(
        """
        return Object.fromEntries([...document.querySelectorAll("main img")].map(
          (image) => [image.alt, image.currentSrc.split("/")[4]]));
        """
    )
    assert found == dict(zip(PHOTOGRAPHS, (*chosen, chosen[-1]), strict=True))


@pytest.mark.parametrize("screen", [PHONE, TABLET, DESKTOP])
def test_width_without_auto_is_near_the_width_of_the_tile(
    browser: Browser, gallery: str, screen: tuple[int, int]
) -> None:
    """Browsers that do not know `auto` in `sizes` choose by the estimate behind it."""
    show(browser, gallery, screen)
    ratios = browser.run(
        """
        return [...document.querySelectorAll("main img")].map((image) => {
          const ruler = document.body.appendChild(document.createElement("div"));
          ruler.style.width = image.sizes.replace("auto, ", "");
          return ruler.offsetWidth / image.clientWidth;
        });
        """
    )
    assert len(ratios) == len(PHOTOGRAPHS)
    assert all(0.65 < ratio < 1.2 for ratio in ratios)
