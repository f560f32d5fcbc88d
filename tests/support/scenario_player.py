"""How is a scenario of `scenarios.toml` played on a shape? The file's head says what one may hold."""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from galerly_cdn.access.policy import Policy, gallery_resource
from galerly_cdn.access.signing import Signer, new_pair
from tests.support import pictures
from tests.support.expectations import disappointments, imposed_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.support.expectations import Imposed, Step
    from tests.support.shapes import Answer, Shape

SCENARIOS: list[Step] = tomllib.loads(
    (Path(__file__).parents[1] / "scenarios/scenarios.toml").read_text("utf-8")
)["scenario"]
PUBLIC_URL = "https://cdn.test"
_PUBLIC_PEM, _PRIVATE_PEM = new_pair(ecdsa=True)
_numbers = itertools.count(1)


@dataclass
class Play:
    """A scenario on a shape: what its gallery holds by name, and what a viewer was answered last."""

    shape: Shape
    gallery: str = field(default_factory=lambda: f"gallery-{next(_numbers)}")
    originals: dict[str, bytes] = field(default_factory=dict)
    before: Answer | None = None

    def run(self, scenario: Step) -> Iterator[tuple[int, str]]:
        """Perform its steps: what disappoints, and at which step, told before the next is performed."""
        self.perform({"put": scenario.get("originals", {})})
        for number, step in enumerate(scenario["steps"], 1):
            there = [one for one in self.shape.imposed if number in one.at.get(scenario["name"], ())]
            for late in (one for one in there if one.for_s):
                yield from ((number, told) for told in self._too_early(step, late))
                self.shape.wait(late.for_s)
            lasting = [one for one in there if not one.for_s]
            yield from ((number, told) for told in self._disappointed(step, lasting))

    def _disappointed(self, step: Step, imposed: Sequence[Imposed]) -> Iterator[str]:
        """Perform a step; what its answer is not, and what is imposed on it without need."""
        answer = self.perform(step)
        if answer is None:
            return
        seen = (answer, self.before, self.originals)
        yield from _told(step, answer, disappointments(imposed_on(step, imposed), *seen))
        for one in imposed:
            yield from _told(step, answer, [*one.unsaid(step), *one.undue(*seen)])
        if step.keys() & {"get", "head"}:
            self.before = answer

    def _too_early(self, step: Step, late: Imposed) -> Iterator[str]:
        """Perform a step that is not yet to be answered as it will be."""
        answer = self.perform(step)
        assert answer
        seen = (answer, self.before, self.originals)
        yield from _told(step, answer, disappointments(late.answers, *seen))
        if not any(disappointments(step, *seen)):
            yield from _told(step, answer, ["it is answered at once: nothing is imposed"])

    def perform(self, step: Step) -> Answer | None:
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

    def _view(self, path: str, step: Step) -> Answer:
        path = path.replace("{g}", self.gallery)
        if "signed" in step:
            path = self._signed(path, **step["signed"])
        method = "HEAD" if "head" in step else step.get("method", "GET")
        return self.shape.request(method, path, self._headers(step))

    def _signed(self, path: str, *, lasts_s: int = 600, whole: str | None = None) -> str:
        """The path with a signature: of itself, or of a `whole` gallery."""
        address = PUBLIC_URL + path
        resource = address if whole is None else gallery_resource(address, whole.replace("{g}", self.gallery))
        grant = Policy(resource=resource, expires_s=int(self.shape.now_s()) + lasts_s)
        return Signer(self.shape.key_id, _PRIVATE_PEM).url(address, grant).removeprefix(PUBLIC_URL)

    def _administer(self, step: Step) -> Answer:
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

    def _headers(self, step: Step) -> dict[str, str]:
        etag = self.before.headers.get("etag", "") if self.before else ""
        return {name: value.replace("{etag}", etag) for name, value in step.get("send", {}).items()}


def _told(step: Step, answer: Answer, problems: Iterable[str]) -> Iterator[str]:
    seen = f"{answer.status} {answer.cache!r} {answer.headers} {answer.body[:200]!r}"
    yield from (f"{step}: {problem}; {seen}" for problem in problems)


def verification(root: Path) -> Step:
    """The settings by which what a play signs is verified; their keys lie below `root`."""
    keys = root / "keys"
    keys.mkdir()
    (keys / "K1.pem").write_bytes(_PUBLIC_PEM)
    return {"public_keys": keys, "public_urls": PUBLIC_URL}


def made(recipe: Step) -> bytes:
    """A picture of `tests/pictures.py` by its function's name and arguments."""
    arguments = dict(recipe)
    share, which = arguments.pop("cut", 1.0), arguments.pop("of", None)
    original = getattr(pictures, arguments.pop("make"))(**arguments)
    content: bytes = original if which is None else original[which]
    return pictures.truncated(content, share)


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
