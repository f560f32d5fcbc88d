"""Tests of the documentation: generated pages are up to date, links and URLs are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import generate
from galerly_cdn.errors import CommandError, Disconnected, by_code
from galerly_cdn.http.urls import AllowList
from galerly_cdn.settings.table import DESCRIBED, Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
ALLOWED = AllowList(Settings().size_rules)
REFUSED = "801x601"
"""The size by which the quick start shows a refusal."""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_page_is_up_to_date(name: str) -> None:
    written = (ROOT / "docs" / name).read_text("utf-8")
    assert written == generate.PAGES[name](), "run `python docs/generate.py`"


def test_every_setting_and_every_error_has_a_row() -> None:
    settings, errors = generate.settings(), generate.errors()
    assert all(f"\n| `{setting.name}` | " in settings for setting in DESCRIBED)
    hidden = {code for code, kind in by_code().items() if issubclass(kind, (CommandError, Disconnected))}
    assert all(f" | `{code}` | " in errors for code in by_code() if code not in hidden)


def test_list_of_decision_records_has_each_with_its_title() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    titles = {one.name: one.read_text("utf-8").splitlines()[0].removeprefix("# ") for one in records}
    assert re.findall(r"^- .+$", listed, re.MULTILINE) == [
        f"- [{title}]({name})" for name, title in titles.items()
    ]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_between_pages_are_not_broken(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_size_in_a_url_is_in_the_allow_list(page: Path) -> None:
    for segment in re.findall(r"/resize/([a-z0-9][a-z0-9.]*)/", page.read_text("utf-8")):
        if segment != REFUSED:
            ALLOWED.find(segment.encode())
