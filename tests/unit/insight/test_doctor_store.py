"""Tests of the checks of a store: real folders and real S3 servers with each fault, and without one."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from galerly_cdn.app.stores import command_telemetry
from galerly_cdn.clock import Clock
from galerly_cdn.insight.doctor import store, store_facts
from galerly_cdn.insight.doctor.checks import Finding, Status, run
from galerly_cdn.model import RecipeEntry
from galerly_cdn.recipes import named_digests, recipes_of
from galerly_cdn.render.libvips_version import packaged_version
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.locations import resolve_locations
from galerly_cdn.settings.table import Settings
from galerly_cdn.store import open as store_open
from tests.support import faulty_proxy
from tests.support.faulty_proxy import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from galerly_cdn.insight.doctor.store import StoreFacts
    from tests.support.s3_servers import Objects, S3Server

PRIVATE: dict[str, Any] = {"private_prefixes": ("clients",)}
ORIGINAL = b"x" * 1000


class Fault(NamedTuple):
    """What is wrong with a store, and the result of the check."""

    status: Status
    found: str
    """A part of the phrase that names it."""
    settings: dict[str, object] = {}  # noqa: RUF012 - a named tuple's default, which nothing changes
    original: str = ""
    """The key of another original."""
    proxy: Faults = Faults()
    ahead_s: float = 0.0
    """How far this machine's clock is ahead."""
    lists: tuple[str, ...] = ()
    """The entries of the list of recipes: `own` of these settings, `other` of a newer release."""


REMOTE = {
    "store-reachable": Fault(Status.FAILED, "there is no such bucket", {"store": "s3://absent-bucket"}),
    "store-clock": Fault(Status.FAILED, "this machine's clock is 60 minutes ahead", ahead_s=3600),
    "store-writable": Fault(Status.FAILED, "AccessDenied", proxy=Faults(refused="PUT")),
    "store-creates-once": Fault(Status.FAILED, "REPLACED", proxy=Faults(ignored="if-none-match")),
    "unservable-keys": Fault(Status.WARNING, "'clients/a//b.jpg'", original="clients/a//b.jpg"),
    "oversize-originals": Fault(Status.WARNING, "clients/1.jpg", {"max_original_bytes": 999}),
    "private-prefixes": Fault(Status.WARNING, "no folder is named client", {"private_prefixes": ("client",)}),
    "store-recipes": Fault(
        Status.WARNING, "entry 2, by release 9.9, is newer than these settings", lists=("own", "other")
    ),
}
"""Faults of a bucket of a real S3 server, or of a proxy in front of it."""
FOLDER = {
    "store-reachable": Fault(Status.FAILED, "there is no folder", {"store": "{store}/absent"}),
    "store-writable": Fault(
        Status.FAILED, "Not a directory", {"renditions": "{store}/file/resized", "store": "{store}"}
    ),
    "unservable-keys": Fault(Status.WARNING, r"'clients/a\\b.jpg'", original="clients/a\\b.jpg"),
    "oversize-originals": Fault(Status.WARNING, "clients/1.jpg", {"max_original_bytes": 999}),
    "private-prefixes": Fault(
        Status.FAILED, "'Clients' is not the folder 'clients'", {"private_prefixes": ("Clients",)}
    ),
    "store-recipes": Fault(Status.WARNING, "no server has rendered by these settings", lists=("other",)),
}
"""Faults of a folder."""
FAULTS = REMOTE


def facts_of(settings: Settings, ahead_s: float = 0.0) -> StoreFacts:
    clock = Clock(lambda: time.time() + ahead_s, time.monotonic)
    return asyncio.run(store_facts.read(settings, command_telemetry(), clock))


def findings(settings: Settings, ahead_s: float = 0.0) -> dict[str, Finding]:
    return {one.check: one for one in run(store.CHECKS, facts_of(settings, ahead_s))}


def list_recipes(settings: Settings, entries: tuple[str, ...]) -> None:
    """Append entries to the list of recipes of a store."""
    own = named_digests(recipes_of(settings, packaged_version()))
    recipes = {"own": own, "other": dict.fromkeys(own, "0" * 64)}

    async def append() -> None:
        root = resolve_locations(settings, None).renditions
        clock = Clock(time.time, time.monotonic)
        listed = await store_open.open_recipes(settings, root, command_telemetry(), clock)
        for number, one in enumerate(entries, 1):
            assert await listed.append(RecipeEntry(number, recipes[one], "9.9", 0.0))

    if entries:
        asyncio.run(append())


def assert_found(fault: Fault, finding: Finding) -> None:
    assert (finding.status, fault.found in finding.found) == (fault.status, True), finding.found


