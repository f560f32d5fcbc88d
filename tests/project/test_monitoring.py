"""The rules for Prometheus and the dashboard for Grafana: promtool runs every rule on recorded series."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from galerly_cdn.admin.metric_table import EVENTS, METRICS
from galerly_cdn.errors import by_code

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus-rules.yaml"
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
DAY = 24 * 60
STEPS_A_DAY = 48
promtool = pytest.mark.server("promtool")

Series = dict[str, str]
"""Values by series, in promtool's notation: `0+5x60` begins at 0 and grows by 5 in each of 60 steps."""


def pictures(hits: int, misses: int, minutes: int = 360) -> Series:
    return {
        'galerly_pictures_total{result="hit"}': f"0+{hits}x{minutes}",
        'galerly_pictures_total{result="miss"}': f"0+{misses}x{minutes}",
    }


def renders(at_most_1_s: int, at_most_2500_ms: int) -> Series:
    name = 'galerly_fill_duration_seconds_bucket{stage="render",le="%s"}'
    return {
        name % "1.0": f"0+{at_most_1_s}x60",
        name % "2.5": f"0+{at_most_2500_ms}x60",
        name % "+Inf": f"0+{at_most_2500_ms}x60",
    }


def responses(good: int, bad: int) -> Series:
    return {
        'galerly_responses_total{status="200"}': f"0+{good}x60",
        'galerly_responses_total{status="404"}': "0+50x60",
        'galerly_responses_total{status="503"}': f"0+{bad}x60",
    }


def rendered(each_step_before: int, each_step_today: int) -> Series:
    """A week, then a day."""
    week_steps = 7 * STEPS_A_DAY
    week = f"0+{each_step_before}x{week_steps} "
    today = f"{each_step_before * week_steps + each_step_today}+{each_step_today}x{STEPS_A_DAY}"
    return {'galerly_events_total{event="render"}': week + today}


def event(name: str, at_minute: int, times: int) -> Series:
    """An event that is counted `times` times from a minute on, once a minute."""
    return {f'galerly_events_total{{event="{name}"}}': f"0x{at_minute} 1+1x{times - 1} {times}x60"}


def disk(free: str, steps: int = 60) -> Series:
    """A disk of 100 bytes."""
    return {"galerly_renditions_disk_free_bytes": free, "galerly_renditions_disk_size_bytes": f"100x{steps}"}


CASES: dict[str, tuple[int, Series, Series]] = {
    "GalerlyHitRatio": (300, pictures(90, 10), pictures(96, 4)),
    "GalerlyRenderTime": (60, renders(0, 10), renders(10, 10)),
    "GalerlyErrorRate": (30, responses(1000, 3), responses(10_000, 3)),
    "GalerlyGrowth": (8 * DAY, rendered(150, 600), rendered(450, 600)),
    "GalerlyDown": (10, {"up": "1x5 0x30"}, {"up": "1x60"}),
    "GalerlyQueue": (
        40,
        {"galerly_render_queue": "20x60", "galerly_workers": "4x60"},
        {"galerly_render_queue": "16x60", "galerly_workers": "4x60"},
    ),
    "GalerlyQueueAge": (
        40,
        {"galerly_render_queue_age_seconds": "3x60"},
        {"galerly_render_queue_age_seconds": "1x36 9 9 9 1x60"},
    ),
    "GalerlyQueueRefuses": (
        40,
        {'galerly_errors_total{code="queue-full"}': "0x25 1+1x60"},
        {'galerly_errors_total{code="queue-full"}': "7x60", 'galerly_errors_total{code="bad-key"}': "0+1x60"},
    ),
    "GalerlyWorkersEnd": (40, event("worker-crashed", 25, 5), event("worker-recycled", 25, 5)),
    "GalerlyNoWorkers": (40, {"galerly_workers": "4x30 0x30"}, {"galerly_workers": "1x60"}),
    "GalerlyDiskFull": (40, disk("9x60"), disk("11x60")),
    "GalerlyDiskFillsUp": (2 * DAY, disk("60-0.3x96", 96), disk("60-0.01x96", 96)),
    "GalerlyStoreSpared": (33, event("store-spared", 28, 20), event("store-failed", 28, 20)),
}
"""By alert: the minute at which it is evaluated, series for which it fires, and those for which not."""


def series_of(values: Series) -> list[dict[str, str]]:
    """With the labels that Prometheus adds."""
    labels = 'job="galerly-cdn",instance="a:8001"'
    return [
        {
            "series": f"{name[:-1]},{labels}}}" if name.endswith("}") else f"{name}{{{labels}}}",
            "values": value,
        }
        for name, value in values.items()
    ]


def run_promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_and_says_what_is_wrong() -> None:
    assert set(CASES) == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"warning", "critical"}, name
        assert rule["annotations"]["summary"], name


@promtool
def test_rules_are_valid() -> None:
    run_promtool("check", "rules", RULES)


@promtool
@pytest.mark.parametrize("fires", [True, False], ids=["fault", "no fault"])
@pytest.mark.parametrize("alert", CASES)
def test_alert_fires_alone_for_its_fault_only(tmp_path: Path, alert: str, *, fires: bool) -> None:
    minute, fault, no_fault = CASES[alert]
    expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if fires else []
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    step = f"{DAY // STEPS_A_DAY}m" if minute > DAY else "1m"
    case = {
        "interval": step,
        "input_series": series_of(fault if fires else no_fault),
        "promql_expr_test": [{"expr": query, "eval_time": f"{minute}m", "exp_samples": expected}],
    }
    tests = tmp_path / "tests.yaml"
    tests.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": step, "tests": [case]}))
    run_promtool("test", "rules", tests)


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Every query by where it is written; Grafana's variables are replaced."""
    found = {f"the rule {name}": str(rule["expr"]) for name, rule in ALERTS.items()}
    found |= {f"the table's {one.name}": one.query for one in METRICS}
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            found[f"{panel['title']}, {target['refId']}"] = expression
    return found


@pytest.mark.parametrize("query", queries().values(), ids=queries())
def test_query_reads_metrics_and_labels_that_are_exported(query: str) -> None:
    labels = {one.name: set(one.labels.split(", ")) | {"job", "instance", "le"} for one in METRICS}
    used = re.findall(r"(galerly_\w+)(\{[^}]*\})?", query)
    assert used or 'up{job="galerly-cdn"' in query
    for metric, selector in used:
        name = metric.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        assert name in labels
        assert set(re.findall(r"(\w+)(?:!?=~?)", selector)) <= labels[name]
    for event_name in re.findall(r'event="([^"]+)"', query):
        assert event_name in EVENTS
    for code in re.findall(r'code="([^"]+)"', query):
        assert code in by_code()


@promtool
def test_queries_are_valid(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries().values())]
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    run_promtool("check", "rules", file)


def test_dashboard_shows_every_metric_in_panels_that_do_not_overlap() -> None:
    text = json.dumps([panel["targets"] for panel in panels()])
    assert [one.name for one in METRICS if one.name not in text] == []
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
