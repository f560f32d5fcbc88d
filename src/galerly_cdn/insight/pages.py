"""Fills the templates of the pages that are written to one file: HTML with its styles, without a script.

The dashboard shows the main part of such a page in its own layout, with `{name}.css`, whose rules apply to
nothing else.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def render(name: str, filters: Mapping[str, Callable[..., object]], values: Mapping[str, object]) -> str:
    """Return the template `{name}.html`; its `style` is that of all pages, followed by `{name}.css`."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 - takes 30 ms to import

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_controls,
        loader=FunctionLoader(_read),
    )
    environment.filters |= filters
    style = _read("pages.css") + _read(f"{name.removesuffix('_body')}.css")
    return environment.get_template(f"{name}.html").render(values, style=style)


def _without_controls(value: object) -> object:
    """A text without control characters, of which HTML allows few: names come from requests of strangers."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def _read(name: str) -> str:
    return resources.files("galerly_cdn.insight").joinpath(name).read_text("utf-8")
