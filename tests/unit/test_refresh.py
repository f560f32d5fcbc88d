"""Tests the refresh of fronts and nodes, against simulated ones: order, limits, and what failures tell."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from galerly_cdn import refresh
from galerly_cdn.errors import SettingsError
from galerly_cdn.http import front_refresh
from galerly_cdn.http.front_refresh import Entry
from galerly_cdn.http.urls import format_path
from galerly_cdn.model import Format, Size, Target
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "a-token-of-at-least-32-characters"
KEY = "g/ä?.jpg"
FRONT = "http://10.0.0.8"
NODE = "http://10.0.0.1:8001"
SMALL, LARGE = Target(Size(150, 150)), Target(Size(800, 600), Format.WEBP)
TARGETS = [LARGE, SMALL, Target(Size(400, 400))]


@dataclass
class Machines:
    """A front and a node; `entries` are the front's, by path."""

    entries: dict[str, Entry] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """`METHOD path` of requests with the secret, and those to the node."""
    told: Entry = Entry.DROPPED
    """What the front tells of an entry that it was to drop."""
    in_progress: int = 0
    most_in_progress: int = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        self.asked.append(f"{request.method} {path}")
        if request.url.host == "10.0.0.1":
            return self._node(request)
        self.in_progress += 1
        self.most_in_progress = max(self.most_in_progress, self.in_progress)
        await asyncio.sleep(0)
        self.in_progress -= 1
        if front_refresh.HEADER not in request.headers:
            return httpx.Response(200, headers={"ETag": '"new"'})
        if request.headers[front_refresh.HEADER] != front_refresh.secret(TOKEN):
            return httpx.Response(400)
        if request.method == "HEAD":
            entry = self.entries.get(path, Entry.ABSENT)
            return httpx.Response(503, headers={front_refresh.HEADER: entry})
        self.entries.pop(path, None)
        return httpx.Response(503, headers={front_refresh.HEADER: self.told})

    def _node(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        return httpx.Response(200, content=json.dumps({"key": KEY, "removed": ["150x150"], "version": ""}))


async def refreshed(
    answer: Callable[[httpx.Request], object], token: str = TOKEN, **values: object
) -> list[dict[str, object]]:
    """The result of a refresh, as JSON has it."""
    given = {"fronts": (FRONT,), "nodes": (NODE,), **values}
    settings = Settings(**given)  # type: ignore[arg-type]  # the caller names fields
    transport = httpx.MockTransport(answer)  # type: ignore[arg-type]  # asynchronous ones are accepted
    async with refresh.Refresher(settings, token, transport=transport) as refresher:
        results = await refresher.refresh(KEY, TARGETS)
    return [{name: getattr(one, name) for name in one.__struct_fields__} for one in results]


async def test_nodes_forget_before_the_entries_of_fronts_are_dropped() -> None:
    held = {format_path(SMALL, KEY): Entry.STALE, format_path(LARGE, KEY): Entry.FRESH}
    machines = Machines(entries=dict(held))
    node, front = await refreshed(machines.answer)
    assert node == {
        "kind": "node",
        "address": NODE,
        "dropped": ("150x150",),
        "found": "absent",
        "problem": "",
    }
    assert front == {
        "kind": "front",
        "address": FRONT,
        "dropped": ("150x150", "800x600.webp"),
        "found": '200 "new"',
        "problem": "",
    }
    assert machines.asked[0] == "POST /forget/g/%C3%A4%3F.jpg"
    drops = [one for one in machines.asked if one.startswith("GET")]
    assert drops == [f"GET {path}" for path in held]
    assert machines.entries == {}


async def test_front_without_a_fresh_entry_is_not_asked_for_a_picture() -> None:
    _, front = await refreshed(Machines().answer)
    assert (front["dropped"], front["found"], front["problem"]) == ((), "", "")


async def test_entry_that_could_not_be_dropped_is_named() -> None:
    machines = Machines(entries={format_path(LARGE, KEY): Entry.FRESH}, told=Entry.ABSENT)
    _, front = await refreshed(machines.answer)
    assert (front["dropped"], front["problem"]) == ((), "it still has 800x600.webp")


async def test_front_that_drops_by_key_is_asked_once() -> None:
    machines = Machines(entries={format_path(SMALL, KEY): Entry.TOGETHER})
    _, front = await refreshed(machines.answer)
    assert (front["dropped"], front["found"]) == (("all",), '200 "new"')
    assert [one.split()[0] for one in machines.asked] == ["POST", "HEAD", "GET", "HEAD"]


async def test_front_that_refuses_the_secret_is_asked_once() -> None:
    machines = Machines()
    _, front = await refreshed(machines.answer, nodes=(), fronts=(FRONT, FRONT), token=TOKEN[::-1])
    assert "does not accept the secret" in str(front["problem"])
    assert len(machines.asked) == 2


async def test_front_or_node_that_fails_does_not_keep_the_others_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines = Machines(entries={format_path(SMALL, KEY): Entry.FRESH})
    monkeypatch.setattr(refresh, "_DEADLINE_S", 0.2)

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "10.0.0.9":
            raise httpx.ConnectError("refused")
        if request.url.host == "10.0.0.7":
            await asyncio.Event().wait()
        return await machines.answer(request)

    results = await refreshed(
        answer,
        fronts=("http://10.0.0.9", "http://10.0.0.7", FRONT),
        nodes=("http://10.0.0.9", "http://10.0.0.7", NODE),
    )
    problems = [str(one["problem"]).partition(":")[0] for one in results]
    assert problems == [
        "cdn-unreachable",
        "it did not answer within 0 s",
        "",
        "it cannot be reached",
        "it did not answer within 0 s",
        "",
    ]
    assert results[5]["dropped"] == ("150x150",)


async def test_front_or_node_that_did_not_answer_is_asked_again_after_half_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refresh, "_DEADLINE_S", 0.01)
    now_s, asked = 100.0, []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "10.0.0.9":
            raise httpx.ConnectTimeout("switched off")
        await asyncio.Event().wait()
        raise AssertionError

    settings = Settings(fronts=(FRONT, "http://10.0.0.9"), nodes=(NODE,))
    transport = httpx.MockTransport(answer)
    problems = []
    async with refresh.Refresher(settings, TOKEN, transport=transport, clock=lambda: now_s) as refresher:
        for later_s in (0, 29, 2):  # 31 s after the first
            now_s += later_s
            problems.append([one.problem for one in await refresher.refresh(KEY, TARGETS)])
    assert Counter(asked) == {"10.0.0.1": 2, "10.0.0.8": 2, "10.0.0.9": 2}
    assert problems[0] == problems[2]
    assert set(problems[1]) == {"it was not asked, because it did not answer a moment ago"}


async def test_few_requests_to_a_front_are_in_progress_at_once() -> None:
    machines = Machines()
    many = [Target(Size(side, side)) for side in range(1, 100)]
    transport = httpx.MockTransport(machines.answer)
    async with refresh.Refresher(Settings(fronts=(FRONT,)), TOKEN, transport=transport) as refresher:
        await asyncio.gather(*(refresher.refresh(f"g/{number}", many) for number in range(4)))
    assert machines.most_in_progress == 8


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("", "fronts: they accept no request without a secret"),
        (TOKEN[:31], "fronts: the admin API's token has fewer than 32 characters"),
    ],
)
def test_fronts_without_a_long_token_are_refused(token: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        refresh.Refresher(Settings(fronts=(FRONT,)), token)
