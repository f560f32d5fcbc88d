"""Fills the templates of the pages that are written to one file: HTML with its styles, without a script.

The dashboard shows the main part of such a page in its own layout, with `{name}.css`, whose rules apply to
nothing else.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def render(name: str, filters: Mapping[str, Callable[..., object]], values: Mapping[str, object]) -> str:
    """Return the template `{name}.html`; its `style` is that of all pages, followed by `{name}.css`."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 - takes 30 ms to import

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_read),
    )
    environment.filters |= filters
    style = _read("pages.css") + _read(f"{name.removesuffix('_body')}.css")
    return environment.get_template(f"{name}.html").render(values, style=style)


def _read(name: str) -> str:
    return resources.files("galerly_cdn.insight").joinpath(name).read_text("utf-8")
