"""Runs `scenarios.toml` on every shape. The file's head says what a scenario may hold."""

from __future__ import annotations

import io
import itertools
import json
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        if name == "S3":
            return OverS3(root, root, settings, s3_server.bucket())
        return OneMachine(root / "photographs", root / "renditions", settings)

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
    if settings.keys() & {"private_prefixes", "sign_originals"}:
        keys = tmp_path / "keys"
        keys.mkdir()
        (keys / "K1.pem").write_bytes(_PUBLIC_PEM)
        settings = {**settings, "public_keys": keys, "public_urls": PUBLIC_URL}
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
    gallery = f"gallery-{next(_numbers)}"
    originals = {name: made(recipe) for name, recipe in scenario.get("originals", {}).items()}
    for name, original in originals.items():
        shape.put(f"{gallery}/{name}", original)
    before: Answer | None = None
    for number, step in enumerate(scenario["steps"], 1):
        answer = perform(shape, gallery, dict(step), before)
        originals |= {name: made(recipe) for name, recipe in step.get("put", {}).items()}
        if answer is not None:
            problems = list(disappointments(answer, before, step, originals))
            assert not problems, f"step {number}, {step}: {problems}; {answer.status} {answer.headers}"
            before = answer


def made(recipe: dict[str, Any]) -> bytes:
    """A picture of `tests/pictures.py` by its function's name and arguments."""
    arguments = dict(recipe)
    share = arguments.pop("cut", None)
    original: bytes = getattr(pictures, arguments.pop("make"))(**arguments)
    return original if share is None else pictures.truncated(original, share)


def perform(shape: Shape, gallery: str, step: dict[str, Any], before: Answer | None) -> Answer | None:
    """Do what a step says; the answer, if it was a request."""
    if "put" in step:
        for name, recipe in step["put"].items():
            shape.put(f"{gallery}/{name}", made(recipe))
    elif "remove" in step:
        shape.remove(f"{gallery}/{step['remove']}")
    elif "restart" in step:
        shape.restart()
    elif "rot" in step:
        shape.rot()
        shape.restart()
    else:
        method = "HEAD" if "head" in step else step.get("method", "GET")
        etag = before.headers.get("etag", "") if before else ""
        sent = {name: value.replace("{etag}", etag) for name, value in step.get("send", {}).items()}
        path = (step.get("get") or step["head"]).replace("{g}", gallery)
        if "signed" in step:
            path = signed(path, gallery, **step["signed"])
        return shape.request(method, path, sent)
    return None


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


LOOKS: dict[str, Callable[[Answer], object]] = {
    "status": lambda answer: answer.status,
    "type": lambda answer: answer.headers.get("content-type"),
    "cache": lambda answer: answer.headers.get("cache-status", "").removeprefix("galerly-cdn; "),
    "length": lambda answer: len(answer.body),
    "code": lambda answer: json.loads(answer.body)["error"]["code"],
    "sides": lambda answer: list(Image.open(io.BytesIO(answer.body)).size),
}
"""What a step may expect, and how it is read from an answer."""


def _aspect(answer: Answer, name: str) -> object:
    return answer.body if name == "body" else answer.headers.get(name)
