"""Replaces the parts of a response that vary from run to run by placeholders.

These are times, durations, request ids, versions (inodes and dates), and the bytes of AVIF, whose encoder is
not deterministic. Versions and ETags are numbered in the order of their first use, so that equal ones stay
recognisable. A value with an unexpected format is left unchanged.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from checks.answers.wire import Answer

_DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
_REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]+")
_VERSION = re.compile(r"[0-9a-f]+(-[0-9a-f]+){3}")
_DURATION = re.compile(r"dur=\d+\.\d{3}\b")
_TYPE = re.compile(r"# TYPE \S+ \S+")
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+")
_NUMBERS = {"modified_s": "time", "time_s": "time", "duration_ms": "duration"}
LENGTH = "«length»"


class Normalizer:
    """Normalizes the responses and log lines of one server."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], str] = {}
        self._avif_etags: set[str] = set()

    def answer(self, answer: Answer, path: str) -> dict[str, Any]:
        """The recorded form of a response."""
        recorded: dict[str, Any] = {"status": answer.status, "reason": answer.reason}
        if answer.interim:
            recorded["interim"] = answer.interim
        if answer.is_cut:
            recorded["cut"] = True
        if answer.is_kept:
            recorded["connection is kept"] = True
        body = self._body(answer)
        recorded["headers"] = self._headers(answer, path, varies="«" in json.dumps(body, ensure_ascii=False))
        if answer.body:
            recorded["body"] = body
        if answer.beyond:
            recorded["beyond it"] = self._beyond(answer.beyond)
        return recorded

    def line(self, line: bytes) -> Any:  # noqa: ANN401 - JSON
        """The recorded form of a line of the access or audit log."""
        record = json.loads(line)
        if record.get("detail"):
            record["detail"] = "«detail»"
        if record["status"] >= 400 and "bytes" in record and "path" in record:
            record["bytes"] = LENGTH  # the length of an error message
        if record.get("format") == "avif" and record.get("bytes") and record["status"] == 200:
            record["bytes"] = "«length of AVIF»"
        return self._json(record)

    def _numbered(self, kind: str, value: str) -> str:
        number = 1 + sum(known == kind for known, _ in self._seen)
        return self._seen.setdefault((kind, value), f"«{kind} {number}»")

    def _headers(self, answer: Answer, path: str, *, varies: bool) -> list[list[str]]:
        is_avif = answer.header("content-type") == "image/avif"
        if is_avif:
            self._avif_etags.add(answer.header("etag"))
        headers = []
        for name, original_value in answer.headers:
            value = original_value
            match name.lower():
                case "date" if _DATE.fullmatch(value):
                    value = "«date»"
                case "server-timing":
                    value = _DURATION.sub("dur=«ms»", value)
                case "etag" if path.startswith("/original/"):
                    value = self._numbered("ETag", value)
                case "etag" if value in self._avif_etags:
                    value = self._numbered("AVIF ETag", value)
                case "content-length" if is_avif and answer.status == 200:
                    value = "«length of AVIF»"
                case "content-length" if varies and int(value) == len(answer.body):
                    value = LENGTH
                case "content-range" if is_avif:
                    value = re.sub(r"/\d+$", "/«length of AVIF»", value)
            headers.append([name, value])
        return headers

    def _body(self, answer: Answer) -> dict[str, Any]:  # noqa: PLR0911 - one case for each media type
        content_type = answer.header("content-type")
        match content_type.partition(";")[0]:
            case _ if not answer.body:
                return {}
            case "application/json":
                return {"json": self._json(json.loads(answer.body))}
            case "application/jsonl":
                return {"lines": [self._json(json.loads(line)) for line in answer.body.splitlines()]}
            case "text/plain":
                return {"metrics": _metrics(answer.body.decode()), "values": "«values»"}
            case "image/avif":
                return {"avif": _avif(answer)}
            case media_type if media_type.startswith("text/"):
                return {"length": len(answer.body), "text": answer.body.decode()}
        return {"length": len(answer.body), "sha256": hashlib.sha256(answer.body).hexdigest()}

    def _beyond(self, beyond: bytes) -> Any:  # noqa: ANN401 - JSON
        """Bytes after the response, such as the body of a response to HEAD."""
        try:
            return self._json(json.loads(beyond))
        except ValueError:
            return {"length": len(beyond)}

    def _json(self, value: Any, name: str = "") -> Any:  # noqa: ANN401, PLR0911 - JSON, a case for each type
        match value:
            case dict() if name == "stages_ms":
                return dict.fromkeys(value, "«duration»")
            case dict():
                varies = _is_avif(value)
                return {
                    key: f"«{key} of AVIF»"
                    if varies and key in {"length_bytes", "md5"}
                    else self._json(one, key)
                    for key, one in value.items()
                }
            case list():
                return [self._json(one) for one in value]
            case str() if name == "version" and _VERSION.fullmatch(value):
                return self._numbered("version", value)
            case str() if name == "request_id" and _REQUEST_ID.fullmatch(value):
                return "«request»"
            case float() if name in _NUMBERS:
                return f"«{_NUMBERS[name]}»"
        return value


def _is_avif(value: dict[str, Any]) -> bool:
    target = value.get("target", "")
    form = target.get("format") if isinstance(target, dict) else str(target).rpartition(".")[2]
    return "avif" in (value.get("format"), form)


def _avif(answer: Answer) -> dict[str, Any]:
    """The properties of an AVIF that do not vary."""
    if answer.status != 200:
        return {"part": len(answer.body)}
    with Image.open(io.BytesIO(answer.body)) as picture:
        sides, mode, form = picture.size, picture.mode, picture.format
    md5 = hashlib.md5(answer.body).hexdigest()
    is_tagged = answer.header("etag") == f'"{md5}"'
    is_whole = answer.header("content-length") == str(len(answer.body))
    return {
        "format": form,
        "sides": list(sides),
        "mode": mode,
        "etag is md5": is_tagged,
        "is whole": is_whole,
    }


def _metrics(text: str) -> list[str]:
    """The metrics' names and types, and the names of their labels."""
    lines = set()
    for line in text.splitlines():
        if _TYPE.fullmatch(line):
            lines.add(line)
        elif sample := _SAMPLE.fullmatch(line):
            labels = re.findall(r'(\w+)="', sample[2] or "")
            lines.add(f"{sample[1]}{{{', '.join(labels)}}}")
    return sorted(lines)
