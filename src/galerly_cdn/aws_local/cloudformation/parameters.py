"""Checks a template's parameters as CloudFormation does, and fills in the defaults."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from galerly_cdn.aws_local.cloudformation.properties import Property, unmodelled_error
from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import ValidationError, convert

if TYPE_CHECKING:
    from collections.abc import Mapping

Parameter = str | list[str]


class ParameterDeclaration(Property, frozen=True):
    """A parameter as the template declares it."""

    type: Literal["String", "Number", "CommaDelimitedList"]
    description: str = ""
    default: str | None = None
    allowed_pattern: str | None = None
    allowed_values: tuple[str, ...] | None = None
    min_value: float | None = None
    max_value: float | None = None

    def problem(self, value: str) -> str | None:
        """Why CloudFormation would refuse a value; None if it would not."""
        if self.allowed_pattern is not None and not re.fullmatch(self.allowed_pattern, value):
            return f"{value!r} does not match {self.allowed_pattern}"
        if self.allowed_values is not None and value not in self.allowed_values:
            return f"{value!r} is not one of {', '.join(self.allowed_values)}"
        if self.type == "Number":
            return self._number_problem(value)
        return None

    def _number_problem(self, value: str) -> str | None:
        try:
            number = float(value)
        except ValueError:
            return f"{value!r} is not a number"
        if self.min_value is not None and number < self.min_value:
            return f"{value} is less than {self.min_value:g}"
        if self.max_value is not None and number > self.max_value:
            return f"{value} is more than {self.max_value:g}"
        return None


def read_parameters(declared: Mapping[str, object], given: Mapping[str, str]) -> dict[str, Parameter]:
    """The value of each declared parameter: a string, or a list for a CommaDelimitedList.

    Raises `SettingsError` for values that are missing, unknown or not allowed, `UnmodelledProperty` for an
    unknown attribute of a declaration.
    """
    problems = [f"{name}: the template has no such parameter" for name in sorted(set(given) - set(declared))]
    values: dict[str, Parameter] = {}
    for name, raw in declared.items():
        try:
            declaration = convert(ParameterDeclaration, _as_text(raw))
        except ValidationError as error:
            raise unmodelled_error("Parameters", name, error) from error
        value = given.get(name, declaration.default)
        if value is None:
            problems.append(f"{name}: {declaration.description or 'required'}")
        elif problem := declaration.problem(value):
            problems.append(f"{name}: {problem}")
        else:
            values[name] = value.split(",") if declaration.type == "CommaDelimitedList" else value
    if problems:
        raise SettingsError(problems)
    return values


def _as_text(raw: object) -> object:
    """The declaration with defaults and allowed values as strings; a template may write them as numbers."""
    if not isinstance(raw, dict):
        return raw
    declaration = dict(raw)
    if "Default" in declaration:
        declaration["Default"] = str(declaration["Default"])
    if "AllowedValues" in declaration:
        declaration["AllowedValues"] = [str(value) for value in declaration["AllowedValues"]]
    return declaration
