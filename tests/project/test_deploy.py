"""The files of deploy/: image, chart, compose file, units. Planted mistakes are found."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner

from galerly_cdn import __version__
from galerly_cdn.cli import main
from galerly_cdn.http import front_refresh
from tests.support import deploy_files, nginx
from tests.support.deploy_files import (
    CHART,
    VALUES,
    Chart,
    checked_charts,
    compose_problems,
    copy_of_deploy,
    image_problems,
    systemd_problems,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEPLOY = deploy_files.ROOT / "deploy"
NODES, JOBS = f"{CHART}/templates/nodes.yaml", f"{CHART}/templates/jobs.yaml"
helm = pytest.mark.server("helm")
systemd = pytest.mark.server("systemd-analyze")
AUTOSCALED: dict[str, Any] = {
    **VALUES,
    "autoscaling": {"enabled": True},
    "fronts": {"service": {"type": "LoadBalancer"}},
    "settings": {"max_original_bytes": 300_000_000, "workers": 3, "drain_delay_s": 60},
}

CHECKS: dict[str, Callable[[Path, Path], Iterable[str]]] = {
    "image": lambda deploy, _: image_problems(deploy),
    "compose": lambda deploy, _: compose_problems(deploy),
    "systemd": systemd_problems,
}
MARKS = {"systemd": systemd}
MISTAKES = [
    ("image", "image/Containerfile", "USER 10001:10001", "USER 0:0", "user"),
    ("image", "image/Containerfile", "EXPOSE 8000", "EXPOSE 8080", "exposes"),
    ("image", "image/Containerfile", "--require-hashes --requirement", "--requirement", "hash"),
    ("image", "image/Containerfile", "GALERLY_HOST=", "GALERLY_HOSTS=", "GALERLY_HOSTS"),
    ("compose", "compose.yaml", "read_only: true", "readonly: true", "readonly"),
    ("compose", "compose.yaml", "  node2: {}\n", "", "no volume node2"),
    ("compose", "compose.yaml", "./grafana.json", "./dashboard.json", "no file"),
    ("compose", "compose.yaml", "    bucket: {condition", "    buckets: {condition", "no service buckets"),
    (
        "compose",
        "compose.yaml",
        "bucket: {condition: service_completed_",
        "bucket: {condition: ",
        "condition",
    ),
    ("compose", "compose.yaml", "'127.0.0.1:3000:3000'", "'3000:3000'", "is public"),
    ("compose", "compose.yaml", "GALERLY_STORE_ENDPOINT", "GALERLY_S3_ENDPOINT", "GALERLY_S3_ENDPOINT"),
    ("compose", "compose.yaml", "stop_grace_period: 45s", "stop_grace_period: 30s", "drain_delay_s"),
    (
        "compose",
        "compose.yaml",
        "picture.\n    stop_grace_period: 45s",
        "picture.",
        "before it has answered",
    ),
    ("compose", "compose.yaml", "http://node2:8001", "http://node3:8001", "no service node3"),
    ("systemd", "systemd/galerly-cdn.service", "WatchdogSec=30", "WatchdogSec=30 seconds!", "30 seconds!"),
    ("systemd", "systemd/galerly-cdn.service", "ProtectSystem=", "ProtectSystems=", "ProtectSystems"),
    ("systemd", "systemd/galerly-cdn.service", "SystemCallFilter=@system-service", "#", "exposure"),
    ("systemd", "systemd/galerly-cdn.service", "TimeoutStopSec=45", "TimeoutStopSec=20", "drain_s"),
    ("systemd", "systemd/galerly-cdn.service", "KillMode=mixed", "KillMode=control-group", "KillMode"),
    ("systemd", "systemd/galerly-cdn.service", "Type=notify", "Type=exec", "WatchdogSec"),
    ("systemd", "systemd/galerly-cdn.socket", "Name=public", "Name=web", "FileDescriptorName"),
    ("systemd", "systemd/galerly-cdn-clean.service", "CapabilityBoundingSet=", "#", "exposure"),
    (
        "systemd",
        "systemd/galerly-cdn.socket",
        "ListenStream=127.0.0.1:8000",
        "ListenStream=here",
        "ListenStream",
    ),
    ("systemd", "systemd/galerly-cdn-clean.timer", "OnCalendar=*-*-*", "OnCalendar=nightly", "clean.timer:5"),
]
"""Part, file, text, the mistake in its place, and a part of what is found."""


CHART_MISTAKES = [
    (NODES, "path: /health/readyz", "path: /healthz", "no probe at /healthz"),
    (NODES, "{name: http, containerPort: 8000}", "{name: web, containerPort: 8000}", "no port http"),
    (NODES, "targetPort: admin", "targetPort: metrics", "no port metrics"),
    (NODES, "galerly_render_queue", "galerly_queue", "no metric galerly_queue"),
    (NODES, "terminationGracePeriodSeconds", "terminationGracePeriod", "terminationGracePeriod"),
    (NODES, ".drain_s 15 }}", ".drain_s 5 }}", "terminationGracePeriodSeconds: it is killed"),
    (NODES, "name: GALERLY_ADMIN_HOST", "name: GALERLY_STORE", "GALERLY_STORE has two values"),
    (NODES, "name: GALERLY_ADMIN_PORT", "name: GALERLY_ADMINPORT", "GALERLY_ADMINPORT"),
    (NODES, '{{- include "volumes" . | nindent 8 }}', "", "no volume temporary"),
    (NODES, "maxUnavailable: 1", "maxUnavailable: [1]", "maxUnavailable"),
    (JOBS, "memory: 1Gi", "memory: 1GiB", "1GiB is no quantity"),
    (JOBS, "restartPolicy: Never", "restartPolicy: Always", "restartPolicy"),
    (f"{CHART}/values.yaml", "memory: 2Gi", "memory: 2GB", "memory"),
    (f"{CHART}/values.yaml", "replicas: 2", "replica: 2", "replica"),
    (f"{CHART}/templates/_helpers.tpl", "runAsUser: {{ . }}", "runAsUser: 0", "root"),
    (f"{CHART}/templates/_helpers.tpl", "readOnlyRootFilesystem: true", "privileged: false", "write"),
    (f"{CHART}/templates/network-policies.yaml", "port: admin", "port: metric", "no port metric"),
]
"""File, text, the mistake in its place, and a part of what is found."""


def plant(folder: Path, file: str, text: str, mistake: str) -> Path:
    """A copy of deploy/ with a mistake."""
    deploy = copy_of_deploy(folder)
    before = (deploy / file).read_text("utf-8")
    assert text in before
    (deploy / file).write_text(before.replace(text, mistake), "utf-8")
    return deploy


@pytest.mark.parametrize("part", [pytest.param(one, marks=MARKS.get(one, ())) for one in CHECKS])
def test_files_have_no_mistake(tmp_path: Path, part: str) -> None:
    assert list(CHECKS[part](DEPLOY, tmp_path)) == []


@pytest.mark.parametrize(
    ("part", "file", "text", "mistake", "found"),
    [
        pytest.param(*one, id=f"{Path(one[1]).name}, {one[4]}", marks=MARKS.get(one[0], ()))
        for one in MISTAKES
    ],
)
def test_planted_mistake_is_found(
    tmp_path: Path, part: str, *, file: str, text: str, mistake: str, found: str
) -> None:
    deploy = plant(tmp_path, file, text, mistake)
    units = tmp_path / "units"
    units.mkdir()
    problems = list(CHECKS[part](deploy, units))
    assert any(found in problem for problem in problems), problems


@helm
def test_chart_has_no_mistake_with_any_of_its_parts() -> None:
    without = {"warm": {"enabled": False}, "clean": {"enabled": False}, "networkPolicy": False}
    charts = (Chart(DEPLOY, values) for values in (VALUES, AUTOSCALED, {**VALUES, **without}))
    assert [one.problems for one in checked_charts(*charts)] == [[], [], []]


@helm
def test_planted_mistakes_of_the_chart_are_found(tmp_path: Path) -> None:
    charts = [
        Chart(plant(tmp_path / str(number), *mistake[:3]), AUTOSCALED)
        for number, mistake in enumerate(CHART_MISTAKES)
    ]
    checked = checked_charts(*charts)
    missed = [
        (mistake, one.problems)
        for mistake, one in zip(CHART_MISTAKES, checked, strict=True)
        if not any(mistake[3] in problem for problem in one.problems)
    ]
    assert missed == []


@helm
def test_wrong_values_of_the_chart_are_named() -> None:
    wrong: dict[str, dict[str, Any]] = {
        "store.address": {"store": {}},
        "admin.tokenSecret": {"admin": {}},
        "adress": {"store": {"adress": "s3://p"}},
        "replicas": {"nodes": {"replicas": 0}},
        "Sizes": {"settings": {"Sizes": []}},
        "admin_port": {"settings": {"admin_port": 9000}},
        "drain_s": {"settings": {"drain_s": None}},
        "GALERLY_SIZE": {"settings": {"size": "tiny"}},
    }
    checked = checked_charts(*(Chart(DEPLOY, {**VALUES, **values}) for values in wrong.values()))
    found = [
        any(name in problem for problem in one.problems) for name, one in zip(wrong, checked, strict=True)
    ]
    assert all(found), checked


def front_command(arguments: Iterable[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """nginx's opinion on the configuration that these arguments of `galerly-cdn nginx` print."""
    printed = CliRunner().invoke(main, ["nginx", *arguments])
    assert printed.exit_code == 0, printed.output
    local = re.sub(r"server [a-z0-9-]+:8000", "server 127.0.0.1:8000", printed.stdout)
    return nginx.check(tmp_path, local.replace("/var/cache/nginx", str(tmp_path)))


