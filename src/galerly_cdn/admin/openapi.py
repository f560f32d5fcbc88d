"""How do programs learn the admin side? From its description in OpenAPI 3.1, made of the table of routes.

Schemas are those of the values' types, refusals those of the errors' classes: nothing is told twice.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any

from galerly_cdn import __version__
from galerly_cdn.admin.handlers import NUMBER_PATTERN, SEGMENT_PATTERN
from galerly_cdn.admin.responses import JSON, JSON_LINES, Failed
from galerly_cdn.errors import BadRequest, CrossSite, HeadersTooLarge, Misdirected, Unauthorized, UrlTooLong
from galerly_cdn.http.responses import Failure
from galerly_cdn.serialization import schemas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from galerly_cdn.admin.routes import Route
    from galerly_cdn.errors import GalerlyError

    Schemas = dict[Any, dict[str, Any]]

_REFERENCE = "#/components/schemas/{name}"
_ALWAYS: tuple[type[GalerlyError], ...] = (
    Unauthorized,
    CrossSite,
    Misdirected,
    BadRequest,
    UrlTooLong,
    HeadersTooLarge,
)
_KEY = "/{gallery}/{photo}"
"""How a key is described: a parameter's slash is always encoded (OpenAPI 3.1 §4.8.12), a key's never is."""
_SEGMENT = {"type": "string", "pattern": f"^{SEGMENT_PATTERN}$"}
_NAMED = {
    "gallery": (_SEGMENT, "The key up to its slash. Keys of other depths are addressed likewise."),
    "photo": (_SEGMENT, "The rest of the key, which has at most 900 bytes of UTF-8."),
    "id": ({"type": "string", "pattern": f"^{NUMBER_PATTERN}$"}, "The upload, as it was numbered."),
}
_PICTURE = (
    "The body is the file itself, whatever its Content-Type says. Content-MD5, Digest, Content-Digest, "
    "Repr-Digest and x-amz-checksum-{md5,sha1,sha256,sha512} are verified."
)
_LINES = " One JSON value a line; one with an `error` tells what went wrong."


def openapi_document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document."""
    kinds = list(dict.fromkeys([Failure, Failed, *(kind for route in routes for kind in _kinds(route))]))
    told, components = schemas(kinds, _REFERENCE)
    known: Schemas = dict(zip(kinds, told, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace("/{key}", _KEY)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, known, components)
    for route in routes:  # parameters are told one by one, so their structs are nobody's component
        if route.query is not None:
            components.pop(route.query.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "galerly-cdn, admin side",
            "version": __version__,
            "description": "Originals in and out. Errors are one shape, with a stable code.",
        },
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds(route: Route) -> list[Any]:
    return [
        kind for kind in (*route.answers.values(), route.query, route.body) if kind not in {None, str, dict}
    ]


def _operation(route: Route, known: Schemas, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": route.summary + ".",
        "responses": {**_answers(route, known), **_refusals(route, known)},
    }
    parameters = [*_named(route), *_asked(route, components)]
    if parameters:
        operation["parameters"] = parameters
    if route.takes_picture:
        picture = {"type": "string", "format": "binary"}
        operation["description"] = _PICTURE
        operation["requestBody"] = {"required": True, "content": {"image/*": {"schema": picture}}}
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": known[route.body]}},
        }
    return operation


def _answers(route: Route, known: Schemas) -> dict[str, Any]:
    answers = {}
    for status, kind in route.answers.items():
        schema = known.get(kind, {"type": "object" if kind is dict else "string"})
        meaning = "Created." if status == 201 else "Not ready." if status == 503 else "Done."
        if route.media_type == JSON_LINES:
            # 3.1 has no word for the schema of a line (`itemSchema` is 3.2's).
            line = {"anyOf": [schema, known[Failed]]}
            content: dict[str, Any] = {JSON_LINES: {"schema": {"type": "string"}, "x-line-schema": line}}
            meaning += _LINES
        else:
            content = {route.media_type: {"schema": schema}}
        answers[str(status)] = {"description": meaning, "content": content}
    return answers


def _refusals(route: Route, known: Schemas) -> dict[str, Any]:
    """The errors by status; a class stands for those below it too."""
    by_status: dict[int, dict[str, str]] = {}
    for kind in chain(_ALWAYS, route.errors):
        for one in (kind, *_below(kind)):
            by_status.setdefault(one.status, {})[one.code] = one.public
    return {
        str(status): {
            "description": " ".join(f"`{code}`: {public}" for code, public in codes.items()),
            "content": {JSON: {"schema": known[Failure]}},
        }
        for status, codes in sorted(by_status.items())
    }


def _below(kind: type[GalerlyError]) -> list[type[GalerlyError]]:
    return [] if kind.__name__ == "BadRequest" else kind.__subclasses__()


def _named(route: Route) -> list[dict[str, Any]]:
    """The parameters of the path."""
    return [
        {"name": name, "in": "path", "required": True, "description": meaning, "schema": schema}
        for name in re.findall(r"\{(\w+)\}", route.path.replace("/{key}", _KEY))
        for schema, meaning in [_NAMED[name]]
    ]


def _asked(route: Route, components: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of the query, from the struct that reads them."""
    if route.query is None:
        return []
    struct = components[route.query.__name__]
    return [
        {"name": name, "in": "query", "required": name in struct["required"], "schema": schema}
        for name, schema in struct["properties"].items()
    ]
