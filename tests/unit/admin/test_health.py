"""Tests the liveness and readiness checks: failing parts, draining, and reuse of results."""

from __future__ import annotations

import asyncio
import json

import pytest

from galerly_cdn.admin import health
from galerly_cdn.errors import (
    ClockSkewed,
    GalerlyError,
    MethodNotAllowed,
    QueueFull,
    RenderTimeout,
    StoreRefused,
    StoreUnreachable,
)
from galerly_cdn.http.exchange import Exchange
from galerly_cdn.http.request import empty_scope
from galerly_cdn.model import RecipeEntry
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import TOKEN, InMemoryAdmin


@pytest.fixture
def admin() -> InMemoryAdmin:
    return InMemoryAdmin(Settings())


async def test_livez_with_failing_store_and_workers_answers_200(admin: InMemoryAdmin) -> None:
    admin.cdn.originals.error = StoreUnreachable()
    admin.renderer.error = RenderTimeout()
    response = await admin.request("GET", "/livez")
    assert (response.status, response.json) == (200, {"live": True})
    assert (admin.cdn.originals.heads, admin.renderer.renders) == (0, 0)


async def test_readyz_renders_a_picture_and_heads_the_store(admin: InMemoryAdmin) -> None:
    response = await admin.request("GET", "/readyz")
    assert response.status == 200
    assert response.json == {"ready": True, "render": "ok", "store": "ok", "listener": "ok"}
    assert (admin.cdn.originals.heads, admin.renderer.renders) == (1, 1)


@pytest.mark.parametrize("error", [StoreUnreachable("secret"), StoreRefused("secret"), ClockSkewed("secret")])
async def test_readyz_with_failing_store_answers_503_with_its_code(
    admin: InMemoryAdmin, error: GalerlyError
) -> None:
    admin.cdn.originals.error = error
    response = await admin.request("GET", "/readyz")
    assert response.status == 503
    assert response.json == {"ready": False, "render": "ok", "store": error.code, "listener": "ok"}


async def test_readyz_with_failing_workers_answers_503_with_the_code(admin: InMemoryAdmin) -> None:
    admin.renderer.error = RenderTimeout("secret")
    response = await admin.request("GET", "/readyz")
    assert (response.status, response.json["render"], response.json["store"]) == (503, "render-timeout", "ok")


async def test_readyz_with_full_queue_answers_200(admin: InMemoryAdmin) -> None:
    admin.renderer.error = QueueFull()
    assert (await admin.request("GET", "/readyz")).status == 200


