"""Tests that the Prometheus metrics agree with the responses that viewers got."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from galerly_cdn.admin import composition
from galerly_cdn.admin.metric_table import EVENTS, MEANINGS
from galerly_cdn.errors import StoreUnreachable, by_code
from galerly_cdn.model import Head
from galerly_cdn.render.pool import worker_state
from galerly_cdn.settings.table import Settings
from galerly_cdn.telemetry import Histogram
from tests.support.in_memory_admin import InMemoryAdmin

if TYPE_CHECKING:
    from prometheus_client import Metric

PATH = "/resize/tiny/g/a.jpg"


@pytest.fixture
def admin() -> InMemoryAdmin:
    admin = InMemoryAdmin(Settings())
    admin.cdn.originals.put("g/a.jpg")
    return admin


async def families(admin: InMemoryAdmin) -> dict[str, Metric]:
    response = await admin.request("GET", "/metrics")
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/plain; version=1.0.0")
    return {family.name: family for family in text_string_to_metric_families(response.body.decode())}


def values(family: Metric, *labels: str, suffix: str = "_total") -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels[name] for name in labels): sample.value
        for sample in family.samples
        if sample.name == family.name + suffix
    }


def not_zero(counts: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {labels: count for labels, count in counts.items() if count}


async def test_pictures_metric_counts_by_result_size_and_format(admin: InMemoryAdmin) -> None:
    for accept in ("image/webp", "image/webp", "image/webp", "*/*"):
        await admin.cdn.ask(PATH, accept=accept)
    pictures = (await families(admin))["galerly_pictures"]
    assert values(pictures, "result", "size", "format") == {
        ("miss", "150x150", "webp"): 1,
        ("hit", "150x150", "webp"): 2,
        ("miss", "150x150", "own"): 1,
    }


async def test_pictures_metric_distinguishes_stored_and_stale(admin: InMemoryAdmin) -> None:
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


async def test_response_byte_and_error_metrics_agree_with_the_responses(admin: InMemoryAdmin) -> None:
    first = await admin.cdn.ask(PATH)
    await admin.cdn.ask(PATH, if_none_match="*")
    await admin.cdn.ask(PATH, "HEAD")
    await admin.cdn.ask("/resize/1x1/g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/none.jpg")
    admin.cdn.renditions.error = StoreUnreachable()
    await admin.cdn.ask("/resize/small/g/a.jpg")
    metrics = await families(admin)
    assert values(metrics["galerly_responses"], "status") == {
        ("200",): 3,
        ("304",): 1,
        ("403",): 1,
        ("404",): 1,
    }
    errors, events = values(metrics["galerly_errors"], "code"), values(metrics["galerly_events"], "event")
    assert not_zero(errors) == {("size-not-allowed",): 1, ("no-such-original",): 1}
    assert not_zero(events) == {("render",): 2, ("rendition-not-stored",): 1}
    assert values(metrics["galerly_response_bytes"], "result")[("miss",)] >= len(first.body)


async def test_duration_metrics_are_in_seconds(admin: InMemoryAdmin) -> None:
    """The fake clock advances by one second on each reading."""
    await admin.cdn.ask(PATH)
    await admin.cdn.ask(PATH)
    metrics = await families(admin)
    durations = metrics["galerly_request_duration_seconds"]
    assert values(durations, "result", suffix="_count") == {("miss",): 1, ("hit",): 1}
    assert values(durations, "result", suffix="_sum")[("hit",)] == 1
    assert values(metrics["galerly_fill_duration_seconds"], "stage", suffix="_sum") == {
        ("queue",): 1,
        ("open",): 1,
        ("render",): 1,
        ("put",): 1,
        ("head",): 1,
    }


async def test_render_times_and_gallery_bytes_are_exported_by_kind_and_gallery(admin: InMemoryAdmin) -> None:
    admin.telemetry.record_render("heic", 0.3)
    admin.telemetry.record_render("heic", 0.4)
    answer = await admin.cdn.ask(PATH)
    metrics = await families(admin)
    renders = metrics["galerly_render_duration_seconds"]
    assert values(renders, "kind", suffix="_count") == {("heic",): 2}
    assert values(renders, "kind", suffix="_sum")[("heic",)] == pytest.approx(0.7)
    assert values(metrics["galerly_gallery_bytes"], "gallery") == {("g",): len(answer.body)}


async def test_gauges_and_build_info_are_exported(admin: InMemoryAdmin) -> None:
    metrics = await families(admin)
    assert metrics["galerly_workers"].samples[0].value == 2
    assert values(metrics["galerly_worker_states"], "state", suffix="") == {("free",): 2}
    assert metrics["galerly_build_info"].samples[0].labels["libvips"] == "8.18"
    assert metrics["process_resident_memory_bytes"].samples[0].value > 0


def test_histogram_bucket_includes_its_upper_bound() -> None:
    tally = Histogram()
    for seconds in (0.001, 0.0011, 10.0, 11.0):
        tally.add(seconds)
    assert [tally.buckets[at] for at in (0, 1, -2, -1)] == [1, 1, 1, 1]
    assert tally.seconds == pytest.approx(21.0021)


async def test_metrics_request_does_not_change_the_metrics(admin: InMemoryAdmin) -> None:
    first = await families(admin)
    second = await families(admin)
    names = [name for name in first if name.startswith("galerly_")]
    assert {name: first[name].samples for name in names} == {name: second[name].samples for name in names}


async def test_every_metric_is_in_the_table_with_its_meaning(admin: InMemoryAdmin) -> None:
    await admin.cdn.ask(PATH)
    admin.telemetry.record_render("jpeg", 0.1)
    exported = {
        family.name + {"counter": "_total", "info": "_info"}.get(family.type, ""): family.documentation
        for family in (await families(admin)).values()
        if family.name.startswith("galerly_")
    }
    assert exported == MEANINGS


async def test_errors_and_events_are_exported_from_zero(admin: InMemoryAdmin) -> None:
    metrics = await families(admin)
    assert values(metrics["galerly_events"], "event") == {(event,): 0 for event in EVENTS}
    errors = values(metrics["galerly_errors"], "code")
    assert errors[("queue-full",)] == 0
    assert ("settings",) not in errors


def test_every_event_that_is_counted_is_in_the_table() -> None:
    """An event with the name of an error code is not exported: `galerly_errors` has only viewers' errors."""
    counted = {
        event
        for file in (Path(__file__).parents[3] / "src").rglob("*.py")
        for event in re.findall(r"""(?:count|faults\.add)\("([a-z-]+)"[,)]""", file.read_text("utf-8"))
    }
    counted |= {*worker_state._COUNTERS.values(), "facts-corrupt", "facts-unreadable", "rendition-corrupt"}
    assert counted - {"queue-full", "quarantined"} == set(EVENTS)
    assert not set(EVENTS) & set(by_code())


def test_folder_that_is_not_read_yet_has_an_unknown_size(tmp_path: Path) -> None:
    gauges = composition._folder_gauges(str(tmp_path), lambda: None)
    for name in ("galerly_renditions_bytes", "galerly_renditions_files"):
        value = gauges[name]()
        assert isinstance(value, float)
        assert math.isnan(value)


def test_disk_of_an_absent_folder_is_not_a_number(tmp_path: Path) -> None:
    assert all(math.isnan(value) for value in composition._disk_bytes(str(tmp_path / "absent")))
