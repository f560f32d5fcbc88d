"""The quantities of the estimate: what the functions request of S3, and what the template deploys."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.aws.deploy import template
from galerly_cdn.aws.functions import emf
from galerly_cdn.aws.functions.janitor import Janitor
from galerly_cdn.aws.functions.prewarm import Prewarm
from galerly_cdn.aws_local.cloudformation import yaml_template
from galerly_cdn.http import urls
from galerly_cdn.insight import cost
from galerly_cdn.insight.cost import Workload
from galerly_cdn.settings.table import Settings
from tests.support.fake_s3 import FakeS3, fake_s3
from tests.support.lambda_functions import Functions, change
from tests.support.s3_servers import CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

KEY = "g/a.jpg"
SETTINGS = Settings()
STACK = yaml_template.read(template.render(SETTINGS))
RESOURCES = STACK["Resources"]


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeS3]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    async with fake_s3() as server:
        server.put(f"originals/{KEY}", b"an original")
        yield server


OTHER_KEY = "g/b.jpg"


def reads_and_puts(server: FakeS3) -> tuple[int, int]:
    """The requests that S3 bills as reads and as puts, without those for the other photograph."""
    assert not server.request_count("POST")
    methods = [one.method for one in server.requests if not one.key.endswith(OTHER_KEY)]
    return methods.count("GET") + methods.count("HEAD"), methods.count("PUT")


async def started(server: FakeS3) -> Functions:
    """Functions that have read the list of recipes, as a cold start does."""
    functions = Functions(server.settings())
    server.put(f"originals/{OTHER_KEY}", b"another original")
    await functions.ask(urls.format_stored(SETTINGS.warm_targets[0], OTHER_KEY))
    server.requests.clear()
    return functions


async def test_first_render_of_an_original_is_the_reads_and_puts_of_the_estimate(fake: FakeS3) -> None:
    functions = await started(fake)
    await functions.ask(urls.format_stored(SETTINGS.warm_targets[0], KEY))
    assert reads_and_puts(fake) == (cost.RENDER_READS, 2)  # the rendition and the fact record


class NewOriginals:
    """The bucket had no original before, so nothing is invalidated."""

    def previous_s(self, _key: str, /) -> float | None:
        return None

    def invalidated_s(self, _since_s: float, /) -> Mapping[str, float]:
        return {}

    def invalidate(self, keys: Sequence[str], /) -> None:
        raise AssertionError(keys)


async def test_janitor_after_an_upload_makes_the_reads_of_the_estimate(fake: FakeS3) -> None:
    functions = await started(fake)
    for target in SETTINGS.all_targets:
        fake.put(f"resized/{target.rendition_key(OTHER_KEY)}", b"a rendition")
    janitor = Janitor(functions.stores, NewOriginals(), rendition_days=180, wall=time.time, log=functions.log)
    await janitor.handle(change(f"originals/{KEY}"))
    lists = 1  # the versions are listed by boto3, which the test replaces
    assert reads_and_puts(fake) == (cost.EVENT_READS + Workload().targets + lists, 0)


async def test_prewarm_makes_the_reads_and_puts_of_the_estimate(fake: FakeS3) -> None:
    functions = await started(fake)
    prewarm = Prewarm(functions.stores, functions.filler, wall=time.time, log=functions.log)
    await prewarm.handle(change(f"originals/{KEY}"), "prewarm")
    renditions = len(SETTINGS.warm_targets)
    reads = cost.PREWARM_READS + cost.PREWARM_READS_PER_RENDITION * renditions
    assert reads_and_puts(fake) == (reads, renditions + 1)


def test_defaults_are_those_of_settings_and_template() -> None:
    work, parameters = Workload(), STACK["Parameters"]
    assert work.targets == len(SETTINGS.all_targets)
    assert work.memory_mb == parameters["Memory"]["Default"]
    assert {parameters[name]["Default"] for name in ("DeletedOriginalDays", "LogDays")} == {
        work.retained_days
    }
    switches = {"OriginShield": work.has_shield, "Janitor": work.has_janitor, "Prewarm": work.has_prewarm}
    assert {name: parameters[name]["Default"] == "on" for name in switches} == switches
    assert RESOURCES["JanitorFunction"]["Properties"]["MemorySize"] / 1024 == cost.JANITOR_GB


def metric_count(value: Any) -> int:  # noqa: ANN401 - a part of the template
    """The metrics of an alarm: its own, or those of its expressions."""
    if isinstance(value, dict):
        return int("MetricName" in value) + sum(map(metric_count, value.values()))
    return sum(map(metric_count, value)) if isinstance(value, list) else 0


def test_alarms_read_the_metrics_of_the_estimate() -> None:
    alarms = {
        name: one["Properties"] for name, one in RESOURCES.items() if one["Type"] == "AWS::CloudWatch::Alarm"
    }
    for_prewarm = [one for one in alarms.values() if "Prewarm" in json.dumps(one)]
    assert sum(map(metric_count, alarms.values())) == cost.ALARM_METRICS + cost.PREWARM_ALARM_METRICS
    assert len(for_prewarm) == cost.PREWARM_ALARM_METRICS  # one metric each: the alarm's own, and growth's
    assert metric_count(alarms["JanitorAlarm"]) == 1


def test_functions_write_the_metrics_of_the_estimate() -> None:
    assert len(emf.UNITS) == cost.OWN_METRICS