@pytest.mark.server("nginx")
def test_front_of_the_compose_file_has_a_configuration_that_nginx_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    (command,) = compose["services"]["configuration"]["command"]
    printed = re.fullmatch(r"galerly-cdn nginx (.*) > /configuration/nginx.conf", command)
    assert printed, command
    (tmp_path / "token").write_text("a" * 64, "utf-8")
    for name, value in compose["services"]["configuration"]["environment"].items():
        monkeypatch.setenv(name, value.replace("/run/secrets/admin-token", str(tmp_path / "token")))
    checked = front_command(printed[1].split(), tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert front_refresh.secret_md5("a" * 64) in (tmp_path / "nginx.conf").read_text("utf-8")


@helm
@pytest.mark.server("nginx")
@pytest.mark.parametrize("values", [VALUES, AUTOSCALED], ids=["two nodes", "autoscaled"])
def test_front_of_the_chart_has_a_configuration_that_nginx_accepts(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    (chart,) = checked_charts(Chart(DEPLOY, values))
    (front,) = (one for one in chart.manifests if one["kind"] == "Deployment")
    (configuration,) = front["spec"]["template"]["spec"]["initContainers"]
    checked = front_command(configuration["args"], tmp_path)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.server("promtool")
def test_prometheus_of_the_compose_file_reads_its_configuration() -> None:
    check = ["promtool", "check", "config", "--syntax-only", str(DEPLOY / "compose/prometheus.yml")]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_release_of_the_chart_is_that_of_the_package() -> None:
    chart = yaml.safe_load((DEPLOY / CHART / "Chart.yaml").read_text("utf-8"))
    values = yaml.safe_load((DEPLOY / CHART / "values.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert values["image"] == f"galerly-cdn:{__version__}"
