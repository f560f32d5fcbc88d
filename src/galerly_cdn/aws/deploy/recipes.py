"""Compares the recipes of a deployment with those of the deployed stack: which renditions become outdated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from galerly_cdn import fill
from galerly_cdn.aws.deploy import lambda_packages

if TYPE_CHECKING:
    from galerly_cdn.settings.table import Settings


def recipes(settings: Settings) -> dict[str, str]:
    """The digest of each target's recipe, for the template's metadata.

    It contains the libvips that is packed for Lambda, not that of this machine.
    """
    (libvips,) = [one.version for one in lambda_packages.lambda_lock() if one.name == "pyvips-binary"]
    return {str(target): recipe.digest for target, recipe in fill.recipes(settings, libvips).items()}


def outdated(metadata: str, settings: Settings) -> tuple[str, ...]:
    """The targets whose recipe differs from that in a deployed template's metadata, which is JSON or empty.

    A target that the deployed stack does not have has no renditions.
    """
    before = json.loads(metadata or "{}").get("galerly-cdn", {}).get("Recipes", {})
    return tuple(name for name, digest in recipes(settings).items() if before.get(name, digest) != digest)
