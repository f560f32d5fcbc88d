"""Compares the recipes of a deployment with those of the deployed stack: which renditions become outdated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from galerly_cdn.aws.deploy import lambda_packages
from galerly_cdn.recipes import recipes_of

if TYPE_CHECKING:
    from galerly_cdn.settings.table import Settings


def recipes(settings: Settings) -> dict[str, str]:
    """The digests of all recipes by size and format (`800x600.webp`), for the template's metadata.

    It contains the libvips that is packed for Lambda, not that of this machine.
    """
    (libvips,) = [one.version for one in lambda_packages.lambda_lock() if one.name == "pyvips-binary"]
    return {
        str(target): "-".join(sorted(set(recipe.digests.values())))
        for target, recipe in recipes_of(settings, libvips).items()
    }


def outdated(metadata: str, settings: Settings) -> tuple[str, ...]:
    """The sizes and formats whose recipe differs from that in a deployed template's metadata.

    `metadata` is JSON or empty. A size that the deployed stack does not have has no renditions.
    """
    before = json.loads(metadata or "{}").get("galerly-cdn", {}).get("Recipes", {})
    return tuple(name for name, digest in recipes(settings).items() if before.get(name, digest) != digest)
