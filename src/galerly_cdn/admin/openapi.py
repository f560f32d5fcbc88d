"""Generates the admin API's OpenAPI 3.1 document from the table of routes.

Schemas come from the types of queries, bodies and results, error responses from the error classes.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any

from galerly_cdn import __version__
from galerly_cdn.admin.handlers import SEGMENT_PATTERN, UPLOAD_ID_PATTERN
from galerly_cdn.admin.responses import JSON, JSON_LINES, Failed
from galerly_cdn.errors import BadRequest, CrossSite, HeadersTooLarge, Misdirected, Unauthorized, UrlTooLong
from galerly_cdn.http.responses import Failure
from galerly_cdn.serialization import schemas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from galerly_cdn.admin.routes import Route
    from galerly_cdn.errors import GalerlyError

    SchemasByType = dict[Any, dict[str, Any]]

_REFERENCE = "#/components/schemas/{name}"
_COMMON_ERRORS: tuple[type[GalerlyError], ...] = (
    Unauthorized,
    CrossSite,
    Misdirected,
    BadRequest,
    UrlTooLong,
    HeadersTooLarge,
)
_KEY_TEMPLATE = "/{gallery}/{photo}"
"""Two parameters describe a key: OpenAPI percent-encodes the slashes of a parameter (3.1 §4.8.12)."""
_SEGMENT = {"type": "string", "pattern": f"^{SEGMENT_PATTERN}$"}
_PATH_PARAMETERS = {
    "gallery": (_SEGMENT, "The key up to its slash. A key can also have one segment, or more than two."),
    "photo": (_SEGMENT, "The rest of the key. A key has at most 900 bytes of UTF-8."),
    "id": ({"type": "string", "pattern": f"^{UPLOAD_ID_PATTERN}$"}, "The id of the direct upload."),
}
_IMAGE_BODY = (
    "The body is the file itself; its Content-Type is ignored. Content-MD5, Digest, Content-Digest, "
    "Repr-Digest and x-amz-checksum-{md5,sha1,sha256,sha512} are verified."
)
_LINES = " Each line is one JSON value. A line with `error` says what failed for its `key`."


def openapi_document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document that describes `routes`."""
    types = list(dict.fromkeys([Failure, Failed, *(one for route in routes for one in _types(route))]))
    references, components = schemas(types, _REFERENCE)
    by_type: SchemasByType = dict(zip(types, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace("/{key}", _KEY_TEMPLATE)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, by_type, components)
    for route in routes:  # a query is described as separate parameters, so no reference leads to its schema
        if route.query is not None:
            components.pop(route.query.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "galerly-cdn admin API",
            "version": __version__,
            "description": "Uploads, lists, warms, purges and deletes originals. Errors have one shape, "
            "with a stable code.",
        },
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _types(route: Route) -> list[Any]:
    return [
        one for one in (*route.responses.values(), route.query, route.body) if one not in {None, str, dict}
    ]


def _operation(route: Route, by_type: SchemasByType, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": route.summary + ".",
        "responses": {**_responses(route, by_type), **_error_responses(route, by_type)},
    }
    parameters = [*_path_parameters(route), *_query_parameters(route, components)]
    if parameters:
        operation["parameters"] = parameters
    if route.has_image_body:
        schema = {"type": "string", "format": "binary"}
        operation["description"] = _IMAGE_BODY
        operation["requestBody"] = {"required": True, "content": {"image/*": {"schema": schema}}}
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": by_type[route.body]}},
        }
    return operation


def _responses(route: Route, by_type: SchemasByType) -> dict[str, Any]:
    responses = {}
    for status, result in route.responses.items():
        schema = by_type.get(result, {"type": "object" if result is dict else "string"})
        description = "Created." if status == 201 else "Not ready." if status == 503 else "Done."
        if route.media_type == JSON_LINES:
            # OpenAPI 3.1 cannot describe the schema of a line (3.2 has `itemSchema`).
            line = {"anyOf": [schema, by_type[Failed]]}
            content: dict[str, Any] = {JSON_LINES: {"schema": {"type": "string"}, "x-line-schema": line}}
            description += _LINES
        else:
            content = {route.media_type: {"schema": schema}}
        responses[str(status)] = {"description": description, "content": content}
    return responses


def _error_responses(route: Route, by_type: SchemasByType) -> dict[str, Any]:
    """The errors by status; a class includes its subclasses."""
    by_status: dict[int, dict[str, str]] = {}
    for error in chain(_COMMON_ERRORS, route.errors):
        for one in (error, *_subclasses(error)):
            by_status.setdefault(one.status, {})[one.code] = one.public
    return {
        str(status): {
            "description": " ".join(f"`{code}`: {public}" for code, public in codes.items()),
            "content": {JSON: {"schema": by_type[Failure]}},
        }
        for status, codes in sorted(by_status.items())
    }


def _subclasses(error: type[GalerlyError]) -> list[type[GalerlyError]]:
    return [] if error.__name__ == "BadRequest" else error.__subclasses__()


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
        for name in re.findall(r"\{(\w+)\}", route.path.replace("/{key}", _KEY_TEMPLATE))
        for schema, description in [_PATH_PARAMETERS[name]]
    ]


def _query_parameters(route: Route, components: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of the query, from the schema of the type that parses it."""
    if route.query is None:
        return []
    schema = components[route.query.__name__]
    return [
        {"name": name, "in": "query", "required": name in schema["required"], "schema": property_schema}
        for name, property_schema in schema["properties"].items()
    ]
