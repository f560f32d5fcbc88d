"""Finds mistakes in the files of deploy/: by their tools, and by rules that no schema has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from galerly_cdn.admin.metric_table import METRICS
from galerly_cdn.errors import SettingsError
from galerly_cdn.settings.load import load_settings
from galerly_cdn.settings.service_manager import ADMIN, PUBLIC
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CHART = "kubernetes/galerly-cdn"
MANIFEST_TOOLS = ROOT / ".galerly/manifests"
"""Where `script/manifests` installs Helm and the schemas of Kubernetes."""
VALUES: dict[str, Any] = {
    "store": {"address": "s3://photographs", "credentialsSecret": "store"},
    "admin": {"tokenSecret": "admin"},
    "settings": {"sizes": ["tiny 150x150 jpeg=80", "small 400x400 jpeg=80"], "browse": False},
    "warm": {"enabled": True},
}
_SCHEMA = json.loads((ROOT / "tests/support/compose_schema/compose-spec.json").read_text("utf-8"))
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
"""Kubernetes' quantities, whose spelling its schemas do not have."""
_MAX_EXPOSURE = 2.0
"""Of `systemd-analyze security`, from 0 (all is forbidden) to 10."""
_END_S = 10
"""What a server may take to end its workers after it has answered all requests."""

Manifest = dict[str, Any]


def copy_of_deploy(folder: Path) -> Path:
    """A copy of deploy/ in a folder, in which a test may make mistakes."""
    return Path(shutil.copytree(ROOT / "deploy", folder / "deploy"))


def _stop_s(settings: Settings) -> float:
    """How long a server may take to end after SIGTERM, in seconds."""
    return settings.drain_delay_s + settings.drain_s + _END_S


# ------------------------------------------------------------------------------------------- image


def image_problems(deploy: Path) -> Iterator[str]:
    """Mistakes of the Containerfile."""
    text = (deploy / "image/Containerfile").read_text("utf-8").replace("\\\n", " ")
    last = text.rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\S+)$", last, re.MULTILINE)
    if users != ["10001:10001"]:
        yield f"the image's user is {users}"
    ports = re.findall(r"^EXPOSE (\d+)$", last, re.MULTILINE)
    variables = _image_variables(deploy)
    if ports != [variables["GALERLY_PORT"]]:
        yield f"the image exposes {ports}, and serves on {variables['GALERLY_PORT']}"
    if "GALERLY_HEALTH_PATH'] + '/readyz'" not in last:
        yield "the health check asks another path than readyz"
    yield from _settings_problems("the image", variables)
    if re.search(
        r"pip install(?!.*(--require-hashes|--no-index))|pip wheel(?!.*(--require-hashes|wheels \.))", text
    ):
        yield "a package is installed without its hash"


def _image_variables(deploy: Path) -> dict[str, str]:
    last = (deploy / "image/Containerfile").read_text("utf-8").rpartition("\nFROM ")[2]
    return dict(re.findall(r"\b([A-Z_]+)=(\S+)", last))


def probe_paths(deploy: Path) -> set[str]:
    """The paths of the image's health checks."""
    return {f"{_image_variables(deploy)['GALERLY_HEALTH_PATH']}/{name}" for name in ("livez", "readyz")}


def _settings_problems(where: str, variables: dict[str, str]) -> Iterator[str]:
    """What the program says about variables of its environment."""
    try:
        load_settings(environment=variables)
    except SettingsError as error:
        yield from (f"{where}: {problem}" for problem in error.problems)


# ------------------------------------------------------------------------------------------- Kubernetes


class Chart(NamedTuple):
    """A copy of deploy/, and the values for its chart."""

    deploy: Path
    values: dict[str, Any]


class CheckedChart(NamedTuple):
    """What Helm makes of a chart, and all that is wrong with it."""

    manifests: list[Manifest]
    problems: list[str]


def checked_charts(*charts: Chart) -> list[CheckedChart]:
    """What Helm, Kubernetes' schemas and the rules below find. Loading Helm takes a second."""
    command = [str(MANIFEST_TOOLS / "bin/python"), str(ROOT / "checks/chart.py")]
    cases = json.dumps([(str(one.deploy / CHART), one.values) for one in charts])
    done = subprocess.run(command, input=cases, capture_output=True, text=True, check=True)
    return [
        CheckedChart(
            found["manifests"],
            [*found["problems"], *manifest_problems(found["manifests"], probe_paths(chart.deploy))],
        )
        for chart, found in zip(charts, json.loads(done.stdout), strict=True)
    ]