@pytest.fixture
def objects(moto: S3Server) -> Objects:
    bucket = moto.bucket()
    bucket.put("originals/clients/1.jpg", ORIGINAL)
    return bucket


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "originals" / "clients").mkdir(parents=True)
    (tmp_path / "originals" / "clients" / "1.jpg").write_bytes(ORIGINAL)
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize("check", REMOTE)
def test_bucket_with_fault_is_found(check: str, objects: Objects) -> None:
    fault = REMOTE[check]
    if fault.original:
        objects.put(f"originals/{fault.original}", ORIGINAL)
    port = int(objects.server.endpoint.rpartition(":")[2])
    with faulty_proxy.running(port, fault.proxy) as endpoint:
        settings = objects.settings(store_endpoint=endpoint, **{**PRIVATE, **fault.settings})
        list_recipes(settings, fault.lists)
        assert_found(fault, findings(settings, fault.ahead_s)[check])


@pytest.mark.parametrize("check", REMOTE)
def test_bucket_without_fault_is_ok(check: str, objects: Objects) -> None:
    finding = findings(objects.settings(**PRIVATE))[check]
    assert finding.status is Status.OK, finding.found
    assert objects.names() == ["originals/clients/1.jpg"], "what the check stored is removed"


@pytest.mark.parametrize("check", FOLDER)
def test_folder_with_fault_is_found(check: str, folder: Path) -> None:
    fault = FOLDER[check]
    if fault.original:
        (folder / "originals" / fault.original).write_bytes(ORIGINAL)
    changed = {
        name: value.format(store=folder) if isinstance(value, str) else value
        for name, value in fault.settings.items()
    }
    settings = replaced(Settings(store=str(folder), **PRIVATE), **changed)
    list_recipes(settings, fault.lists)
    assert_found(fault, findings(settings)[check])


@pytest.mark.parametrize("check", FOLDER)
def test_folder_without_fault_is_ok(check: str, folder: Path) -> None:
    finding = findings(Settings(store=str(folder), **PRIVATE))[check]
    assert finding.status is Status.OK, finding.found
    assert sorted(one.name for one in folder.rglob("*")) == ["1.jpg", "clients", "file", "originals"]


@pytest.mark.parametrize("lists", [("own",), ("other", "own")], ids=["alone", "after a rollback"])
def test_folder_with_current_recipes_is_ok(folder: Path, lists: tuple[str, ...]) -> None:
    settings = Settings(store=str(folder))
    list_recipes(settings, lists)
    finding = findings(settings)["store-recipes"]
    assert (finding.status, "are current" in finding.found) == (Status.OK, True), finding.found


def test_folder_list_of_recipes_that_cannot_be_read_is_found(folder: Path) -> None:
    (folder / "resized" / "recipes" / "00000001.json").mkdir(parents=True)
    finding = findings(Settings(store=str(folder)))["store-recipes"]
    assert (finding.status, "cannot be read" in finding.found) == (Status.FAILED, True), finding.found


def test_folder_hidden_files_are_no_originals(folder: Path) -> None:
    (folder / "originals" / ".DS_Store").write_bytes(b"x" * 2000)
    assert "the largest of 1 originals" in findings(Settings(store=str(folder)))["oversize-originals"].found


@pytest.mark.parametrize(
    ("prefixes", "sample"), [((), "clients/1.jpg"), (("clients",), "open/2.jpg"), (("/",), "")]
)
def test_folder_sample_is_a_photograph_without_signature(
    folder: Path, prefixes: tuple[str, ...], sample: str
) -> None:
    (folder / "originals" / "a-note.txt").write_text("no photograph")
    (folder / "originals" / "open").mkdir()
    (folder / "originals" / "open" / "2.jpg").write_bytes(ORIGINAL)
    contents = facts_of(Settings(store=str(folder), private_prefixes=prefixes)).contents
    assert contents
    assert contents.sample == sample


def test_bucket_long_listing_says_that_it_is_not_complete(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_facts, "_MAX_LISTED", 1)
    objects.put("originals/clients/2.jpg", ORIGINAL)
    assert "the first 1 originals" in findings(objects.settings())["unservable-keys"].found


def test_bucket_unreachable_store_is_found_and_skips_the_others() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens on it
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        settings = Settings(store="s3://photographs", store_endpoint=endpoint, store_deadline_s=1)
        found = findings(settings)
    assert found.pop("store-reachable").status is Status.FAILED
    assert {one.status for one in found.values()} == {Status.NOT_APPLICABLE}
