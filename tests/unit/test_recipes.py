"""The list of recipes decides what a process serves and replaces."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.model import Format, RecipeEntry, Record, Size, Target
from galerly_cdn.recipes import Ranks, Standing, named_digests, recipes_of
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings

OWN = Target(Size(800, 600))
NAME = "800x600.jpeg"
RECORD = Record("g/a.jpg", OWN, "v1", "A", Format.JPEG, 8, 6, 1, "")


def listed(*digests: str, name: str = NAME) -> tuple[RecipeEntry, ...]:
    """A list whose entries give these digests to one size and format."""
    return tuple(RecipeEntry(number, {name: digest}) for number, digest in enumerate(digests, 1))


def made(digest: str, version: str = "v1", target: Target = OWN) -> Record:
    return replaced(RECORD, recipe=digest, version=version, target=target)


@pytest.mark.parametrize(
    ("entries", "own", "unlisted", "outdated", "served"),
    [
        ("", "A", True, False, {"A"}),
        ("A", "A", False, False, {"A"}),
        ("A", "B", True, False, {"B"}),
        ("AB", "A", False, True, {"A", "B"}),
        ("AB", "B", False, False, {"B"}),
        ("ABC", "B", False, True, {"B", "C"}),
        ("ABA", "A", False, False, {"A"}),
        ("ABA", "B", False, True, {"A", "B"}),
        ("ABCA", "C", False, True, {"A", "C"}),
    ],
)
def test_process_serves_its_own_recipe_and_newer_ones(
    entries: str, own: str, *, unlisted: bool, outdated: bool, served: set[str]
) -> None:
    ranks, recipes = Ranks.of(listed(*entries)), {NAME: own}
    assert bool(ranks.unlisted(recipes)) is unlisted
    assert bool(ranks.outdated(recipes)) is outdated
    standing = Standing.of(recipes, listed(*entries))
    assert {one for one in "ABCDX" if standing.is_servable(made(one))} == served


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("entries", "own", "kept"),
    [
        ("", "A", "A"),
        ("AB", "A", "AB"),
        ("AB", "B", "B"),
        ("ABA", "A", "A"),
        ("ABC", "B", "BC"),
    ],
)
def test_stored_rendition_of_the_same_version_stays_if_its_rank_is_not_lower(
    entries: str, own: str, kept: str, version: str
) -> None:
    standing = Standing.of({NAME: own}, listed(*entries))
    stays = {one for one in "ABCX" if standing.keeps(made(one), made(own, version))}
    assert stays == (set(kept) if version == "v1" else set())


@pytest.mark.parametrize("target", [OWN, Target(OWN.size, Format.JPEG)])
def test_url_that_names_the_format_has_the_same_recipe(target: Target) -> None:
    standing = Standing.of({NAME: "B"}, listed("A", "B"))
    assert standing.is_servable(made("B", target=target))
    assert not standing.is_servable(made("A", target=target))


def test_recipes_of_the_settings_are_listed_by_size_and_format() -> None:
    sizes = ("tiny 150x150 jpeg=85", "small 400x400 jpeg=85 webp=86")
    recipes = recipes_of(Settings(sizes=sizes), "8.18")
    names = named_digests(recipes)
    assert sorted(names) == [
        "150x150.jpeg", "150x150.png", "400x400.jpeg", "400x400.png", "400x400.webp",
    ]  # fmt: skip
    assert {digest for one in recipes.values() for digest in one.digests.values()} == set(names.values())
    assert len(set(names.values())) == len(names)


def test_recipes_of_the_named_sizes_are_the_same_beside_further_sizes() -> None:
    """A store of renditions in the named sizes keeps them all when a release adds sizes."""
    every = Settings()
    named = Settings(sizes=tuple(line for line in every.sizes if not line[0].isdigit()))
    before, after = (named_digests(recipes_of(one, "8.18")) for one in (named, every))
    assert len(named.sizes) == 4
    assert before.items() < after.items()
    standing = Ranks.of([RecipeEntry(1, before)])
    assert standing.unlisted(after).keys() == after.keys() - before.keys()
    assert not standing.outdated(after)


NAMES = st.sampled_from(["a", "b"])
ENTRIES = st.lists(st.dictionaries(NAMES, st.sampled_from("ABC")), max_size=8)


@given(ENTRIES, st.fixed_dictionaries({"a": st.sampled_from("ABCD"), "b": st.sampled_from("ABCD")}))
def test_process_that_appends_what_is_unlisted_or_outdated_is_current(
    changes: list[dict[str, str]], own: dict[str, str]
) -> None:
    entries = tuple(RecipeEntry(number, one) for number, one in enumerate(changes, 1))
    ranks = Ranks.of(entries)
    changed = {**ranks.outdated(own), **ranks.unlisted(own)}
    after = Ranks.of((*entries, RecipeEntry(ranks.number + 1, changed)))
    assert {name: after.current[name] for name in own} == own
    assert not after.unlisted(own)
    assert not after.outdated(own)
    for name, digest in own.items():
        ranking = sorted("ABCD", key=functools.partial(after.rank, name))
        assert ranking[-1] == digest
