"""Alive and ready: what each says of a part that fails, and how often it asks."""

from __future__ import annotations

import asyncio

import pytest

from galerly_cdn.admin import health
from galerly_cdn.errors import GalerlyError, QueueFull, RenderTimeout, StoreRefused, StoreUnreachable
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import SmallAdmin


@pytest.fixture
def admin() -> SmallAdmin:
    return SmallAdmin(Settings())


async def test_alive_asks_nothing_of_what_we_stand_on(admin: SmallAdmin) -> None:
    admin.cdn.originals.error = StoreUnreachable()
    admin.decoder.error = RenderTimeout()
    told = await admin.ask("GET", "/livez")
    assert (told.status, told.json) == (200, {"live": True})
    assert (admin.cdn.originals.heads, admin.decoder.renders) == (0, 0)


async def test_ready_has_rendered_a_picture_and_reached_the_store(admin: SmallAdmin) -> None:
    told = await admin.ask("GET", "/readyz")
    assert told.status == 200
    assert told.json == {"ready": True, "render": "ok", "store": "ok", "listener": "ok"}
    assert (admin.cdn.originals.heads, admin.decoder.renders) == (1, 1)


@pytest.mark.parametrize("error", [StoreUnreachable("secret"), StoreRefused("secret")])
async def test_a_store_that_fails_is_named(admin: SmallAdmin, error: GalerlyError) -> None:
    admin.cdn.originals.error = error
    told = await admin.ask("GET", "/readyz")
    assert told.status == 503
    assert told.json == {"ready": False, "render": "ok", "store": error.code, "listener": "ok"}


async def test_workers_that_fail_are_named(admin: SmallAdmin) -> None:
    admin.decoder.error = RenderTimeout("secret")
    told = await admin.ask("GET", "/readyz")
    assert (told.status, told.json["render"], told.json["store"]) == (503, "render-timeout", "ok")


async def test_busy_workers_are_ready(admin: SmallAdmin) -> None:
    admin.decoder.error = QueueFull()
    assert (await admin.ask("GET", "/readyz")).status == 200


async def test_a_part_that_does_not_answer_is_late(
    admin: SmallAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_PATIENCE_S", 0)
    admin.decoder.gate.close()
    told = await admin.ask("GET", "/readyz")
    assert (told.status, told.json["render"], told.json["store"]) == (503, "late", "ok")


async def test_a_stop_is_told_at_once(admin: SmallAdmin) -> None:
    await admin.ask("GET", "/readyz")
    admin.health.drain()
    told = await admin.ask("GET", "/readyz")
    assert (told.status, told.json["listener"], told.json["render"]) == (503, "draining", "ok")
    assert (await admin.ask("GET", "/livez")).status == 200


async def test_what_was_found_holds_for_five_seconds(admin: SmallAdmin) -> None:
    for at_s, renders in [(0.0, 1), (4.9, 1), (5.0, 2), (9.9, 2), (10.1, 3)]:
        admin.now_s = at_s
        await admin.ask("GET", "/readyz")
        assert admin.decoder.renders == renders


async def test_any_number_who_ask_are_one_render(admin: SmallAdmin) -> None:
    admin.decoder.gate.close()
    asked = [asyncio.ensure_future(admin.ask("GET", "/readyz")) for _ in range(20)]
    await admin.decoder.gate.arrival()
    admin.decoder.gate.open()
    assert {told.status for told in await asyncio.gather(*asked)} == {200}
    assert admin.decoder.renders == 1


async def test_two_deaths_of_workers_do_not_hold_the_check_in_quarantine(admin: SmallAdmin) -> None:
    for at_s in (0.0, 5.0, 10.0):
        admin.now_s = at_s
        await admin.ask("GET", "/readyz")
    assert len(set(admin.decoder.tokens)) == 3
