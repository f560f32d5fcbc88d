"""Decides which recipes are current, by the store's list of recipes (decision 0022). Does no I/O.

A recipe is listed under its size and format (`800x600.jpeg`), so that the same picture has one recipe whether
the URL names the format or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.model import OWN_FORMATS, Format, Job, Picture, RecipeEntry, Record, Target
from galerly_cdn.render import recipe
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from galerly_cdn.model import SizeRule
    from galerly_cdn.settings.table import Settings


class Recipe(Value, frozen=True):
    """A target's render job, for one picture, and its digest for every format that it may be encoded in."""

    job: Job
    digests: dict[Format, str]


def recipes_of(settings: Settings, libvips: str) -> dict[Target, Recipe]:
    """A recipe for every target of the allow-list; `libvips` is the version that will render them."""
    by_target = {}
    for rule in settings.size_rules:
        for target in rule.all_targets:
            job = job_of(rule, target, settings)
            forms = (target.format,) if target.format else OWN_FORMATS
            by_target[target] = Recipe(job, {form: recipe.digest(job, form, libvips) for form in forms})
    return by_target


def job_of(rule: SizeRule, target: Target, settings: Settings) -> Job:
    """The render job of one target."""
    return Job((Picture(target, rule.qualities),), settings.limits, settings.keep_copyright)


def named_digests(recipes: Mapping[Target, Recipe]) -> dict[str, str]:
    """The digests by size and format, as the store lists them."""
    return {
        str(Target(target.size, form)): digest
        for target, one in recipes.items()
        for form, digest in one.digests.items()
    }


class Ranks(Value, frozen=True):
    """What a list of recipes says, by size and format, such as `800x600.webp`.

    `number` is that of the last entry. The rank of a digest is the number of the last entry that gives it to
    its size and format; a digest in no entry has rank 0.
    """

    number: int
    ranks: dict[str, dict[str, int]]
    current: dict[str, str]

    @classmethod
    def of(cls, entries: Iterable[RecipeEntry]) -> Ranks:
        """The ranks by the entries of a list, in the order of their numbers."""
        number = 0
        ranks: dict[str, dict[str, int]] = {}
        current: dict[str, str] = {}
        for entry in entries:
            number = entry.number
            current |= entry.recipes
            for name, digest in entry.recipes.items():
                ranks.setdefault(name, {})[digest] = number
        return cls(number, ranks, current)

    def rank(self, name: str, digest: str) -> int:
        """The rank of a digest."""
        return self.ranks.get(name, {}).get(digest, 0)

    def unlisted(self, own: Mapping[str, str]) -> dict[str, str]:
        """Those of a process's own recipes that are in no entry: it has to append them."""
        return {name: digest for name, digest in own.items() if not self.rank(name, digest)}

    def outdated(self, own: Mapping[str, str]) -> dict[str, str]:
        """Those of a process's own recipes that are listed and not current: another process is newer."""
        return {
            name: digest
            for name, digest in own.items()
            if self.rank(name, digest) and self.current[name] != digest
        }


class Standing(Value, frozen=True):
    """What a process with recipes of its `own` serves and replaces.

    `ranks` are those after its unlisted recipes were appended, also if that has not succeeded yet.
    """

    own: dict[str, str]
    ranks: Ranks

    @classmethod
    def of(cls, own: dict[str, str], entries: Sequence[RecipeEntry]) -> Standing:
        """The standing of a process that has read these entries."""
        listed = Ranks.of(entries)
        unlisted = listed.unlisted(own)
        return cls(
            own, Ranks.of([*entries, RecipeEntry(listed.number + 1, unlisted)]) if unlisted else listed
        )

    def is_servable(self, record: Record) -> bool:
        """Whether a rendition was made by this process's recipe, or by a newer one."""
        name = str(record.named_target)
        own_rank = self.ranks.rank(name, self.own.get(name, ""))
        return self.ranks.rank(name, record.recipe) >= max(1, own_rank)

    def is_listed(self, record: Record) -> bool:
        """Whether an entry names a rendition's recipe; if not, the entry may not have been read yet."""
        return self.ranks.rank(str(record.named_target), record.recipe) > 0

    def keeps(self, stored: Record, made: Record) -> bool:
        """Whether a stored rendition stays, rather than being replaced by one that was made by this process.

        One of another version is replaced, and one of a lower rank. The first of two of one rank stays.
        """
        name = str(stored.named_target)
        is_outranked = self.ranks.rank(name, stored.recipe) < self.ranks.rank(
            str(made.named_target), made.recipe
        )
        return stored.version == made.version and not is_outranked
