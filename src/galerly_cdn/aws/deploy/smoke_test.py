"""Does what is deployed do what it says? Asked as a viewer, with a photograph that is removed again."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.aws.deploy import boto
from galerly_cdn.errors import DeploymentFailed
from galerly_cdn.http.urls import cache_tag
from galerly_cdn.links import Links
from galerly_cdn.render.sample_images import SPECIMENS
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.aws.deploy.http_viewer import ViewerResponse
    from galerly_cdn.settings.table import Settings

_TRIES = 20
"""Until a new distribution's name is known everywhere, and until the same cache is met twice."""
_PAUSE_S = 3.0


class Check(Value, frozen=True):
    """What was expected, and what was found."""

    what: str
    expected: str
    found: str
    is_met: bool

    def __str__(self) -> str:
        return f"{'ok    ' if self.is_met else 'FAILED'}  {self.what}: {self.found}" + (
            "" if self.is_met else f" (expected: {self.expected})"
        )


class Deployed(Value, frozen=True):
    """Where a stack's parts are, from its outputs."""

    address: str
    bucket: str
    function_url: str
    distribution: str

    @classmethod
    def of(cls, outputs: dict[str, str]) -> Deployed:
        """At CloudFront's own name: a Domain may not lead there yet. Raises `DeploymentFailed`."""
        try:
            return cls(
                address=f"https://{outputs['CloudFrontAddress']}",
                bucket=outputs["Store"].removeprefix("s3://"),
                function_url=outputs["FunctionUrl"],
                distribution=outputs["DistributionId"],
            )
        except KeyError as error:
            raise DeploymentFailed(f"the stack tells no {error}: it is not ours, or not made yet") from error


class SmokeViewer:
    """Asks a deployed CDN, and puts photographs there that it takes away at the end."""

    def __init__(
        self,
        deployed: Deployed,
        see: Callable[[str], ViewerResponse],
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.deployed = deployed
        self.see = see
        self._pause = pause
        self._s3: Any = boto.client("s3")
        self._put: list[str] = []

    def put(self, key: str, content: bytes, media_type: str = "image/jpeg") -> None:
        """Raises `AwsRefused`."""
        self._put.append(key)
        with boto.aws_errors():
            self._s3.put_object(
                Bucket=self.deployed.bucket,
                Key=f"originals/{key}",
                Body=content,
                ContentType=media_type,
                Metadata={"cache-tag": cache_tag(key)},
            )

    def leave(self, settings: Settings) -> None:
        """Take away what was put, and what was made of it. Raises `AwsRefused`."""
        names = [f"originals/{key}" for key in self._put]
        targets = settings.all_targets
        names += [f"resized/{target.rendition_key(key)}" for key in self._put for target in targets]
        self._put.clear()
        for start in range(0, len(names), 1000):  # S3's most in one call
            batch = [{"Key": name} for name in names[start : start + 1000]]
            with boto.aws_errors():
                self._s3.delete_objects(Bucket=self.deployed.bucket, Delete={"Objects": batch, "Quiet": True})

    def until(self, address: str, is_met: Callable[[ViewerResponse], bool]) -> ViewerResponse:
        """The first answer that is as wanted, or the last of a minute's."""
        seen = self.see(address)
        for _ in range(_TRIES - 1):
            if is_met(seen):
                break
            self._pause(_PAUSE_S)
            seen = self.see(address)
        return seen


@contextlib.contextmanager
def with_test_photograph(guest: SmokeViewer, settings: Settings) -> Iterator[SmokeViewer]:
    """Cleans up, whatever came of it."""
    try:
        yield guest
    finally:
        guest.leave(settings)


def run(guest: SmokeViewer, settings: Settings) -> Iterator[Check]:
    """Every size missed then hit, what is refused, and what is not reached past CloudFront.

    Where everything is private there are only refusals to see. Raises `AwsRefused`.
    """
    folder = f"galerly-smoke/{uuid.uuid4().hex}"
    key = f"{folder}/sample.jpg"
    address, is_public = guest.deployed.address, "" not in private_folders(settings.private_prefixes)
    links = Links(address, settings.sizes)
    with with_test_photograph(guest, settings):
        guest.put(key, SPECIMENS["jpeg"])
        guest.until(f"{address}/", lambda seen: not seen.problem)
        for rule in settings.size_rules:
            told = links.src(key, str(rule.size))
            yield from _missed_then_hit(guest, told) if is_public else [_answers(guest, told, 403)]
        yield _answers(guest, f"{address}/resize/801x600/{key}", 403)
        absent = links.src(f"{folder}/absent.jpg", str(settings.size_rules[0].size))
        yield _answers(guest, absent, 404 if is_public else 403)
        yield _redirects(guest, links.src(key, str(settings.size_rules[0].size)))
        bucket = f"https://{guest.deployed.bucket}.s3.{boto.REGION}.amazonaws.com"
        yield _answers(guest, f"{bucket}/originals/{key}", 403)
        yield _answers(guest, guest.deployed.function_url, 403)


def _missed_then_hit(guest: SmokeViewer, address: str) -> Iterator[Check]:
    first = guest.see(address)
    yield _check(address, "200 Miss", first, is_met=(first.status, first.cache) == (200, "Miss"))
    again = guest.until(address, lambda seen: seen.cache == "Hit")
    yield _check(f"{address} again", "200 Hit", again, is_met=(again.status, again.cache) == (200, "Hit"))


def _answers(guest: SmokeViewer, address: str, status: int) -> Check:
    seen = guest.see(address)
    return _check(address, str(status), seen, is_met=seen.status == status)


def _redirects(guest: SmokeViewer, address: str) -> Check:
    plain = address.replace("https://", "http://", 1)
    seen = guest.see(plain)
    is_met = seen.status == 301 and seen.headers.get("location") == address
    return _check(plain, f"301 to {address}", seen, is_met=is_met)


def _check(what: str, expected: str, seen: ViewerResponse, *, is_met: bool) -> Check:
    return Check(what, expected, str(seen), is_met)
