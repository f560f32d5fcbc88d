"""Reads a CloudFormation template's YAML, with the short forms of intrinsic functions written out."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """A YAML loader for CloudFormation's short forms. It refuses aliases, as CloudFormation does."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("CloudFormation refuses YAML aliases")
        return super().compose_node(parent, index)


def _intrinsic(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.MappingNode):
        value: Any = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = node.value
    if tag == "GetAtt":
        value = value.split(".", 1)
    return {tag if tag in {"Ref", "Condition"} else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _intrinsic)


def read(text: str) -> dict[str, Any]:
    """The template as JSON data. `!Ref a` becomes `{"Ref": "a"}`, `!GetAtt a.B` `{"Fn::GetAtt": ["a", "B"]}`.

    Raises `yaml.YAMLError`.
    """
    document: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    return document
