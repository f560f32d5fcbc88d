"""Configures Sphinx, which builds the docs site from the Markdown pages: `script/site`.

The source folder is the checkout, so that every link between pages is the same on the site and on a code
host. The navigation is the list of links in `docs/index.md`.
"""  # noqa: INP001 - a script

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    # `script/site` has an environment of its own.
    from sphinx.application import Sphinx  # pyright: ignore[reportMissingImports]

CHECKOUT = Path(__file__).parents[1]

project = "galerly-cdn"
html_title = "galerly-cdn"
root_doc = "docs/index"
include_patterns = ["docs/**.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [
    ".*",
    "benchmarks",
    "build",
    "checks",
    "deploy",
    "dist",
    "requirements",
    "script",
    "src",
    "tests",
]
extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_theme_options: dict[str, list[str]] = {"top_of_page_buttons": []}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["static/index.html"]
html_search_scorer = str(Path(__file__).with_name("static") / "scorer.js")
html_copy_source = False
html_show_copyright = False
# Where the site is opened as files, the browser may not read a page to summarise it.
html_show_search_summary = False

LINK = re.compile(r"^- \[[^]]+\]\((?P<page>[^)#]+\.md)\)", re.MULTILINE)

FOLDER_LINK = re.compile(r"\[(?P<text>[^]]+)\]\(\.\./(?P<folder>[^)#]+)\)")


def add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
    """Adds tables of contents: to the start page for each of its sections, and to the records' page."""
    if page == "docs/decisions/README":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n[0-9]*\n```\n"
    if page != root_doc:
        return
    for section in source[0].split("\n## ")[1:]:
        pages = [str(_of_root(found["page"])) for found in LINK.finditer(section)]
        caption = section.partition("\n")[0]
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"


def show_folders_as_text(_: Sphinx, __: str, source: list[str]) -> None:
    """Replaces links to folders, which a code host shows and the site does not have, by their text."""
    source[0] = FOLDER_LINK.sub(
        lambda link: link["text"] if (CHECKOUT / link["folder"]).is_dir() else link[0], source[0]
    )


def _of_root(link: str) -> PurePosixPath:
    """The name of a page that `docs/index.md` links to, as a table of contents spells it."""
    return PurePosixPath("/", link.removeprefix("../") if link.startswith("../") else f"docs/{link}")


def setup(app: Sphinx) -> None:
    """Registers the navigation, and the languages of code blocks that Pygments does not know."""
    app.connect("source-read", add_navigation)
    app.connect("source-read", show_folders_as_text)
    for language in ("logql", "mermaid"):
        app.add_lexer(language, TextLexer)