async def test_readyz_after_check_timeout_answers_late(
    admin: InMemoryAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_CHECK_TIMEOUT_S", 0)
    admin.renderer.gate.close()
    response = await admin.request("GET", "/readyz")
    assert (response.status, response.json["render"], response.json["store"]) == (503, "late", "ok")


async def test_readyz_while_draining_answers_503_without_a_new_check(admin: InMemoryAdmin) -> None:
    await admin.request("GET", "/readyz")
    admin.health.drain()
    response = await admin.request("GET", "/readyz")
    assert (response.status, response.json["listener"], response.json["render"]) == (503, "draining", "ok")
    assert (await admin.request("GET", "/livez")).status == 200


async def test_readyz_result_is_reused_for_five_seconds(admin: InMemoryAdmin) -> None:
    for at_s, renders in [(0.0, 1), (4.9, 1), (5.0, 2), (9.9, 2), (10.1, 3)]:
        admin.now_s = at_s
        await admin.request("GET", "/readyz")
        assert admin.renderer.renders == renders


async def test_concurrent_readyz_requests_share_one_render(admin: InMemoryAdmin) -> None:
    admin.renderer.gate.close()
    requests = [asyncio.ensure_future(admin.request("GET", "/readyz")) for _ in range(20)]
    await admin.renderer.gate.arrival()
    admin.renderer.gate.open()
    assert {response.status for response in await asyncio.gather(*requests)} == {200}
    assert admin.renderer.renders == 1


async def test_readyz_uses_a_new_token_for_each_check(admin: InMemoryAdmin) -> None:
    for at_s in (0.0, 5.0, 10.0):
        admin.now_s = at_s
        await admin.request("GET", "/readyz")
    assert len(set(admin.renderer.tokens)) == 3


async def test_readyz_warns_of_private_prefixes_without_a_folder_until_there_is_one() -> None:
    admin = InMemoryAdmin(Settings(private_prefixes=("clients", "other")))
    admin.cdn.originals.put("other/smith/1.jpg")
    await admin.prefixes.check()
    response = await admin.request("GET", "/readyz")
    assert response.status == 200
    assert response.json["warnings"] == [
        "private_prefixes: there is no folder 'clients' yet; check its spelling"
    ]
    admin.cdn.originals.put("clients/smith/1.jpg")
    admin.now_s = 5.0
    assert "warnings" not in (await admin.request("GET", "/readyz")).json


@pytest.mark.parametrize(
    ("is_local", "headers", "has_warnings"),
    [
        (False, {}, False),
        (False, {"host": "10.1.2.3:8001", "user-agent": "kube-probe/1.34"}, False),
        (False, {"authorization": "Bearer wrong"}, False),
        (False, {"authorization": f"Bearer {TOKEN}"}, True),
        (True, {"host": "attacker.example"}, False),
        (True, {"origin": "https://attacker.example"}, False),
        (True, {}, True),
    ],
)
async def test_readyz_tells_its_warnings_to_authenticated_clients_only(
    headers: dict[str, str], *, is_local: bool, has_warnings: bool
) -> None:
    admin = InMemoryAdmin(Settings(private_prefixes=("secret-folder",)), tokens=(TOKEN,), is_local=is_local)
    await admin.prefixes.check()
    response = await admin.request("GET", "/readyz", headers=headers)
    assert response.status == 200
    assert ("secret-folder" in response.body.decode()) == has_warnings


async def test_readyz_of_a_process_with_older_recipes_is_ready_and_names_the_command() -> None:
    admin = InMemoryAdmin(Settings())
    listed = admin.cdn.renditions.listed
    await admin.cdn.listed.refresh()
    listed.append(RecipeEntry(2, dict.fromkeys(listed[0].recipes, "newer"), "9.9"))
    await admin.cdn.listed.refresh()
    response = await admin.request("GET", "/readyz")
    assert response.status == 200
    (warning,) = response.json["warnings"]
    assert "older" in warning
    assert "release 9.9" in warning
    assert "`galerly-cdn store rollback`" in warning
    await admin.cdn.listed.rollback()
    assert "warnings" not in (await admin.request("GET", "/readyz")).json


async def exchanged(admin: InMemoryAdmin, method: str, health_path: str, path: str) -> tuple[int, object]:
    """Status and value of a check on the public port; 0 if the path is not one."""
    handler = admin.health.public_handler(health_path, path.encode())
    if handler is None:
        return 0, None
    response = await handler(Exchange({**empty_scope(), "method": method}, "1"))
    return response.status, json.loads(response.body)


async def test_health_path_puts_the_checks_on_the_public_port_without_warnings() -> None:
    admin = InMemoryAdmin(Settings(private_prefixes=("secret-folder",)))
    await admin.prefixes.check()
    assert await exchanged(admin, "GET", "/health", "/health/livez") == (200, {"live": True})
    ready = {"ready": True, "render": "ok", "store": "ok", "listener": "ok"}
    assert await exchanged(admin, "HEAD", "/health", "/health/readyz") == (200, ready)
    admin.health.drain()
    assert (await exchanged(admin, "GET", "/a/b", "/a/b/readyz"))[0] == 503
    with pytest.raises(MethodNotAllowed):
        await exchanged(admin, "POST", "/health", "/health/livez")
    for health_path, path in [
        ("", "/livez"), ("", "livez"), ("/health", "/livez"), ("/health", "/health"), ("/health", "/health/"),
        ("/health", "/health/metrics"), ("/health", "/healthlivez"), ("/health", "/health/livez/"),
    ]:  # fmt: skip
        assert await exchanged(admin, "GET", health_path, path) == (0, None), path
