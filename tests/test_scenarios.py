"""Runs `scenarios.toml` on every shape. The file's head says what a scenario may hold."""

from __future__ import annotations

import io
import itertools
import json
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from PIL import Image

from galerly_cdn.grant import Grant, gallery_resource
from galerly_cdn.signing import Signer, new_pair
from tests import pictures, s3
from tests.shapes import Answer, OneMachine, OverS3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.s3 import S3Server
    from tests.shapes import Shape

SCENARIOS = tomllib.loads((Path(__file__).parent / "scenarios.toml").read_text("utf-8"))["scenario"]
_numbers = itertools.count(1)
PUBLIC_URL = "https://cdn.test"
_PUBLIC_PEM, _PRIVATE_PEM = new_pair(ecdsa=True)
_SIGNER = Signer("K1", _PRIVATE_PEM)


SHAPES = ["a folder", "S3"]


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """A real one where there is one."""
    server: S3Server = request.getfixturevalue("versitygw" if s3.versitygw_program() else "moto")
    return server


@pytest.fixture(scope="module")
def start(s3_server: S3Server) -> Callable[[str, Path, dict[str, object]], OneMachine]:
    """Starts a shape by its name."""

    def started(name: str, root: Path, settings: dict[str, object]) -> OneMachine:
        keys = root / "keys"
        keys.mkdir()
        (keys / "K1.pem").write_bytes(_PUBLIC_PEM)
        signed = {"public_keys": keys, "public_urls": PUBLIC_URL, **settings}
        if name == "S3":
            return OverS3(root, root, signed, s3_server.bucket())
        return OneMachine(root / "photographs", root / "renditions", {"writable": True, **signed})

    return started


@pytest.fixture(scope="module")
def common(
    tmp_path_factory: pytest.TempPathFactory, start: Callable[[str, Path, dict[str, object]], OneMachine]
) -> Iterator[Callable[[str], OneMachine]]:
    """The shapes without settings of their own, started when the first scenario needs them."""
    running: dict[str, OneMachine] = {}

    def shared(name: str) -> OneMachine:
        if name not in running:
            running[name] = start(name, tmp_path_factory.mktemp("common"), {})
        return running[name]

    yield shared
    for shape in running.values():
        shape.stop()


@pytest.fixture
def shape(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    common: Callable[[str], OneMachine],
    start: Callable[[str, Path, dict[str, object]], OneMachine],
) -> Iterator[Shape]:
    """A running shape; one of its own for a scenario with settings of its own."""
    name, settings = request.param
    if not settings:
        yield common(name)
        return
    running = start(name, tmp_path, settings)
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("shape", "scenario"),
    [
        pytest.param((name, one.get("settings", {})), one, id=f"{one['name']}, {name}")
        for one in SCENARIOS
        for name in SHAPES
    ],
    indirect=["shape"],
)
def test_scenario(shape: Shape, scenario: dict[str, Any]) -> None:
    play = Play(shape, f"gallery-{next(_numbers)}")
    play.perform({"put": scenario.get("originals", {})})
    for number, step in enumerate(scenario["steps"], 1):
        answer = play.perform(step)
        if answer is not None:
            problems = list(disappointments(answer, play.before, step, play.originals))
            seen = f"{answer.status} {answer.headers} {answer.body[:200]!r}"
            assert not problems, f"step {number}, {step}: {problems}; {seen}"
            if step.keys() & {"get", "head"}:
                play.before = answer


def test_every_word_of_the_scenarios_is_known() -> None:
    """One that is not would be passed over, and what it expects never looked at."""
    for scenario in SCENARIOS:
        assert scenario.keys() <= {"name", "originals", "settings", "steps"}, scenario["name"]
        for step in scenario["steps"]:
            (verb,) = step.keys() & (EVENTS | REQUESTS.keys())
            assert step.keys() - {verb} <= REQUESTS.get(verb, set()), step


@dataclass
class Play:
    """A scenario on a shape: what its gallery holds by name, and what a viewer was answered last."""

    shape: Shape
    gallery: str
    originals: dict[str, bytes] = field(default_factory=dict)
    before: Answer | None = None

    def perform(self, step: dict[str, Any]) -> Answer | None:
        """Do what a step says; the answer, if it was a request."""
        match step:
            case {"put": recipes}:
                for name, recipe in recipes.items():
                    self.originals[name] = made(recipe)
                    self.shape.put(f"{self.gallery}/{name}", self.originals[name])
            case {"remove": name}:
                self.shape.remove(f"{self.gallery}/{name}")
            case {"lose": True}:
                self.shape.lose()
            case {"restart": True}:
                self.shape.restart()
            case {"rot": True}:
                self.shape.rot()
                self.shape.restart()
            case {"get": path} | {"head": path}:
                return self._view(path, step)
            case _:
                return self._administer(step)
        return None

    def _view(self, path: str, step: dict[str, Any]) -> Answer:
        path = path.replace("{g}", self.gallery)
        if "signed" in step:
            path = signed(path, self.gallery, **step["signed"])
        method = "HEAD" if "head" in step else step.get("method", "GET")
        return self.shape.request(method, path, self._headers(step))

    def _administer(self, step: dict[str, Any]) -> Answer:
        """What a step asks of the admin side; what it has taken is what the gallery holds."""
        sent = self._headers(step)
        match step:
            case {"upload": uploaded}:
                ((name, recipe),) = uploaded.items()
                path = self._path("/originals", name) + "?replace=true" * step.get("replace", False)
                answer = self.shape.administer("PUT", path, sent, made(recipe))
                if answer.status in {200, 201}:
                    self.originals[name] = made(recipe)
                return answer
            case {"delete": name}:
                return self.shape.administer("DELETE", self._path("/originals", name), sent, b"")
            case {"purge": name}:
                return self.shape.administer("POST", self._path("/purge", name), sent, b"")
            case {"warm": name}:
                return self.shape.administer("POST", self._path("/warm", name), sent, b"")
        raise ValueError(step)

    def _path(self, operation: str, name: str) -> str:
        """Of a photograph; of a gallery where the name ends with a slash."""
        key = quote(f"{self.gallery}/{name}")
        return f"{operation}?gallery={key.rstrip('/')}" if key.endswith("/") else f"{operation}/{key}"

    def _headers(self, step: dict[str, Any]) -> dict[str, str]:
        etag = self.before.headers.get("etag", "") if self.before else ""
        return {name: value.replace("{etag}", etag) for name, value in step.get("send", {}).items()}


