"""Tests of the decision what can be removed, by tables."""

from __future__ import annotations

import pytest

from galerly_cdn.audit.judgement import Reason, Rules, Selection, reason_by_name, reason_of
from galerly_cdn.model import FactRecord, Format, RecipeEntry, Record, Size, Target
from galerly_cdn.recipes import Ranks
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.expire import ExpireRule
from galerly_cdn.store.stored_items import Kind, StoredItem

TARGET, DROPPED = Target(Size(150, 150)), Target(Size(9, 9))
LIST = (RecipeEntry(1, {"150x150.jpeg": "earlier"}), RecipeEntry(2, {"150x150.jpeg": "current"}))
RULES = Rules(frozenset([TARGET]), Ranks.of(LIST), (ExpireRule("g", 10),))
DAY_S = 86_400.0
NOW_S = 100 * DAY_S
RECORD = Record("g/a.jpg", TARGET, "v2", "current", Format.JPEG, 1, 1, 3, "md5")
ITEM = StoredItem(
    name="150x150/g/a.jpg",
    kind=Kind.RENDITION,
    length_bytes=3,
    modified_s=NOW_S - DAY_S,
    key="g/a.jpg",
    target=TARGET,
    record=RECORD,
    is_read=True,
)
FACTS = replaced(
    ITEM,
    kind=Kind.FACTS,
    target=None,
    record=None,
    facts=FactRecord("g/a.jpg", "v2", "r", None, is_good=True),
)


def of_recipe(recipe: str, form: Format = Format.JPEG) -> StoredItem:
    return replaced(ITEM, record=replaced(RECORD, recipe=recipe, format=form))


@pytest.mark.parametrize(
    ("item", "version", "reason"),
    [
        (ITEM, "v2", None),
        (ITEM, "v3", Reason.OUTDATED),
        (ITEM, None, Reason.ORPHAN),
        (FACTS, "v2", None),
        (FACTS, "v3", Reason.OUTDATED),
        (FACTS, None, Reason.ORPHAN),
        (of_recipe("earlier"), "v2", Reason.OUTDATED),
        (of_recipe("never listed"), "v2", Reason.OUTDATED),
        (replaced(of_recipe("never listed"), modified_s=NOW_S - 3599), "v2", None),
        (replaced(of_recipe("earlier"), modified_s=NOW_S), "v2", Reason.OUTDATED),
        (of_recipe("anything", Format.PNG), "v2", None),
        (replaced(ITEM, target=DROPPED), "v2", Reason.UNLISTED),
        (replaced(ITEM, target=DROPPED), None, Reason.UNLISTED),
        (replaced(ITEM, kind=Kind.MISNAMED), "v2", Reason.MISNAMED),
        (replaced(ITEM, kind=Kind.DAMAGED, record=None), "v2", Reason.DAMAGED),
        (replaced(ITEM, kind=Kind.TEMPORARY), None, Reason.TEMPORARY),
        (replaced(ITEM, kind=Kind.FOREIGN), None, None),
        (replaced(ITEM, kind=Kind.FOREIGN, target=DROPPED), None, None),
        (replaced(ITEM, modified_s=NOW_S - 10 * DAY_S), "v2", Reason.EXPIRED),
        (replaced(ITEM, modified_s=NOW_S - 10 * DAY_S + 1), "v2", None),
        (replaced(ITEM, modified_s=NOW_S - 10 * DAY_S), "v3", Reason.OUTDATED),
        (replaced(ITEM, key="h/a.jpg", modified_s=0.0), "v2", None),
        (replaced(FACTS, modified_s=0.0), "v2", None),
    ],
)
def test_item_has_the_first_reason_that_applies(
    item: StoredItem, version: str | None, reason: Reason | None
) -> None:
    assert reason_of(item, version, RULES, NOW_S) is reason
    if by_name := reason_by_name(item, RULES):
        assert item.kind is Kind.FOREIGN or by_name is reason


def test_rendition_of_a_size_that_the_list_does_not_name_is_not_outdated() -> None:
    rules = replaced(RULES, ranks=Ranks.of(()))
    assert reason_of(of_recipe("anything"), "v2", rules, NOW_S) is None


@pytest.mark.parametrize(
    ("is_expired", "reason", "included"),
    [
        (None, Reason.EXPIRED, True),
        (None, Reason.ORPHAN, True),
        (True, Reason.EXPIRED, True),
        (True, Reason.ORPHAN, False),
        (False, Reason.EXPIRED, False),
        (False, Reason.ORPHAN, True),
    ],
)
def test_selection_is_of_expired_items_or_of_others(
    *, is_expired: bool | None, reason: Reason, included: bool
) -> None:
    selection = Selection(is_expired=is_expired, older_than_s=60.0)
    assert selection.includes(reason, NOW_S - 60, NOW_S) == included
    assert not selection.includes(reason, NOW_S - 59, NOW_S)
