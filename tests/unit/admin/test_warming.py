"""A gallery's pictures made side by side and told in order; an upload's in the background."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from galerly_cdn.errors import Undecodable, Unsettled
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import SmallAdmin
from tests.support.in_memory_cdn import Gate

PICTURES = 12


@pytest.fixture
def admin() -> SmallAdmin:
    return SmallAdmin(Settings())


async def filled(admin: SmallAdmin, *keys: str) -> None:
    """Upload, and look at what comes after that alone."""
    for key in keys:
        await admin.put(key)
    admin.decoder.renders = 0
    admin.decoder.gate = Gate()


async def test_a_gallery_is_told_in_the_order_of_its_keys(admin: SmallAdmin) -> None:
    await filled(admin, *(f"g/{number}" for number in range(5)), "gg/0")
    told = await admin.ask("POST", "/warm?gallery=g")
    assert [one["key"] for one in told.lines] == [
        f"g/{number}" for number in range(5) for _ in range(PICTURES)
    ]
    assert admin.decoder.renders == 5 * PICTURES


async def test_it_goes_on_after_a_key(admin: SmallAdmin) -> None:
    await filled(admin, "g/a", "g/b", "g/c")
    told = await admin.ask("POST", "/warm?gallery=g&after=g/b")
    assert {one["key"] for one in told.lines} == {"g/c"}


async def test_originals_are_warmed_side_by_side_and_not_all_at_once(admin: SmallAdmin) -> None:
    await filled(admin, "g/a", "g/b", "g/c")
    admin.decoder.gate.close()
    asked = asyncio.ensure_future(admin.ask("POST", "/warm?gallery=g"))
    for _ in range(2):
        await admin.decoder.gate.arrival()
    assert len(admin.decoder.jobs) == 2
    admin.decoder.gate.open()
    assert len((await asked).lines) == 3 * PICTURES


async def test_one_that_cannot_be_shown_holds_nobody_up(admin: SmallAdmin) -> None:
    await filled(admin, "g/a", "g/b")
    await admin.ask("POST", "/warm/g/a")
    admin.decoder.error = Undecodable("secret")
    told = await admin.ask("POST", "/warm?gallery=g")
    assert told.lines[-1]["key"] == "g/b"
    assert told.lines[-1]["error"]["code"] == "undecodable"
    assert len(told.lines) == PICTURES + 1
    assert b"secret" not in told.body


async def test_a_server_that_cannot_go_on_ends_the_lines_with_the_reason(admin: SmallAdmin) -> None:
    await filled(admin, "g/a", "g/b")
    await admin.ask("POST", "/warm/g/a")
    admin.decoder.error = Unsettled()
    told = await admin.ask("POST", "/warm?gallery=g")
    assert [one["was_there"] for one in told.lines[:-1]] == [True] * PICTURES
    assert told.lines[-1]["key"] == "g"
    assert told.lines[-1]["error"]["code"] == "unsettled"


async def test_a_client_that_leaves_ends_the_work(admin: SmallAdmin) -> None:
    await filled(admin, "g/a", "g/b", "g/c")
    admin.decoder.gate.close()
    asked = asyncio.ensure_future(admin.ask("POST", "/warm?gallery=g"))
    await admin.decoder.gate.arrival()
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked
    admin.decoder.gate.open()
    assert admin.decoder.warms_ended == len(admin.decoder.jobs)
    assert admin.decoder.warms_ended < 3


async def test_an_upload_is_warmed_if_the_setting_says_so() -> None:
    admin = SmallAdmin(Settings(warm_on_upload=True), at_once=1)
    admin.decoder.gate.close()
    uploads = [asyncio.ensure_future(admin.put(f"g/{number}")) for number in range(3)]
    for _ in uploads:
        await admin.decoder.gate.arrival()
    admin.decoder.gate.open()
    assert [one.status for one in await asyncio.gather(*uploads)] == [201] * 3
    await asyncio.gather(*admin.warming._runners)
    assert len(admin.cdn.renditions.kept) == 3 * PICTURES
    assert admin.warming._runners == set()


async def test_without_it_nothing_is_made_that_nobody_asked_for(admin: SmallAdmin) -> None:
    await admin.put("g/a")
    assert admin.warming._runners == set()
    assert admin.cdn.renditions.kept == {}


async def test_what_cannot_be_warmed_in_the_background_is_counted_and_passed_over() -> None:
    admin = SmallAdmin(Settings(warm_on_upload=True), at_once=1)
    admin.warming.soon("g/none")
    await admin.put("g/a")
    await asyncio.gather(*admin.warming._runners)
    assert admin.cdn.counters.snapshot()["warm-failed"] == 1
    assert len(admin.cdn.renditions.kept) == PICTURES


async def test_more_than_can_wait_is_left_to_those_who_ask(
    admin: SmallAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("galerly_cdn.admin.warming._MAX_WAITING", 2)
    for number in range(4):
        admin.warming.soon(f"g/{number}")
    assert admin.cdn.counters.snapshot()["warm-dropped"] == 2
    await admin.warming.close()


async def test_the_end_of_the_process_waits_for_no_background_work() -> None:
    admin = SmallAdmin(Settings(warm_on_upload=True), at_once=1)
    await admin.put("g/a")
    admin.decoder.gate.close()
    for _ in range(2):  # the upload's own, and the first of the warming
        await admin.decoder.gate.arrival()
    await admin.warming.close()
    assert admin.warming._runners == set()
    assert admin.decoder.warms_ended == 1
