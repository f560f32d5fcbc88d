"""What a monitor reads adds up to what viewers were answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from galerly_cdn.errors import StoreUnreachable
from galerly_cdn.model import Head
from galerly_cdn.settings.table import Settings
from galerly_cdn.telemetry import Histogram
from tests.support.in_memory_admin import SmallAdmin

if TYPE_CHECKING:
    from prometheus_client import Metric

PATH = "/resize/tiny/g/a.jpg"


@pytest.fixture
def admin() -> SmallAdmin:
    made = SmallAdmin(Settings())
    made.cdn.originals.put("g/a.jpg")
    return made


async def families(admin: SmallAdmin) -> dict[str, Metric]:
    told = await admin.ask("GET", "/metrics")
    assert told.status == 200
    assert told.headers["content-type"].startswith("text/plain; version=1.0.0")
    return {one.name: one for one in text_string_to_metric_families(told.body.decode())}


def values(family: Metric, *labels: str, suffix: str = "_total") -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels[name] for name in labels): sample.value
        for sample in family.samples
        if sample.name == family.name + suffix
    }


async def test_pictures_are_counted_by_result_size_and_format(admin: SmallAdmin) -> None:
    for accept in ("image/webp", "image/webp", "image/webp", "*/*"):
        await admin.cdn.ask(PATH, accept=accept)
    pictures = (await families(admin))["galerly_pictures"]
    assert values(pictures, "result", "size", "format") == {
        ("miss", "150x150", "webp"): 1,
        ("hit", "150x150", "webp"): 2,
        ("miss", "150x150", "own"): 1,
    }


async def test_what_came_from_the_store_and_what_was_stale_are_told_apart(admin: SmallAdmin) -> None:
    await admin.cdn.ask(PATH)
    settings = Settings(memory_cache_bytes=0)
    admin.cdn.settings = settings
    admin.cdn.edge = admin.cdn.edge_with(None)  # forgets what was in memory
    await admin.cdn.ask(PATH)
    (version,) = {one.record.version for one in admin.cdn.renditions.kept.values()}
    admin.cdn.originals._heads["g/a.jpg"] = Head(version, 1000, stale_s=7.0)
    await admin.cdn.ask(PATH)
    pictures = values((await families(admin))["galerly_pictures"], "result")
    assert pictures == {("miss",): 1, ("stored",): 1, ("stale",): 1}


async def test_answers_bytes_and_errors_add_up(admin: SmallAdmin) -> None:
    first = await admin.cdn.ask(PATH)
    await admin.cdn.ask(PATH, if_none_match="*")
    await admin.cdn.ask(PATH, "HEAD")
    await admin.cdn.ask("/resize/1x1/g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/none.jpg")
    admin.cdn.renditions.error = StoreUnreachable()
    await admin.cdn.ask("/resize/small/g/a.jpg")
    found = await families(admin)
    assert values(found["galerly_responses"], "status") == {
        ("200",): 3,
        ("304",): 1,
        ("403",): 1,
        ("404",): 1,
    }
    assert values(found["galerly_errors"], "code") == {("size-not-allowed",): 1, ("no-such-original",): 1}
    assert values(found["galerly_events"], "event") == {("render",): 2, ("rendition-not-stored",): 1}
    assert values(found["galerly_response_bytes"], "result")[("miss",)] >= len(first.body)


async def test_times_are_told_in_seconds(admin: SmallAdmin) -> None:
    """The clock of the fakes moves by a second each time it is read."""
    await admin.cdn.ask(PATH)
    await admin.cdn.ask(PATH)
    found = await families(admin)
    durations = found["galerly_request_duration_seconds"]
    assert values(durations, "result", suffix="_count") == {("miss",): 1, ("hit",): 1}
    assert values(durations, "result", suffix="_sum")[("hit",)] == 1
    assert values(found["galerly_fill_duration_seconds"], "stage", suffix="_sum") == {
        ("open",): 1,
        ("render",): 1,
        ("put",): 1,
        ("head",): 1,
    }


async def test_what_is_now_and_what_runs_is_told(admin: SmallAdmin) -> None:
    found = await families(admin)
    assert found["galerly_workers"].samples[0].value == 2
    assert found["galerly_build_info"].samples[0].labels["libvips"] == "8.18"
    assert found["process_resident_memory_bytes"].samples[0].value > 0


def test_a_bound_is_part_of_its_bucket() -> None:
    tally = Histogram()
    for seconds in (0.001, 0.0011, 10.0, 11.0):
        tally.add(seconds)
    assert [tally.buckets[at] for at in (0, 1, -2, -1)] == [1, 1, 1, 1]
    assert tally.seconds == pytest.approx(21.0021)


async def test_asking_for_metrics_changes_none_of_them(admin: SmallAdmin) -> None:
    first = await families(admin)
    second = await families(admin)
    ours = [name for name in first if name.startswith("galerly_")]
    assert {name: first[name].samples for name in ours} == {name: second[name].samples for name in ours}
