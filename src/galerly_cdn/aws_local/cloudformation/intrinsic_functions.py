"""Evaluates CloudFormation's intrinsic functions and conditions.

Source: the CloudFormation Template Reference, "Intrinsic function reference".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOTHING = object()
"""The value of `AWS::NoValue`: a property or list element with this value is removed."""
_REFERENCE = re.compile(r"\$\{(?P<literal>!?)(?P<name>[A-Za-z0-9:.]+)\}")


class Resolver:
    """Evaluates the functions in one resource of a template. Errors name `resource`.

    `references` returns the value of a Ref or GetAtt, from a logical name and an attribute (empty for a Ref).
    """

    def __init__(
        self,
        references: Callable[[str, str], object],
        conditions: Mapping[str, Any],
        mappings: Mapping[str, Any],
        resource: str,
    ) -> None:
        self._references = references
        self._conditions = conditions
        self._mappings = mappings
        self._resource = resource
        self._functions: Mapping[str, Callable[[Any], object]] = {
            "Ref": lambda name: self._references(name, ""),
            "Fn::GetAtt": lambda arguments: self._references(*arguments),
            "Fn::Sub": self._sub,
            "Fn::Join": lambda arguments: arguments[0].join(self.resolve(arguments[1])),
            "Fn::Split": lambda arguments: self.resolve(arguments[1]).split(arguments[0]),
            "Fn::Select": lambda arguments: self.resolve(arguments[1])[int(self.resolve(arguments[0]))],
            "Fn::If": self._if,
            "Fn::FindInMap": self._find_in_map,
        }

    def resolve(self, node: Any) -> Any:  # noqa: ANN401 - any JSON
        """`node` with its functions evaluated. Raises `UnmodelledProperty` for an unknown function."""
        if isinstance(node, list):
            return [value for value in map(self.resolve, node) if value is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, arguments),) = node.items()
            if name in self._functions:
                return self._functions[name](arguments)
            if name.startswith("Fn::"):
                raise UnmodelledProperty(self._resource, name, "this intrinsic function is not modelled")
        resolved = {name: self.resolve(value) for name, value in node.items()}
        return {name: value for name, value in resolved.items() if value is not NOTHING}

    def holds(self, condition: Any) -> bool:  # noqa: ANN401 - any JSON
        """Whether a condition is true. Raises `UnmodelledProperty` for an unknown one."""
        ((name, arguments),) = condition.items()
        match name:
            case "Condition" if arguments in self._conditions:
                return self.holds(self._conditions[arguments])
            case "Fn::Equals":
                first, second = map(self.resolve, arguments)
                return _text(first) == _text(second)
            case "Fn::Not":
                return not self.holds(arguments[0])
            case "Fn::And":
                return all(map(self.holds, arguments))
            case "Fn::Or":
                return any(map(self.holds, arguments))
            case _:
                raise UnmodelledProperty(self._resource, name, "this condition is not modelled")

    def _if(self, arguments: Any) -> Any:  # noqa: ANN401 - any JSON
        condition, if_true, if_false = arguments
        return self.resolve(if_true if self.holds({"Condition": condition}) else if_false)

    def _sub(self, arguments: Any) -> str:  # noqa: ANN401 - any JSON
        text, variables = (arguments, {}) if isinstance(arguments, str) else arguments

        def value(reference: re.Match[str]) -> str:
            name = reference["name"]
            if reference["literal"]:
                return f"${{{name}}}"
            if name in variables:
                return _text(self.resolve(variables[name]))
            return _text(self._references(*_split(name)))

        return _REFERENCE.sub(value, text)

    def _find_in_map(self, arguments: Any) -> object:  # noqa: ANN401 - any JSON
        table, *keys = map(self.resolve, arguments)
        return self._mappings[table][keys[0]][keys[1]]


def _split(name: str) -> tuple[str, str]:
    logical, _, attribute = name.partition(".")
    return logical, attribute


def _text(value: object) -> str:
    """A value as a string, as CloudFormation compares and inserts it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
