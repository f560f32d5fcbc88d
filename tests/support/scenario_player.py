"""Runs a scenario of `scenarios.toml` on a shape. The comment at the head of that file defines scenarios."""

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
from tests.support.expectations import unmet_expectations, with_differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.support.expectations import PlatformDifference, Step
    from tests.support.shapes import Answer, Shape

SCENARIOS: list[Step] = tomllib.loads(
    (Path(__file__).parents[1] / "scenarios/scenarios.toml").read_text("utf-8")
)["scenario"]
PUBLIC_URL = "https://cdn.test"
_PUBLIC_PEM, _PRIVATE_PEM = new_pair(ecdsa=True)
_numbers = itertools.count(1)


@dataclass
class ScenarioRun:
    """A scenario on a shape, with the originals in its gallery and the last response to a viewer."""

    shape: Shape
    gallery: str = field(default_factory=lambda: f"gallery-{next(_numbers)}")
    originals: dict[str, bytes] = field(default_factory=dict)
    previous: Answer | None = None

    def run(self, scenario: Step) -> Iterator[tuple[int, str]]:
        """Runs the steps. Yields each step's unmet expectations, with its number, before the next step."""
        self.perform({"put": scenario.get("originals", {})})
        for number, step in enumerate(scenario["steps"], 1):
            differences = [
                difference
                for difference in self.shape.differences
                if number in difference.at.get(scenario["name"], ())
            ]
            for delay in (difference for difference in differences if difference.for_s):
                yield from ((number, problem) for problem in self._run_delayed(step, delay))
                self.shape.wait(delay.for_s)
            lasting = [difference for difference in differences if not difference.for_s]
            yield from ((number, problem) for problem in self._run_step(step, lasting))

    def _run_step(self, step: Step, differences: Sequence[PlatformDifference]) -> Iterator[str]:
        """Runs a step. Yields its unmet expectations, and the differences that are not needed."""
        response = self.perform(step)
        if response is None:
            return
        context = (response, self.previous, self.originals)
        unmet = unmet_expectations(with_differences(step, differences), *context)
        yield from _described(step, response, unmet)
        for difference in differences:
            problems = [*difference.missing_from(step), *difference.unneeded_for(*context)]
            yield from _described(step, response, problems)
        if step.keys() & {"get", "head"}:
            self.previous = response

    def _run_delayed(self, step: Step, delay: PlatformDifference) -> Iterator[str]:
        """Runs a step whose expectations must be met only after a delay."""
        response = self.perform(step)
        assert response
        context = (response, self.previous, self.originals)
        yield from _described(step, response, unmet_expectations(delay.expect, *context))
        if not any(unmet_expectations(step, *context)):
            yield from _described(step, response, ["the step is met at once: the platform does not differ"])

    def perform(self, step: Step) -> Answer | None:
        """Performs a step, and returns the response if it is a request."""
        match step:
            case {"put": recipes}:
                for name, recipe in recipes.items():
                    self.originals[name] = make_original(recipe)
                    self.shape.put(f"{self.gallery}/{name}", self.originals[name])
            case {"remove": name}:
                self.shape.remove(f"{self.gallery}/{name}")
            case {"delete_renditions": True}:
                self.shape.delete_renditions()
            case {"restart": True}:
                self.shape.restart()
            case {"damage_renditions": True}:
                self.shape.damage_renditions()
                self.shape.restart()
            case {"get": path} | {"head": path}:
                return self._request(path, step)
            case _:
                return self._administer(step)
        return None

    def _request(self, path: str, step: Step) -> Answer:
        path = path.replace("{g}", self.gallery)
        if "signed" in step:
            path = self._signed(path, **step["signed"])
        method = "HEAD" if "head" in step else step.get("method", "GET")
        return self.shape.request(method, path, self._headers(step))

    def _signed(self, path: str, *, lasts_s: int = 600, gallery: str | None = None) -> str:
        """The path with a signature of itself, or of a whole gallery."""
        url = PUBLIC_URL + path
        resource = url if gallery is None else gallery_resource(url, gallery.replace("{g}", self.gallery))
        grant = Policy(resource=resource, expires_s=int(self.shape.now_s()) + lasts_s)
        return Signer(self.shape.key_id, _PRIVATE_PEM).url(url, grant).removeprefix(PUBLIC_URL)

    def _administer(self, step: Step) -> Answer:
        """Sends a step's request to the admin API. An original that it accepts is recorded."""
        headers = self._headers(step)
        match step:
            case {"upload": upload}:
                ((name, recipe),) = upload.items()
                path = self._path("/originals", name) + "?replace=true" * step.get("replace", False)
                response = self.shape.administer("PUT", path, headers, make_original(recipe))
                if response.status in {200, 201}:
                    self.originals[name] = make_original(recipe)
                return response
            case {"delete": name}:
                return self.shape.administer("DELETE", self._path("/originals", name), headers, b"")
            case {"purge": name}:
                return self.shape.administer("POST", self._path("/purge", name), headers, b"")
            case {"warm": name}:
                return self.shape.administer("POST", self._path("/warm", name), headers, b"")
        raise ValueError(step)

    def _path(self, operation: str, name: str) -> str:
        """The path of a photograph; of a gallery if the name ends with a slash."""
        key = quote(f"{self.gallery}/{name}")
        return f"{operation}?gallery={key.rstrip('/')}" if key.endswith("/") else f"{operation}/{key}"

    def _headers(self, step: Step) -> dict[str, str]:
        etag = self.previous.headers.get("etag", "") if self.previous else ""
        return {name: value.replace("{etag}", etag) for name, value in step.get("send", {}).items()}


def _described(step: Step, response: Answer, problems: Iterable[str]) -> Iterator[str]:
    received = f"{response.status} {response.cache!r} {response.headers} {response.body[:200]!r}"
    yield from (f"{step}: {problem}; {received}" for problem in problems)


def signing_settings(root: Path) -> Step:
    """Settings with which the signatures of scenarios are verified. The key is written below `root`."""
    keys = root / "keys"
    keys.mkdir()
    (keys / "K1.pem").write_bytes(_PUBLIC_PEM)
    return {"public_keys": keys, "public_urls": PUBLIC_URL}


def make_original(recipe: Step) -> bytes:
    """An original, made by a function of `tests/support/pictures.py`: its name and its arguments."""
    arguments = dict(recipe)
    share, variant = arguments.pop("truncate_to", 1.0), arguments.pop("variant", None)
    original = getattr(pictures, arguments.pop("make"))(**arguments)
    content: bytes = original if variant is None else original[variant]
    return pictures.truncated(content, share)


EVENTS = {"put", "remove", "delete_renditions", "damage_renditions", "restart"}
_COMMON = {"status", "code", "headers"}
_VIEWER = {
    *_COMMON,
    "send",
    "signed",
    "type",
    "dimensions",
    "cache",
    "length",
    "body_of",
    "bytes",
    "same",
    "different",
}
REQUESTS: dict[str, set[str]] = {
    "get": {*_VIEWER, "method"},
    "head": _VIEWER,
    "upload": {*_COMMON, "send", "replace", "outcome"},
    "delete": {*_COMMON, "existed", "removed"},
    "purge": {*_COMMON, "removed"},
    "warm": {*_COMMON, "made", "were_there", "failed"},
}
"""The keys that a step may have in addition to its request."""
