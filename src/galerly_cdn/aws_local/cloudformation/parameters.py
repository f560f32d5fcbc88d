"""What do a template's parameters come to, given these? Pure."""

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
    """A parameter as the template declares it; what is read nowhere here is its description."""

    type: Literal["String", "Number", "CommaDelimitedList"]
    description: str = ""
    default: str | None = None
    allowed_pattern: str | None = None
    allowed_values: tuple[str, ...] | None = None
    min_value: float | None = None
    max_value: float | None = None

    def problem(self, value: str) -> str | None:
        """Why CloudFormation would refuse a value."""
        if self.allowed_pattern is not None and not re.fullmatch(self.allowed_pattern, value):
            return f"{value!r} is not of the form {self.allowed_pattern}"
        if self.allowed_values is not None and value not in self.allowed_values:
            return f"{value!r} is none of {', '.join(self.allowed_values)}"
        if self.type == "Number":
            return self._problem_of_number(value)
        return None

    def _problem_of_number(self, value: str) -> str | None:
        try:
            number = float(value)
        except ValueError:
            return f"{value!r} is no number"
        if self.min_value is not None and number < self.min_value:
            return f"{value} is less than {self.min_value:g}"
        if self.max_value is not None and number > self.max_value:
            return f"{value} is more than {self.max_value:g}"
        return None


def read_parameters(declared: Mapping[str, object], given: Mapping[str, str]) -> dict[str, Parameter]:
    """Each declared parameter's value: a string, or the list it stands for.

    Raises `SettingsError` for what is missing, unknown or not allowed, `UnmodelledProperty`.
    """
    problems = [f"{name}: the template has no such parameter" for name in sorted(set(given) - set(declared))]
    values: dict[str, Parameter] = {}
    for name, raw in declared.items():
        try:
            one = convert(ParameterDeclaration, _as_text(raw))
        except ValidationError as error:
            raise unmodelled_error("Parameters", name, error) from error
        value = given.get(name, one.default)
        if value is None:
            problems.append(f"{name}: {one.description or 'needed'}")
        elif problem := one.problem(value):
            problems.append(f"{name}: {problem}")
        else:
            values[name] = value.split(",") if one.type == "CommaDelimitedList" else value
    if problems:
        raise SettingsError(problems)
    return values


def _as_text(raw: object) -> object:
    """Defaults and allowed values may be written as numbers; CloudFormation reads them as strings."""
    if not isinstance(raw, dict):
        return raw
    told = dict(raw)
    if "Default" in told:
        told["Default"] = str(told["Default"])
    if "AllowedValues" in told:
        told["AllowedValues"] = [str(one) for one in told["AllowedValues"]]
    return told
