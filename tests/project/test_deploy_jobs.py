"""The Jobs of the chart and of docs/jobs.md: what they run, and what they do with its exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from galerly_cdn.cli import main
from galerly_cdn.cli.terminal import RUN_AGAIN
from tests.support.cdn_process import environment
from tests.support.deploy_files import ROOT, VALUES, Chart, Manifest, checked_charts

helm = pytest.mark.server("helm")
SHARDS = 8


def job_of_the_page() -> Manifest:
    (text,) = re.findall(
        r"```yaml\n(apiVersion: batch/v1\n.*?)```", (ROOT / "docs/jobs.md").read_text("utf-8"), re.DOTALL
    )
    job: Manifest = yaml.safe_load(text)
    return job


def of_the_chart(kind: str) -> Manifest:
    (chart,) = checked_charts(Chart(ROOT / "deploy", {**VALUES, "warm": {"enabled": True, "shards": SHARDS}}))
    (manifest,) = (one for one in chart.manifests if one["kind"] == kind)
    return manifest


def decisions(job: Manifest) -> dict[str, Any]:
    """What decides how often a shard is run, and what it runs."""
    pod = job["spec"]["template"]["spec"]
    names = ("completionMode", "completions", "backoffLimitPerIndex", "maxFailedIndexes", "podFailurePolicy")
    return {
        **{name: job["spec"][name] for name in names},
        **{name: pod[name] for name in ("restartPolicy", "terminationGracePeriodSeconds")},
        "command": pod["containers"][0]["command"],
    }


@helm
def test_job_of_the_page_is_that_of_the_chart() -> None:
    assert decisions(job_of_the_page()) == decisions(of_the_chart("Job"))


@pytest.mark.parametrize(
    ("index", "sizes", "exit_code"),
    [
        pytest.param(0, "", 0, id="first shard"),
        pytest.param(SHARDS - 1, "", 0, id="last shard"),
        pytest.param(SHARDS, "", 2, id="a shard too many"),
        pytest.param(0, "tiny", 2, id="wrong setting"),
    ],
)
def test_command_of_a_job_with_an_index_takes_the_shard(
    tmp_path: Path, index: int, sizes: str, exit_code: int
) -> None:
    (tmp_path / "originals").mkdir()
    variables = {"GALERLY_SIZES": sizes} if sizes else {}
    (container,) = job_of_the_page()["spec"]["template"]["spec"]["containers"]
    done = subprocess.run(
        container["command"],
        env=environment(
            PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
            GALERLY_STORE=str(tmp_path),
            JOB_COMPLETION_INDEX=str(index),
            **variables,
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    assert (f"got '{index + 1}/{SHARDS}'" in done.stderr) == (index == SHARDS)


def test_policy_of_a_job_repeats_only_what_may_pass() -> None:
    rules = job_of_the_page()["spec"]["podFailurePolicy"]["rules"]
    actions = {
        code: rule["action"]
        for rule in rules
        if "onExitCodes" in rule
        for code in rule["onExitCodes"]["values"]
    }
    assert actions == {1: "FailIndex", 2: "FailJob"}
    assert RUN_AGAIN not in actions
    assert rules[-1] == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }


@helm
def test_command_of_the_nightly_clean_up_cleans(tmp_path: Path) -> None:
    spec = of_the_chart("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (tmp_path / "originals").mkdir()
    done = CliRunner().invoke(main, spec["containers"][0]["args"], env={"GALERLY_STORE": str(tmp_path)})
    assert done.exit_code == 0, done.output
