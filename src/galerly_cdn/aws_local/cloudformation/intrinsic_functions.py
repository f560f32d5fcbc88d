"""What do CloudFormation's intrinsic functions come to? Pure.

Source: the CloudFormation Template Reference, "Intrinsic function reference".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOTHING = object()
"""`AWS::NoValue`: what has it is not there."""
_REFERENCE = re.compile(r"\$\{(?P<literal>!?)(?P<name>[A-Za-z0-9:.]+)\}")


class Resolver:
    """Resolves what a template says of one resource; `resource` is whom an error names.

    `references` answers a Ref and a GetAtt: a logical name and an attribute, empty for a Ref.
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
            "Fn::GetAtt": lambda told: self._references(*told),
            "Fn::Sub": self._sub,
            "Fn::Join": lambda told: told[0].join(self.resolve(told[1])),
            "Fn::Split": lambda told: self.resolve(told[1]).split(told[0]),
            "Fn::Select": lambda told: self.resolve(told[1])[int(self.resolve(told[0]))],
            "Fn::If": lambda told: self.resolve(told[1] if self.holds({"Condition": told[0]}) else told[2]),
            "Fn::FindInMap": self._find_in_map,
        }

    def resolve(self, node: Any) -> Any:  # noqa: ANN401 - any JSON
        """`node` without intrinsic functions. Raises `UnmodelledProperty` for one that is not known."""
        if isinstance(node, list):
            return [one for one in map(self.resolve, node) if one is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, told),) = node.items()
            if name in self._functions:
                return self._functions[name](told)
            if name.startswith("Fn::"):
                raise UnmodelledProperty(self._resource, name, "the function is not known")
        resolved = {name: self.resolve(one) for name, one in node.items()}
        return {name: one for name, one in resolved.items() if one is not NOTHING}

    def holds(self, condition: Any) -> bool:  # noqa: ANN401 - any JSON
        """Whether a condition is true. Raises `UnmodelledProperty` for what is none."""
        ((name, told),) = condition.items()
        match name:
            case "Condition" if told in self._conditions:
                return self.holds(self._conditions[told])
            case "Fn::Equals":
                first, second = map(self.resolve, told)
                return _text(first) == _text(second)
            case "Fn::Not":
                return not self.holds(told[0])
            case "Fn::And":
                return all(map(self.holds, told))
            case "Fn::Or":
                return any(map(self.holds, told))
            case _:
                raise UnmodelledProperty(self._resource, name, "no condition that is known")

    def _sub(self, told: Any) -> str:  # noqa: ANN401 - any JSON
        text, own = (told, {}) if isinstance(told, str) else told

        def put(found: re.Match[str]) -> str:
            name = found["name"]
            if found["literal"]:
                return f"${{{name}}}"
            if name in own:
                return _text(self.resolve(own[name]))
            return _text(self._references(*_split(name)))

        return _REFERENCE.sub(put, text)

    def _find_in_map(self, told: Any) -> object:  # noqa: ANN401 - any JSON
        table, *keys = map(self.resolve, told)
        return self._mappings[table][keys[0]][keys[1]]


def _split(name: str) -> tuple[str, str]:
    logical, _, attribute = name.partition(".")
    return logical, attribute


def _text(value: object) -> str:
    """CloudFormation compares and inserts strings."""
    return str(value).lower() if isinstance(value, bool) else str(value)