def manifest_problems(manifests: list[Manifest], paths: set[str]) -> Iterator[str]:
    """Mistakes that no schema has: names that nothing bears, pods with more rights than they need."""
    pods = {one["metadata"]["name"]: pod for one in manifests if (pod := _pod_template(one)) is not None}
    for name, template in pods.items():
        yield from (f"{name}: {problem}" for problem in _pod_problems(template["spec"], paths))
    for manifest in manifests:
        if manifest["kind"] in {"Job", "CronJob"} and _restarts(manifest) == "Always":
            yield f"{manifest['metadata']['name']}: restartPolicy Always, of a Job"
        name, spec = f"{manifest['kind']} {manifest['metadata']['name']}", manifest.get("spec", {})
        if manifest["kind"] == "Service":
            yield from (f"{name}: {problem}" for problem in _service_problems(spec, list(pods.values())))
        elif manifest["kind"] == "HorizontalPodAutoscaler":
            names = {metric["pods"]["metric"]["name"] for metric in spec["metrics"]}
            yield from (f"{name}: no metric {one}" for one in names - {one.name for one in METRICS})
        elif manifest["kind"] == "NetworkPolicy":
            yield from (f"{name}: {problem}" for problem in _policy_problems(spec, list(pods.values())))


def _pod_template(manifest: Manifest) -> Manifest | None:
    spec = manifest.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return template if isinstance(template, dict) else None


def _restarts(manifest: Manifest) -> str:
    template = _pod_template(manifest)
    return str(template["spec"].get("restartPolicy", "Always")) if template else ""


def _containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _port_names(pod: Manifest) -> set[object]:
    ports = [port for container in _containers(pod) for port in container.get("ports", [])]
    return {port[key] for port in ports for key in ("name", "containerPort")}


def _pod_problems(pod: Manifest, paths: set[str]) -> Iterator[str]:
    security = pod["securityContext"]
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield "the pod may run as root"
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in _containers(pod):
        restricted = container.get("securityContext", {})
        if not restricted.get("readOnlyRootFilesystem") or restricted.get("allowPrivilegeEscalation", True):
            yield f"{container['name']} may write its image or gain privileges"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"no volume {mount['name']}"
        for quantities in container["resources"].values():
            bad = [value for value in quantities.values() if not _QUANTITY.fullmatch(str(value))]
            yield from (f"{value} is no quantity" for value in bad)
        variables = [(one["name"], one.get("value", "1")) for one in container.get("env", [])]
        names = [name for name, _ in variables]
        yield from (f"{one} has two values" for one in sorted({*names}) if names.count(one) > 1)
        problems = [*_settings_problems(container["name"], dict(variables))]
        yield from problems
        if not problems and "readinessProbe" in container:
            settings = load_settings(environment=dict(variables)).settings
            if pod.get("terminationGracePeriodSeconds", 30) < _stop_s(settings):
                yield "terminationGracePeriodSeconds: it is killed before drain_delay_s and drain_s are over"
        yield from _probe_problems(container, _port_names(pod), paths)


def _probe_problems(container: Manifest, ports: set[object], paths: set[str]) -> Iterator[str]:
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container.get(name, {})
        asked = probe.get("httpGet") or probe.get("tcpSocket")
        if asked is None:
            continue
        if asked["port"] not in ports:
            yield f"{name}: no port {asked['port']}"
        if asked.get("path", min(paths)) not in paths:
            yield f"{name}: the image answers no probe at {asked['path']}"


def _selected(labels: dict[str, str], pods: list[Manifest]) -> list[Manifest]:
    """The pods with these labels; the name of a StatefulSet's pod is given by its controller."""
    wanted = {name: value for name, value in labels.items() if not name.endswith("/pod-name")}
    return [pod["spec"] for pod in pods if wanted.items() <= pod["metadata"]["labels"].items()]


def _service_problems(spec: Manifest, pods: list[Manifest]) -> Iterator[str]:
    selected = _selected(spec["selector"], pods)
    if not selected:
        yield "it selects no pod"
    for port in spec["ports"]:
        if any(port["targetPort"] not in _port_names(pod) for pod in selected):
            yield f"its pods have no port {port['targetPort']}"


def _policy_problems(spec: Manifest, pods: list[Manifest]) -> Iterator[str]:
    selected = _selected(spec["podSelector"].get("matchLabels", {}), pods)
    if not selected:
        yield "it selects no pod"
    for rule in spec.get("ingress", []):
        for port in rule["ports"]:
            if any(port["port"] not in _port_names(pod) for pod in selected):
                yield f"its pods have no port {port['port']}"


