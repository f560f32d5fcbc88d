"""Tests a deployed CDN as a viewer, with a photograph that it uploads and deletes again."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.aws.deploy import boto
from galerly_cdn.aws.errors import DeploymentFailed
from galerly_cdn.http.urls import cache_tags
from galerly_cdn.links import Links
from galerly_cdn.render.sample_images import SPECIMENS
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.aws.deploy.http_viewer import ViewerResponse
    from galerly_cdn.settings.table import Settings

_MAX_ATTEMPTS = 20
"""Enough until a new distribution's name resolves, and until a request reaches the same cache twice."""
_PAUSE_S = 3.0
_MAX_DELETED = 1000
"""Objects in one DeleteObjects request of S3."""


class Check(Value, frozen=True):
    """The result of one check: what was checked, the expected and the actual (`found`) result."""

    what: str
    expected: str
    found: str
    is_met: bool

    def __str__(self) -> str:
        return f"{'ok    ' if self.is_met else 'FAILED'}  {self.what}: {self.found}" + (
            "" if self.is_met else f" (expected: {self.expected})"
        )


class Deployed(Value, frozen=True):
    """The addresses of a stack's parts, from its outputs."""

    address: str
    bucket: str
    function_url: str
    distribution: str

    @classmethod
    def from_outputs(cls, outputs: dict[str, str]) -> Deployed:
        """With CloudFront's own host name, because DNS may not point `Domain` to it yet.

        Raises `DeploymentFailed` if an output is missing.
        """
        try:
            return cls(
                address=f"https://{outputs['CloudFrontAddress']}",
                bucket=outputs["Store"].removeprefix("s3://"),
                function_url=outputs["FunctionUrl"],
                distribution=outputs["DistributionId"],
            )
        except KeyError as error:
            raise DeploymentFailed(
                f"the stack has no output {error}: it is not galerly-cdn's, or not complete yet"
            ) from error


class SmokeViewer:
    """A viewer of a deployed CDN. It uploads test photographs, and deletes them at the end.

    `fetch(url)` sends one request; `pause(seconds)` waits.
    """

    def __init__(
        self,
        deployed: Deployed,
        fetch: Callable[[str], ViewerResponse],
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.deployed = deployed
        self.fetch = fetch
        self._pause = pause
        self._s3: Any = boto.client("s3")
        self._uploaded: list[str] = []

    def upload(self, key: str, content: bytes, media_type: str = "image/jpeg") -> None:
        """Put an original into the bucket. Raises `AwsRefused`."""
        self._uploaded.append(key)
        with boto.aws_errors():
            self._s3.put_object(
                Bucket=self.deployed.bucket,
                Key=f"originals/{key}",
                Body=content,
                ContentType=media_type,
                Metadata={"cache-tag": cache_tags(key)},
            )

    def delete_uploads(self, settings: Settings) -> None:
        """Delete the uploaded originals and their renditions. Raises `AwsRefused`."""
        names = [f"originals/{key}" for key in self._uploaded]
        targets = settings.all_targets
        names += [f"resized/{target.rendition_key(key)}" for key in self._uploaded for target in targets]
        self._uploaded.clear()
        for start in range(0, len(names), _MAX_DELETED):
            batch = [{"Key": name} for name in names[start : start + _MAX_DELETED]]
            with boto.aws_errors():
                self._s3.delete_objects(Bucket=self.deployed.bucket, Delete={"Objects": batch, "Quiet": True})

    def fetch_until(self, url: str, is_expected: Callable[[ViewerResponse], bool]) -> ViewerResponse:
        """The first response that is as expected, or the last one of a minute."""
        response = self.fetch(url)
        for _ in range(_MAX_ATTEMPTS - 1):
            if is_expected(response):
                break
            self._pause(_PAUSE_S)
            response = self.fetch(url)
        return response


@contextlib.contextmanager
def temporary_uploads(viewer: SmokeViewer, settings: Settings) -> Iterator[SmokeViewer]:
    """Delete the viewer's uploads on leaving, also after an error."""
    try:
        yield viewer
    finally:
        viewer.delete_uploads(settings)


def run(viewer: SmokeViewer, settings: Settings) -> Iterator[Check]:
    """Check a miss and a hit of every size, refusals, and that the bucket and the function are not public.

    If every gallery is private, all pictures are refused. Raises `AwsRefused`.
    """
    folder = f"galerly-smoke/{uuid.uuid4().hex}"
    key = f"{folder}/sample.jpg"
    address, is_public = viewer.deployed.address, "" not in private_folders(settings.private_prefixes)
    links = Links(address, settings.sizes)
    with temporary_uploads(viewer, settings):
        viewer.upload(key, SPECIMENS["jpeg"])
        viewer.fetch_until(f"{address}/", lambda response: not response.problem)
        for rule in settings.size_rules:
            url = links.src(key, str(rule.size))
            yield from _check_miss_and_hit(viewer, url) if is_public else [_check_status(viewer, url, 403)]
        yield _check_status(viewer, f"{address}/resize/801x600/{key}", 403)
        absent = links.src(f"{folder}/absent.jpg", str(settings.size_rules[0].size))
        yield _check_status(viewer, absent, 404 if is_public else 403)
        yield _check_https_redirect(viewer, links.src(key, str(settings.size_rules[0].size)))
        bucket = f"https://{viewer.deployed.bucket}.s3.{boto.REGION}.amazonaws.com"
        yield _check_status(viewer, f"{bucket}/originals/{key}", 403)
        yield _check_status(viewer, viewer.deployed.function_url, 403)


def _check_miss_and_hit(viewer: SmokeViewer, url: str) -> Iterator[Check]:
    first = viewer.fetch(url)
    yield _check(url, "200 Miss", first, is_met=(first.status, first.cache) == (200, "Miss"))
    second = viewer.fetch_until(url, lambda response: response.cache == "Hit")
    yield _check(f"{url} again", "200 Hit", second, is_met=(second.status, second.cache) == (200, "Hit"))


def _check_status(viewer: SmokeViewer, url: str, status: int) -> Check:
    response = viewer.fetch(url)
    return _check(url, str(status), response, is_met=response.status == status)


def _check_https_redirect(viewer: SmokeViewer, url: str) -> Check:
    http_url = url.replace("https://", "http://", 1)
    response = viewer.fetch(http_url)
    is_met = response.status == 301 and response.headers.get("location") == url
    return _check(http_url, f"301 to {url}", response, is_met=is_met)


def _check(what: str, expected: str, response: ViewerResponse, *, is_met: bool) -> Check:
    return Check(what, expected, str(response), is_met)
