"""Breaks parts of a fleet under load. `script/fleet faults` breaks all parts, and for longer."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support import pictures
from tests.support.exhaustive import count
from tests.support.fleet import Fleet
from tests.support.fleet_faults import FAULTS, Stage
from tests.support.fleet_load import UNLIMITED, Load, Wanted, cold_pictures, problem_of, put_photographs
from tests.support.shapes import send_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.s3_servers import S3Server

pytestmark = pytest.mark.server("nginx", "versitygw")

PHOTOGRAPHS = 100
ANSWERS = 40
SHORT = {"proxy_cache_valid 200 10s": "proxy_cache_valid 200 1s"}
"""A lifetime for which a test can wait; hot pictures are then compared with a node's again and again."""
WANTED = Wanted("/resize/tiny/g/a.jpg", (60, 40), is_hot=False)


@pytest.fixture(scope="module")
def loaded(
    tmp_path_factory: pytest.TempPathFactory, versitygw: S3Server
) -> Iterator[tuple[Fleet, Iterator[Wanted]]]:
    """A fleet, and the pictures that nobody has requested of it."""
    bucket = versitygw.bucket()
    put_photographs(bucket, PHOTOGRAPHS)
    fleet = Fleet(tmp_path_factory.mktemp("loaded"), bucket, UNLIMITED, SHORT)
    fleet.start()
    with contextlib.closing(fleet):
        yield fleet, cold_pictures(PHOTOGRAPHS)


@pytest.mark.parametrize("name", FAULTS)
def test_viewers_notice_nothing_when_a_part_fails_or_is_replaced(
    loaded: tuple[Fleet, Iterator[Wanted]], name: str
) -> None:
    fleet, cold = loaded
    with Load(fleet, cold) as load:
        FAULTS[name].apply(Stage(fleet, load, ANSWERS))
        load.healed()
        load.wait_for(ANSWERS)
    summary = load.summary()
    assert (summary.failed_hits, summary.failed_misses, summary.wrong) == ((), (), ())
    assert summary.recovery_s < 5
    assert min(summary.hits, summary.misses) > ANSWERS / 4


def test_herd_that_no_front_divides_causes_one_render_a_node_and_one_picture(
    tmp_path: Path, versitygw: S3Server
) -> None:
    bucket = versitygw.bucket()
    bucket.put("originals/g/a.jpg", pictures.jpeg(*WANTED.sides_px))
    fleet = Fleet(tmp_path, bucket, UNLIMITED)
    fleet.start()
    viewers = count(1000, 200)
    start = threading.Barrier(viewers)

    def view(number: int) -> tuple[str, str]:
        start.wait(60)
        answer = send_request(fleet.nodes[number % 2].port, "GET", WANTED.path, {"Host": "cdn.test"})
        etag = answer.headers.get("etag", "")
        return problem_of(WANTED, answer.status, etag, answer.body), etag

    with contextlib.closing(fleet), ThreadPoolExecutor(viewers) as threads:
        answers = Counter(threads.map(view, range(viewers)))
    ((problem, _),) = answers
    assert not problem
    renders = [len([line for line in node.log_lines() if line.get("stages_ms")]) for node in fleet.nodes]
    assert max(renders) <= 1
    assert sum(renders) >= 1