def made(recipe: dict[str, Any]) -> bytes:
    """A picture of `tests/pictures.py` by its function's name and arguments."""
    arguments = dict(recipe)
    share, which = arguments.pop("cut", 1.0), arguments.pop("of", None)
    original = getattr(pictures, arguments.pop("make"))(**arguments)
    content: bytes = original if which is None else original[which]
    return pictures.truncated(content, share)


def signed(path: str, gallery: str, *, lasts_s: int = 600, whole: str | None = None) -> str:
    """The path with a signature: of itself, or of a `whole` gallery."""
    address = PUBLIC_URL + path
    resource = address if whole is None else gallery_resource(address, whole.replace("{g}", gallery))
    grant = Grant(resource=resource, expires_s=int(time.time()) + lasts_s)
    return _SIGNER.url(address, grant).removeprefix(PUBLIC_URL)


def disappointments(
    answer: Answer, before: Answer | None, step: dict[str, Any], originals: dict[str, bytes]
) -> Iterator[str]:
    """Every expectation of the step that the answer does not meet."""
    first, last = step.get("bytes", (0, None))
    if "holds" in step and answer.body != originals[step["holds"]][first:last]:
        yield f"the body is not {step['holds']}, from {first} to {last}"
    expected = {"status": 200, **step}
    for name, look in LOOKS.items():
        if name in expected and look(answer) != expected[name]:
            yield f"{name}: expected {expected[name]!r}, got {look(answer)!r}"
    for name, value in step.get("headers", {}).items():
        told = answer.headers.get(name)
        if (told is not None) if value is False else told != value:
            yield f"header {name}: expected {value!r}, got {told!r}"
    for name in step.get("same", []):
        if before is None or _aspect(answer, name) != _aspect(before, name):
            yield f"{name} differs from the answer before"
    for name in step.get("other", []):
        if before is None or _aspect(answer, name) == _aspect(before, name):
            yield f"{name} is that of the answer before"


def _lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.body.splitlines()]


LOOKS: dict[str, Callable[[Answer], object]] = {
    "status": lambda answer: answer.status,
    "type": lambda answer: answer.headers.get("content-type"),
    "cache": lambda answer: answer.headers.get("cache-status", "").removeprefix("galerly-cdn; "),
    "length": lambda answer: len(answer.body),
    "code": lambda answer: json.loads(answer.body)["error"]["code"],
    "sides": lambda answer: list(Image.open(io.BytesIO(answer.body)).size),
    "outcome": lambda answer: json.loads(answer.body).get("outcome"),
    "existed": lambda answer: json.loads(answer.body).get("existed"),
    "removed": lambda answer: [target for line in _lines(answer) for target in line["removed"]],
    "made": lambda answer: sum(line.get("was_there") is False for line in _lines(answer)),
    "were_there": lambda answer: sum(line.get("was_there") is True for line in _lines(answer)),
    "failed": lambda answer: [line["error"]["code"] for line in _lines(answer) if "error" in line],
}
"""What a step may expect, and how it is read from an answer."""

EVENTS = {"put", "remove", "lose", "rot", "restart"}
_ANSWERED = {"status", "code", "headers"}
_VIEWED = {
    *_ANSWERED,
    "send",
    "signed",
    "type",
    "sides",
    "cache",
    "length",
    "holds",
    "bytes",
    "same",
    "other",
}
REQUESTS: dict[str, set[str]] = {
    "get": {*_VIEWED, "method"},
    "head": _VIEWED,
    "upload": {*_ANSWERED, "send", "replace", "outcome"},
    "delete": {*_ANSWERED, "existed", "removed"},
    "purge": {*_ANSWERED, "removed"},
    "warm": {*_ANSWERED, "made", "were_there", "failed"},
}
"""The words that may stand beside each request's verb."""


def _aspect(answer: Answer, name: str) -> object:
    return answer.body if name == "body" else answer.headers.get(name)
