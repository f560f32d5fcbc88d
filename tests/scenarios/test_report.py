"""The report on a recorded run of the sample gallery equals what the load generator counted, exactly."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import galerly_cdn
from tests.support.aws_shape import AwsShape
from tests.support.logs import report_on_lines
from tests.support.shapes import ServeProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.insight.report import Group, Report
    from tests.support.s3_servers import S3Server
    from tests.support.shapes import Answer

SAMPLES = Path(galerly_cdn.__file__).parent / "demo"
KEYS = sorted(path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*.*"))
BOXES = {"tiny": "150x150", "150x150": "150x150", "small": "400x400", "400x400.webp": "400x400"}
REQUESTS = 220


class LoadGenerator:
    """Sends requests to a shape, and counts the responses by what it knows itself and by their headers."""

    def __init__(self, shape: ServeProcess | AwsShape, hit: Callable[[Answer], bool]) -> None:
        self._shape = shape
        self._hit = hit
        self._random = random.Random(7)
        self.requests = self.pictures = self.hits = self.errors = self.bytes = 0
        self.statuses: Counter[int] = Counter()
        self.by_gallery: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.by_size: Counter[str] = Counter()
        self.rendered: set[tuple[str, str, str]] = set()
        """Renditions that were requested: each is rendered once."""

    def run(self, requests: int) -> None:
        """Requests of random pictures, of what does not exist, and of what is not allowed."""
        for number in range(requests):
            key = self._random.choice(KEYS)
            if number % 20 == 19:
                self._send(f"/resize/tiny/{key}.missing", "", {})
            elif number % 25 == 24:
                self._send(f"/resize/{number}x{number}/{key}", "", {})
            else:
                self._send_picture(key)

    def _send_picture(self, key: str) -> None:
        segment = self._random.choice(sorted(BOXES))
        headers = {"Accept": self._random.choice(["image/avif,image/webp", "image/webp,*/*", "*/*"])}
        negotiated = headers["Accept"].partition(",")[0].removeprefix("image/").replace("*/*", "own")
        format_ = segment.partition(".")[2] or negotiated
        response = self._send(f"/resize/{segment}/{key}", key, headers)
        self.pictures += 1
        self.hits += self._hit(response)
        self.by_size[BOXES[segment]] += 1
        rendition = (BOXES[segment], format_, key)
        gallery = self.by_gallery[key.partition("/")[0]]
        gallery["requests"] += 1
        gallery["bytes"] += len(response.body)
        gallery["renders"] += rendition not in self.rendered
        self.rendered.add(rendition)
        if self._random.random() < 0.2:
            again = {**headers, "If-None-Match": response.headers["etag"]}
            response = self._send(f"/resize/{segment}/{key}", key, again)
            assert response.status == 304
            self.pictures += 1
            self.hits += self._hit(response)
            self.by_size[BOXES[segment]] += 1
            gallery["requests"] += 1

    def _send(self, path: str, key: str, headers: dict[str, str]) -> Answer:
        response = self._shape.request("GET", path, headers)
        assert (response.status < 400) == bool(key), (response, path)
        self.requests += 1
        self.bytes += len(response.body)
        self.errors += response.status >= 400
        if response.status >= 400:
            self.statuses[response.status] += 1
            gallery = path.split("/")[3]
            self.by_gallery[gallery] += Counter(requests=1, bytes=len(response.body), errors=1)
        return response

    def assert_reported(self, report: Report) -> None:
        """Every number of the report that the generator knows is equal to its own."""
        assert (report.lines.malformed, report.lines.counted) == (0, self.requests)
        assert report.requests == self.requests
        assert report.pictures == self.pictures
        assert report.hits == self.hits
        assert report.hit_ratio == self.hits / self.pictures
        assert report.renders == len(self.rendered)
        assert report.store_hits is not None
        assert report.cache_hits + report.store_hits + len(self.rendered) == self.pictures
        assert report.bytes == self.bytes
        assert report.errors == self.errors
        assert {one.status: one.requests for one in report.by_status} == dict(self.statuses)
        assert {group.name: _counts(group) for group in report.by_gallery} == {
            name: {key: counts[key] for key in ("requests", "bytes", "renders", "errors")}
            for name, counts in self.by_gallery.items()
        }
        assert {group.name: group.pictures for group in report.by_size} == dict(self.by_size)
        assert sum(group.requests for group in report.by_day) == self.requests


def _counts(group: Group) -> dict[str, int | None]:
    return {
        "requests": group.requests,
        "bytes": group.bytes,
        "renders": group.renders,
        "errors": group.errors,
    }


def test_report_on_one_machine_equals_what_the_load_generator_counted(tmp_path: Path) -> None:
    settings: dict[str, object] = {"workers": 2}
    shape = ServeProcess(SAMPLES, tmp_path / "renditions", settings)
    load = LoadGenerator(shape, lambda response: response.cache.startswith("hit"))
    load.run(REQUESTS // 2)
    log = shape.stop()
    shape._start()  # what was in memory is now in the store alone
    load.run(REQUESTS // 2)
    log += shape.stop()
    report = report_on_lines(*(json.dumps(line).encode() for line in log))
    load.assert_reported(report)
    assert report.tier == "server"
    assert report.store_hits, "the second run has hits of the store"
    assert {one.reason for one in report.by_reason} == {"no-such-original", "size-not-allowed"}


@pytest.fixture
def aws(s3_server: S3Server, tmp_path: Path) -> Iterator[AwsShape]:
    shape = AwsShape(tmp_path, s3_server.bucket(), {})
    yield shape
    shape.stop()


@pytest.mark.server("node", "versitygw")
def test_report_on_aws_equals_what_the_load_generator_counted(aws: AwsShape) -> None:
    for key in KEYS:
        aws.bucket.put(f"originals/{key}", (SAMPLES / key).read_bytes())
    hits = {"Hit from cloudfront", "RefreshHit from cloudfront"}
    load = LoadGenerator(aws, lambda response: response.headers["x-cache"] in hits)
    load.run(REQUESTS // 2)
    aws.restart()  # what was in CloudFront's cache is now in the store alone
    load.run(REQUESTS // 2)
    resizer = [line.encode() for line in aws.running.resizer.log_lines]
    cloudfront = [json.dumps(line).encode() for line in aws.access_log]
    report = report_on_lines(*cloudfront, *resizer)
    load.assert_reported(report)
    assert report.tier == "cloudfront"
    assert report.hits == report.cache_hits
    assert report.store_hits, "the second run has misses that the store answers"
