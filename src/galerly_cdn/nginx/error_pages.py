"""Writes the answers that nginx gives in a node's place, in the shape of docs/errors.md. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.http import responses
from galerly_cdn.nginx.syntax import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.settings.table import Settings

_ADDED_BY_NGINX = frozenset({b"content-type", b"content-length"})


def error_page_lines(errors: Iterable[tuple[Sequence[str], GalerlyError | str]]) -> str:
    """`error_page` for the statuses of nginx that each error, or a location, stands for."""
    return "".join(
        f"error_page {' '.join(statuses)} = {one if isinstance(one, str) else _path(one)};\n"
        for statuses, one in errors
    )


def error_pages(errors: Sequence[tuple[Sequence[str], GalerlyError]], settings: Settings) -> str:
    """`error_page` and a location for each error, with the statuses of nginx that it stands for."""
    locations = "".join(_location(error, settings) for _, error in errors)
    return f"# What nginx answers itself, as a node would answer it.\n{error_page_lines(errors)}{locations}"


def _path(error: GalerlyError) -> str:
    return f"/-galerly/{error.code}"


def _location(error: GalerlyError, settings: Settings) -> str:
    return f"location = {_path(error)} {{\n    internal;\n{answer(error, settings)}}}\n"


def answer(error: GalerlyError, settings: Settings) -> str:
    """The lines of a location that answers as a node would. nginx's request id is in the body and the log."""
    response = responses.failure(error, "$request_id", settings)
    headers = "".join(
        f"    add_header {name.decode()} {quoted(value.decode())} always;\n"
        for name, value in response.headers
        if name not in _ADDED_BY_NGINX
    )
    body = quoted(response.body.decode())
    return f"    default_type application/json;\n{headers}    return {error.status} {body};\n"
