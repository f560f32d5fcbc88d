"""Encodes, decodes and describes frozen values as JSON. The only importer of msgspec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import msgspec
from msgspec import Meta, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FieldDescription",
    "Meta",
    "ValidationError",
    "Value",
    "convert",
    "describe_fields",
    "fields_of",
    "from_json",
    "replaced",
    "schemas",
    "to_json",
]

T = TypeVar("T")


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all frozen values: equality by content, unknown fields refused when read from JSON."""


V = TypeVar("V", bound=Value)


def to_json(value: object) -> bytes:
    """JSON without a line break; control characters are escaped (RFC 8259 §7)."""
    return msgspec.json.encode(value)


def from_json(kind: type[T], text: bytes | bytearray | memoryview) -> T:
    """The inverse of `to_json`. Raises `ValidationError` for anything that is not a `kind`."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValidationError(str(error)) from error


def convert(kind: type[T], raw: object) -> T:
    """`raw` (dictionaries, lists, strings) as a `kind`; numbers and booleans may be strings.

    Raises `ValidationError` with the path of the first value that does not fit.
    """
    return msgspec.convert(raw, type=kind, strict=False)


def schemas(kinds: Iterable[object], reference: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The JSON Schema (2020-12) of each type, and of the named types that they refer to, by name.

    `reference` is the template of a reference to a named type, with `{name}` in it.
    """
    inline, named = msgspec.json.schema_components(kinds, ref_template=reference)
    return list(inline), named


def replaced(value: V, **fields: object) -> V:
    """A copy of the value with other fields."""
    return msgspec.structs.replace(value, **fields)


def fields_of(value: Value) -> dict[str, Any]:
    """The fields of a value by name."""
    return msgspec.structs.asdict(value)


class FieldDescription(Value, frozen=True):
    """A field of a `Value` with the description from its `Meta`."""

    name: str
    type: Any
    default: Any
    description: str


def describe_fields(kind: type[Value]) -> tuple[FieldDescription, ...]:
    """The fields of `kind` in the order of their declaration; every one has a default and a description."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        FieldDescription(field.name, field.type, field.default, _description(hints[field.name]))
        for field in msgspec.structs.fields(kind)
    )


def _description(annotated: Any) -> str:
    """The description of the outer `Meta`; nested annotations (bounds) have a `Meta` without one."""
    return str(next(meta.description for meta in annotated.__metadata__ if meta.description))
