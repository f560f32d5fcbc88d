"""The queries of docs/logs.md: jq's answers are those of a report; the others name fields that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from galerly_cdn.insight.figures import MIN_SWEEP
from galerly_cdn.telemetry import AccessRecord
from tests.support.logs import access_line, report_on

PAGE = (Path(__file__).parents[2] / "docs" / "logs.md").read_text("utf-8")
QUESTIONS = ["Hit ratio", "Slowest originals", "Errors by reason", "Sweeps", "Bytes by gallery"]
SECTIONS = dict(re.findall(r"^### (.+?)$.*?```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
FIELDS = {*AccessRecord.__struct_fields__, "stages_ms.render"}
LINES = (
    access_line("coast/1.jpg"),
    access_line("coast/1.jpg", cache="hit; detail=store", bytes=70),
    access_line("coast/day 1/2.jpg", cache="fwd=uri-miss; stored", render_ms=400.0, bytes=500),
    access_line("coast/day 1/2.jpg", cache="fwd=stale; stored", render_ms=900.0, bytes=300),
    access_line("forest/ä.jpg", cache="fwd=uri-miss; stored", render_ms=50.0, bytes=2**40),
    access_line("coast/1.jpg", cache="", status=499, reason="disconnected"),
    access_line("coast/1.jpg", cache="", size="", format="", status=503, reason="queue-full"),
    access_line(
        "", cache="", size="", format="", status=403, reason="size-not-allowed", path="/resize/1x1/a"
    ),
    *(
        access_line(f"coast/{number}", cache="", status=404, reason="no-such-original", client=client)
        for client, times in {"192.0.2.1": MIN_SWEEP, "192.0.2.2": MIN_SWEEP - 1}.items()
        for number in [*range(times), 0]
    ),
    b'{"time_s":1.0,"action":"PUT /originals/{key}","outcome":"conflict","status":409}',
    b"galerly-cdn serves http://127.0.0.1:8000/",
)


def queries(section: str) -> dict[str, str]:
    """The queries of a section, by their questions."""
    return dict(re.findall(r"^# (.+?)\n(.+?)(?:\n\n|\Z)", SECTIONS[section], re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    (folder / "access.log").write_bytes(b"\n".join(LINES) + b"\n")
    return folder / "access.log"


@pytest.mark.server("jq")
def test_answers_of_jq_are_those_of_a_report(log: Path) -> None:
    answers = {}
    for question, query in queries("jq").items():
        command = ["sh", "-c", query]
        done = subprocess.run(command, cwd=log.parent, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), question
        answers[question] = [json.loads(line) for line in done.stdout.splitlines()]
    report = report_on(log)
    galleries: dict[str, Any] = {one.name: one.bytes for one in report.by_gallery}
    assert list(answers) == QUESTIONS
    assert answers["Hit ratio"] == [report.hit_ratio]
    assert answers["Slowest originals"] == [
        {"key": one.key, "renders": one.renders, "max_ms": one.max_ms} for one in report.slowest_originals
    ]
    assert {one["reason"]: one["times"] for one in answers["Errors by reason"]} == {
        one.reason: one.requests for one in report.by_reason
    }
    assert answers["Sweeps"] == [{"client": one.client, "different": one.different} for one in report.sweeps]
    assert {one["gallery"]: one["bytes"] for one in answers["Bytes by gallery"]} == galleries


def test_queries_of_loki_take_fields_of_a_line() -> None:
    assert list(queries("Loki")) == QUESTIONS
    for question, query in queries("Loki").items():
        taken = dict(
            pair
            for stage in re.findall(r"\| json ([^|]+)", query)
            for pair in re.findall(r'(\w+)="(.+?)"', stage)
        )
        assert set(taken.values()) <= FIELDS, question
        assert query.count("(") == query.count(")")
        filtered = re.findall(r"\| (\w+) ?[!=<>]", query) + re.findall(r"unwrap (\w+)", query)
        assert filtered
        assert set(filtered) <= set(taken), question


def test_queries_of_cloudwatch_read_fields_of_a_line() -> None:
    words = {
        "filter",
        "ispresent",
        "and",
        "fields",
        "strcontains",
        "as",
        "stats",
        "avg",
        "max",
        "count",
        "by",
    }
    words |= {"sort", "desc", "limit", "count_distinct", "parse", "sum"}
    assert list(queries("CloudWatch Logs Insights")) == QUESTIONS
    for question, query in queries("CloudWatch Logs Insights").items():
        code = re.sub(r'"[^"]*"|/.*/', "", query)
        made = {*re.findall(r"\bas (\w+)", code), *re.findall(r"\?<(\w+)>", query)}
        assert set(re.findall(r"\b[a-z][a-z_.]*\b", code)) - words - made <= FIELDS, question
