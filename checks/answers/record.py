"""Sends the requests of the tables to servers and writes the responses to a file."""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks.answers import pictures
from checks.answers.normal import Normalizer
from checks.answers.servers import OTHER_TOKEN, TOKEN, Keys, Server
from checks.answers.table import plans
from checks.answers.wire import Wire

if TYPE_CHECKING:
    from checks.answers.table import Plan, Row
    from checks.answers.wire import Answer

_PLACEHOLDER = re.compile(r"\{(etag|md5|sha1|sha256|sha512|token|other_token|long:\d+|asset:\w+)\}")
_CHUNK_BYTES = 7000


def record(file: Path) -> str:
    """Write the recording to a file; returns a summary."""
    planned = plans()
    answers: list[dict[str, Any]] = []
    logs: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="galerly-answers-") as scratch:
        folder = Path(scratch)
        keys = Keys(folder / "keys")
        keys.sign(row.signed for plan in planned for row in plan.rows if row.signed)
        (folder / "token").write_text(TOKEN + "\n")
        for number, plan in enumerate(planned):
            recorder = _Recorder(plan, folder / str(number), keys, folder / "token")
            answers += recorder.answers()
            logs[plan.name] = recorder.log()
    digests = {name: hashlib.sha256(pictures.picture(name)).hexdigest() for name in pictures.PICTURES}
    recording = {"answers": answers, "logs": logs, "pictures": digests}
    file.write_text(json.dumps(recording, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    statuses = collections.Counter(one["answer"]["status"] for one in answers)
    summary = ", ".join(f"{status}: {times}" for status, times in sorted(statuses.items()))
    return f"{len(answers)} answers in {file} ({summary})"


class _Recorder:
    """Starts one server, sends its requests, and stops it."""

    def __init__(self, plan: Plan, folder: Path, keys: Keys, token_file: Path) -> None:
        self._plan = plan
        self._keys = keys
        values = {"{keys}": str(keys.public), "{token_file}": str(token_file)}
        settings = {
            name: values.get(value, value) if isinstance(value, str) else value
            for name, value in plan.settings.items()
        }
        self._server = Server(
            folder, plan.collection, settings, is_store=plan.is_store, has_admin=plan.has_admin
        )
        self._normalizer = Normalizer()
        self._etag = ""
        self._page = ""
        self._connect()

    def answers(self) -> list[dict[str, Any]]:
        """The responses, in order. Raises `RuntimeError` unless the server exits with 0."""
        answers = []
        try:
            for row in self._plan.rows:
                if row.step:
                    self._run_step(row.step)
                else:
                    answers.append({"name": row.name, "request": row.recorded, "answer": self._send(row)})
            self._stop()
        finally:
            self._server.kill()
        return answers

    def log(self) -> list[str]:
        """The log, sorted, because a record may be written after the next response."""
        lines = (self._normalizer.line(line) for line in self._server.lines)
        return sorted(json.dumps(line, ensure_ascii=False) for line in lines)

    def _connect(self) -> None:
        self._viewer = Wire(self._server.port)
        self._operator = Wire(self._server.admin_port)

    def _stop(self) -> None:
        self._viewer.close()
        self._operator.close()
        if code := self._server.stop():
            raise RuntimeError(f"the server of {self._plan.name} exited with {code}")

    def _run_step(self, step: dict[str, str]) -> None:
        match step:
            case {"put": key, "picture": name}:
                pictures.put(self._server.originals, key, pictures.picture(name))
            case {"remove": key}:
                (self._server.originals / key).unlink()
            case {"do": "restart"}:
                self._stop()
                self._server.start()
                self._connect()
            case {"do": "rot"}:
                self._server.corrupt_renditions()
            case {"do": "lose"}:
                self._server.delete_renditions()
            case _:
                raise ValueError(f"unknown step: {step}")

    def _send(self, row: Row) -> dict[str, Any]:
        wire = self._operator if row.is_admin else self._viewer
        if row.is_fresh:
            wire = Wire(self._server.admin_port if row.is_admin else self._server.port)
        answer = wire.send(*self._request(row), is_head=row.method == "HEAD")
        if row.is_fresh:
            wire.close()
        self._remember(answer)
        return self._normalizer.answer(answer, row.path)

    def _remember(self, answer: Answer) -> None:
        self._etag = answer.header("etag") or self._etag
        if answer.header("content-type").startswith("text/html") and answer.body:
            self._page = answer.body.decode()

    def _request(self, row: Row) -> tuple[bytes, bytes]:
        """The request, and the part of it that is sent after 100 (Continue)."""
        if row.raw:
            return row.raw.encode("latin-1"), b""
        path, headers = row.path, list(row.headers)
        signed = self._signature(row)
        if row.signed is not None and row.signed.is_cookies:
            headers.append(f"Cookie: {signed}")
        elif row.signed is not None:
            path = signed
        if not any(header.lower().startswith("host:") for header in headers):
            headers.insert(0, "Host: localhost")
        body = row.body
        if body is not None and row.is_chunked:
            headers.append("Transfer-Encoding: chunked")
            body = _chunked(body)
        elif body is not None:
            headers.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([f"{row.method} {path} HTTP/1.1", *headers, "", ""])
        filled = _PLACEHOLDER.sub(lambda matched: self._value(matched[1], row.body or b""), head)
        request = filled.encode("latin-1")
        if body and "Expect: 100-continue" in headers:
            return request, body
        return request + (body or b""), b""

    def _signature(self, row: Row) -> str:
        """The signed address or the cookies; empty for a row without a signature."""
        if row.signed is None:
            return ""
        pattern, replacement = row.edit
        signed = self._keys.signature(row.signed)
        return re.sub(pattern, replacement, signed, count=1) if pattern else signed

    def _value(self, placeholder: str, body: bytes) -> str:
        """The value of a placeholder."""
        kind, _, argument = placeholder.partition(":")
        match kind:
            case "etag":
                return self._etag
            case "token":
                return TOKEN
            case "other_token":
                return OTHER_TOKEN
            case "long":
                return "x" * int(argument)
            case "asset":
                matched = re.search(rf'"(/-/[^"]+\.{argument})"', self._page)
                return matched[1] if matched else f"/-/no-{argument}-in-the-page"
        return base64.b64encode(hashlib.new(kind, body).digest()).decode()


def _chunked(body: bytes) -> bytes:
    chunks = [body[at : at + _CHUNK_BYTES] for at in range(0, len(body), _CHUNK_BYTES)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
