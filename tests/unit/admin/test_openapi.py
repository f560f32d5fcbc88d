"""Tests the OpenAPI document: schemathesis checks a running server against it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.admin.handlers import KEY_PATTERN, PREFIX_PATTERN
from galerly_cdn.errors import MalformedKey
from galerly_cdn.http.urls import MAX_KEY_BYTES, checked_key
from galerly_cdn.settings.table import Settings
from tests.support import exhaustive
from tests.support.admin_process import AdminServer
from tests.support.in_memory_admin import InMemoryAdmin

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = exhaustive.count(25, sample=4)
"""Examples for each operation and phase."""


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[AdminServer]:
    server = AdminServer.with_store(tmp_path / "store")
    yield server
    server.stop()


@pytest.mark.exhaustive
@pytest.mark.timeout(120)
def test_server_conforms_to_its_openapi_document(admin: AdminServer, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIGURATION, "run"),
            *("--checks", "all", "--max-examples", str(EXAMPLES), "--warnings", "off", "--no-color"),
            f"http://127.0.0.1:{admin.admin_port}/openapi.json",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-10_000:]
    assert "No issues found" in result.stdout
    assert admin.request_admin("GET", "/livez").status == 200


async def openapi_document() -> Any:  # noqa: ANN401 - JSON
    return (await InMemoryAdmin(Settings()).request("GET", "/openapi.json")).json


async def test_every_operation_describes_its_responses_and_errors() -> None:
    document = await openapi_document()
    assert document["openapi"].startswith("3.1")
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert one["summary"].endswith(".")
        assert {"401", "403", "421"} < one["responses"].keys()
        assert any(status.startswith("2") for status in one["responses"])
    upload = document["paths"]["/originals/{gallery}/{photo}"]["put"]["responses"]
    assert {"201", "200", "400", "405", "409", "412", "413", "415", "503"} <= upload.keys()
    assert "`undecodable`" in upload["415"]["description"]


async def test_references_and_component_schemas_match() -> None:
    document = await openapi_document()
    text = json.dumps(document)
    names = document["components"]["schemas"]
    assert {one.partition('"')[0] for one in text.split("#/components/schemas/")[1:]} == set(names)


async def test_query_parameters_come_from_the_query_type() -> None:
    (prefix, after, limit) = (await openapi_document())["paths"]["/originals"]["get"]["parameters"]
    assert [one["name"] for one in (prefix, after, limit)] == ["prefix", "after", "limit"]
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 1000)
    assert not prefix["required"]


async def test_docs_pages_list_the_same_operations_and_metrics() -> None:
    docs = Path(__file__).parents[3] / "docs"
    page = (docs / "admin.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \| .* \| ([0-9, ]+) \|$", page, re.MULTILINE)
    paths = (await openapi_document())["paths"]
    described = {
        (method.upper(), path.replace("{gallery}/{photo}", "{key}")): one["responses"]
        for path, methods in paths.items()
        for method, one in methods.items()
    }
    assert {(method, path) for method, path, _ in rows} == described.keys()
    for method, path, statuses in rows:
        responses = described[method, path]
        successes = {one for one in responses if one.startswith("2")} | (
            {"503"} if path == "/readyz" else set()
        )
        assert set(statuses.split(", ")) == successes
    metrics = (await InMemoryAdmin(Settings()).request("GET", "/metrics")).body.decode()
    measured = set(re.findall(r"^# TYPE (galerly_\w+)", metrics, re.MULTILINE)) - {"galerly_build_info"}
    documented = set(re.findall(r"`(galerly_\w+)", (docs / "metrics.md").read_text("utf-8")))
    assert len(measured) >= 8
    assert measured <= documented


ANY_KEY = st.text(st.sampled_from("ab./\\\x00\x1f \x7f\x85é😀"), max_size=8)


def is_key(text: str) -> bool:
    try:
        checked_key(text)
    except MalformedKey:
        return False
    return True


@given(ANY_KEY)
def test_key_patterns_match_the_key_grammar(text: str) -> None:
    assert len(text.encode()) <= MAX_KEY_BYTES
    assert bool(re.search(KEY_PATTERN, text)) == is_key(text)
    assert bool(re.search(PREFIX_PATTERN, text)) == is_key(text + "x")