# ------------------------------------------------------------------------------------------- compose


def compose_problems(deploy: Path) -> Iterator[str]:
    """What the schema of the Compose Specification and the rules below find in compose.yaml."""
    import jsonschema_rs  # takes a tenth of a second

    compose = yaml.safe_load((deploy / "compose.yaml").read_text("utf-8"))
    for error in jsonschema_rs.validator_for(_SCHEMA).iter_errors(compose):
        yield f"{'.'.join(map(str, error.instance_path))}: {error.message}"
    for name, service in compose["services"].items():
        yield from (f"{name}: {problem}" for problem in _service_mistakes(deploy, compose, service))


def _service_mistakes(deploy: Path, compose: Manifest, service: Manifest) -> Iterator[str]:
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith(".") and not (deploy / source).exists():
            yield f"no file {source}"
        elif not source.startswith(".") and source not in compose["volumes"]:
            yield f"no volume {source}"
    yield from (f"no secret {one}" for one in service.get("secrets", []) if one not in compose["secrets"])
    yield from (
        f"no service {one}" for one in service.get("depends_on", {}) if one not in compose["services"]
    )
    yield from (f"{port} is public" for port in service.get("ports", []) if not port.startswith("127.0.0.1:"))
    try:
        settings = load_settings(environment=service.get("environment", {})).settings
    except SettingsError as error:
        yield from error.problems
        return
    hosts = {str(urlsplit(one).hostname) for one in (*settings.fronts, *settings.nodes)}
    yield from (f"no service {one}, which a setting names" for one in hosts - {*compose["services"]})
    if service.get("stop_signal") == "SIGQUIT" and _seconds(service) < _stop_s(settings):
        yield "stop_grace_period: it is killed before it has answered the requests in progress"
    if service.get("command", [None])[0] != "serve":
        return
    if service.get("user") or not service.get("read_only"):
        yield "it may run as root, or write its image"
    if _seconds(service) < _stop_s(settings):
        yield "stop_grace_period: it is killed before drain_delay_s and drain_s are over"


def _seconds(service: Manifest) -> int:
    """How long a container may take to end; 10 s by default (Compose Specification)."""
    return int(service.get("stop_grace_period", "10s").removesuffix("s"))


# ------------------------------------------------------------------------------------------- systemd


def systemd_problems(deploy: Path, folder: Path) -> Iterator[str]:
    """What `systemd-analyze` says about the units, copied to a folder with a program that exists."""
    for unit in (deploy / "systemd").glob("galerly-cdn*"):
        text = unit.read_text("utf-8").replace("/opt/galerly-cdn/bin/galerly-cdn", "/bin/true")
        (folder / unit.name).write_text(text, "utf-8")
    units = sorted(one for one in folder.glob("*.*") if one.suffix in {".service", ".socket", ".timer"})
    verified = subprocess.run(
        ["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True, check=False
    )
    yield from verified.stderr.splitlines()
    if verified.returncode:
        yield f"systemd-analyze verify: {verified.returncode}"
    for unit in units:
        if unit.suffix == ".service":
            exposure = _exposure(unit)
            if exposure > _MAX_EXPOSURE:
                yield f"{unit.name}: its exposure is {exposure}"
    yield from _stop_problems(unit_values(folder / "galerly-cdn.service"))
    names = [unit_values(unit).get("FileDescriptorName") for unit in sorted(folder.glob("*.socket"))]
    if names != [ADMIN, PUBLIC]:
        yield f"FileDescriptorName: the server knows admin and public, and no {names}"


def _stop_problems(service: dict[str, str]) -> Iterator[str]:
    if int(service.get("TimeoutStopSec", 0)) < _stop_s(Settings()):
        yield "TimeoutStopSec: it is killed before drain_delay_s and drain_s are over"
    if service.get("KillMode") != "mixed":
        yield "KillMode: SIGTERM ends render workers too, and their pictures are 504"
    if service.get("Type") != "notify" or "WatchdogSec" not in service:
        yield "Type, WatchdogSec: a server that hangs is not restarted"


def unit_values(unit: Path) -> dict[str, str]:
    """The settings of a unit by their names; of several with one name the last."""
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text("utf-8"), re.MULTILINE))


def _exposure(unit: Path) -> float:
    """The overall exposure level of a unit."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])
