"""Fills the templates of the pages that are written to one file: HTML with its styles, without a script."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def render(name: str, filters: Mapping[str, Callable[..., object]], values: Mapping[str, object]) -> str:
    """Return the template `{name}.html`; its `style` is that of all pages, followed by `{name}.css`."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - takes 30 ms to import

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters
    template = environment.from_string(_read(f"{name}.html"))
    return template.render(values, style=_read("pages.css") + _read(f"{name}.css"))


def _read(name: str) -> str:
    return resources.files("galerly_cdn.insight").joinpath(name).read_text("utf-8")
