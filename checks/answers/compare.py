"""Compares two recordings. The messages of errors, and their lengths, may differ."""

from __future__ import annotations

import copy
import difflib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from checks.answers.normal import LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ABSENT = "(nothing)"
_MAX_LINES = 40
"""Lines shown for one difference."""


def compare(before: Path, after: Path) -> list[str]:
    """Every difference, formatted for printing."""
    old, new = (json.loads(file.read_text("utf-8")) for file in (before, after))
    return [*_answers(old, new), *_logs(old, new), *_pictures(old, new)]


def _answers(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    before, after = ({one["name"]: one for one in recording["answers"]} for recording in (old, new))
    for name in {**before, **after}:
        if name not in before or name not in after:
            yield f"{name}: only in the recording {'after' if name in after else 'before'}"
            continue
        for difference in _differences(_comparable(before[name]), _comparable(after[name])):
            yield f"{name}\n  {_request_line(before[name]['request'])}\n{difference}"
    if list(before) != list(after) and set(before) == set(after):
        yield "the order of the requests differs"


def _request_line(request: dict[str, Any]) -> str:
    return " | ".join([f"{request.get('method', '')} {request.get('path', '')}", *request.get("headers", [])])


def _comparable(recorded: dict[str, Any]) -> dict[str, Any]:
    """A copy without the parts that may differ."""
    copied = copy.deepcopy(recorded)
    answer = copied["answer"]
    media_type = next((value for name, value in answer["headers"] if name.lower() == "content-type"), "")
    if answer["status"] >= 400 and media_type == "application/json":
        for header in answer["headers"]:
            if header[0].lower() == "content-length":
                header[1] = LENGTH
    _mask_messages(answer)
    return copied


def _mask_messages(value: Any) -> None:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        error = value.get("error")
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            error["message"] = "«message»"
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _mask_messages(one)


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
            yield from _differences(old, new, f"{path}.{key}" if path else key)
    elif before != after:
        yield f"  {path}:\n{_diff(before, after)}"


def _diff(before: Any, after: Any) -> str:  # noqa: ANN401 - JSON
    lines = list(difflib.unified_diff(_lines(before), _lines(after), lineterm="", n=0))[2:]
    shown = [f"    {line}" for line in lines if not line.startswith("@@")]
    if len(shown) > _MAX_LINES:
        shown[_MAX_LINES:] = [f"    … and {len(shown) - _MAX_LINES} more lines"]
    return "\n".join(shown)


def _lines(value: Any) -> list[str]:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return value.splitlines() or [""]
    if isinstance(value, list):
        return [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in value]
    return [json.dumps(value, ensure_ascii=False)]


def _logs(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for name in {**old["logs"], **new["logs"]}:
        before, after = (Counter(recording["logs"].get(name, [])) for recording in (old, new))
        for sign, lines in (("-", before - after), ("+", after - before)):
            for line in lines.elements():
                yield f"{name}: the log differs\n    {sign}{line}"


def _pictures(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for name in {**old["pictures"], **new["pictures"]}:
        if old["pictures"].get(name) != new["pictures"].get(name):
            yield f"the input picture {name} differs: differences that follow from it do not count"
