"""Tests warming: a gallery's renditions in key order and concurrently, an upload's in the background."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from galerly_cdn.errors import Undecodable, Unsettled
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import InMemoryAdmin
from tests.support.in_memory_cdn import Gate

RENDITIONS = 12


@pytest.fixture
def admin() -> InMemoryAdmin:
    return InMemoryAdmin(Settings())


async def upload(admin: InMemoryAdmin, *keys: str) -> None:
    """Upload originals, then reset the renderer's counts."""
    for key in keys:
        await admin.put(key)
    admin.renderer.renders = 0
    admin.renderer.gate = Gate()


async def test_warm_gallery_answers_in_key_order(admin: InMemoryAdmin) -> None:
    await upload(admin, *(f"g/{number}" for number in range(5)), "gg/0")
    response = await admin.request("POST", "/warm?gallery=g")
    assert [one["key"] for one in response.lines] == [
        f"g/{number}" for number in range(5) for _ in range(RENDITIONS)
    ]
    assert admin.renderer.renders == 5 * RENDITIONS


async def test_warm_gallery_with_after_warms_later_keys_only(admin: InMemoryAdmin) -> None:
    await upload(admin, "g/a", "g/b", "g/c")
    response = await admin.request("POST", "/warm?gallery=g&after=g/b")
    assert {one["key"] for one in response.lines} == {"g/c"}


async def test_warm_gallery_warms_a_limited_number_of_originals_at_once(admin: InMemoryAdmin) -> None:
    await upload(admin, "g/a", "g/b", "g/c")
    admin.renderer.gate.close()
    request = asyncio.ensure_future(admin.request("POST", "/warm?gallery=g"))
    for _ in range(2):
        await admin.renderer.gate.arrival()
    assert len(admin.renderer.jobs) == 2
    admin.renderer.gate.open()
    assert len((await request).lines) == 3 * RENDITIONS


async def test_warm_gallery_with_undecodable_original_warms_the_others(admin: InMemoryAdmin) -> None:
    await upload(admin, "g/a", "g/b")
    await admin.request("POST", "/warm/g/a")
    admin.renderer.error = Undecodable("secret")
    response = await admin.request("POST", "/warm?gallery=g")
    assert response.lines[-1]["key"] == "g/b"
    assert response.lines[-1]["error"]["code"] == "undecodable"
    assert len(response.lines) == RENDITIONS + 1
    assert b"secret" not in response.body


async def test_warm_gallery_that_cannot_continue_ends_with_an_error_line(admin: InMemoryAdmin) -> None:
    await upload(admin, "g/a", "g/b")
    await admin.request("POST", "/warm/g/a")
    admin.renderer.error = Unsettled()
    response = await admin.request("POST", "/warm?gallery=g")
    assert [one["was_there"] for one in response.lines[:-1]] == [True] * RENDITIONS
    assert response.lines[-1]["key"] == "g"
    assert response.lines[-1]["error"]["code"] == "unsettled"


async def test_warm_gallery_after_disconnect_stops_rendering(admin: InMemoryAdmin) -> None:
    await upload(admin, "g/a", "g/b", "g/c")
    admin.renderer.gate.close()
    request = asyncio.ensure_future(admin.request("POST", "/warm?gallery=g"))
    await admin.renderer.gate.arrival()
    request.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await request
    admin.renderer.gate.open()
    assert admin.renderer.warms_ended == len(admin.renderer.jobs)
    assert admin.renderer.warms_ended < 3


async def test_upload_with_warm_on_upload_is_warmed() -> None:
    admin = InMemoryAdmin(Settings(warm_on_upload=True), concurrency=1)
    admin.renderer.gate.close()
    uploads = [asyncio.ensure_future(admin.put(f"g/{number}")) for number in range(3)]
    for _ in uploads:
        await admin.renderer.gate.arrival()
    admin.renderer.gate.open()
    assert [one.status for one in await asyncio.gather(*uploads)] == [201] * 3
    await asyncio.gather(*admin.warmer._tasks)
    assert len(admin.cdn.renditions.kept) == 3 * RENDITIONS
    assert admin.warmer._tasks == set()


async def test_upload_without_warm_on_upload_renders_nothing(admin: InMemoryAdmin) -> None:
    await admin.put("g/a")
    assert admin.warmer._tasks == set()
    assert admin.cdn.renditions.kept == {}


async def test_background_warming_failure_is_counted_and_skipped() -> None:
    admin = InMemoryAdmin(Settings(warm_on_upload=True), concurrency=1)
    admin.warmer.enqueue("g/none")
    await admin.put("g/a")
    await asyncio.gather(*admin.warmer._tasks)
    assert admin.cdn.counters.snapshot()["warm-failed"] == 1
    assert len(admin.cdn.renditions.kept) == RENDITIONS


async def test_background_warming_with_full_queue_drops_the_upload(
    admin: InMemoryAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("galerly_cdn.admin.warming._MAX_QUEUED", 2)
    for number in range(4):
        admin.warmer.enqueue(f"g/{number}")
    assert admin.cdn.counters.snapshot()["warm-dropped"] == 2
    await admin.warmer.close()


async def test_close_cancels_background_warming() -> None:
    admin = InMemoryAdmin(Settings(warm_on_upload=True), concurrency=1)
    await admin.put("g/a")
    admin.renderer.gate.close()
    for _ in range(2):  # the upload's own render, and the first of the warming
        await admin.renderer.gate.arrival()
    await admin.warmer.close()
    assert admin.warmer._tasks == set()
    assert admin.renderer.warms_ended == 1
