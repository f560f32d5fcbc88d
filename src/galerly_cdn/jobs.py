"""What is there to be made of an original? A render job for every target of the allow-list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.fill import Recipe
from galerly_cdn.model import Job, Picture, Target
from galerly_cdn.render import recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from galerly_cdn.model import SizeRule
    from galerly_cdn.settings.table import Settings


def recipes(settings: Settings, libvips: str) -> Mapping[Target, Recipe]:
    """A render job and its digest for every target of the allow-list."""
    made = {}
    for rule, target in _targets(settings):
        job = job_of(rule, target, settings)
        made[target] = Recipe(job, recipe.digest(job, libvips))
    return made


def all_targets(settings: Settings) -> list[Target]:
    """Every target of the allow-list: what may be stored of an original."""
    return [target for _, target in _targets(settings)]


def page_targets(settings: Settings) -> list[Target]:
    """What pages ask for: every size in the original's own format and those that `Accept` may choose."""
    return sorted((one for rule in settings.size_rules for one in rule.targets), key=str)


def job_of(rule: SizeRule, target: Target, settings: Settings) -> Job:
    """The render job of one target."""
    return Job((Picture(target, rule.qualities),), settings.limits, settings.keep_copyright)


def _targets(settings: Settings) -> Iterator[tuple[SizeRule, Target]]:
    for rule in settings.size_rules:
        for chosen in (None, *rule.qualities):
            yield rule, Target(rule.size, chosen)
