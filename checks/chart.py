"""Renders Helm charts and checks them: `.galerly/manifests/bin/python checks/chart.py < CHARTS`.

`CHARTS` is a JSON list of `[folder, values]`. For each it prints what Helm makes of them (`manifests`), and
the `problems` that Helm's linter, its schema of values, and Kubernetes' schemas find. No cluster is asked.
"""

# The type checkers run in another environment, without these packages.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
from typing import Any

import kubernetes_validate
import yaml
from helm_python import chart, errors

_KUBERNETES = "1.33"
"""The oldest that the chart allows; later ones accept the same manifests."""


def check(path: str, values: dict[str, Any]) -> dict[str, list[Any]]:
    """The manifests and the problems, each a sentence."""
    try:
        report = chart.lint(path, values, strict=True, kube_version=f"v{_KUBERNETES}.0")
        problems = [*report["errors"]]
        with chart.Chart.load(path) as loaded:
            loaded.validate_schema(values)
            rendered = loaded.render(values, name="cdn", namespace="photographs", is_install=True)
    except errors.HelmError as error:
        return {"manifests": [], "problems": [str(error)]}
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    manifests = [one for text in texts for one in yaml.safe_load_all(text) if one]
    for manifest in manifests:
        try:
            kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(map(str, error.path))
            problems.append(f"{manifest['kind']} {manifest['metadata']['name']}: {where}: {error.message}")
    return {"manifests": manifests, "problems": problems}


if __name__ == "__main__":
    json.dump([check(path, values) for path, values in json.load(sys.stdin)], sys.stdout)
