"""Decides which items of a store can be removed, and why. Pure.

The same decision lists an item in the audit and removes it, by facts that were read just before.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from galerly_cdn.http.urls import gallery_name
from galerly_cdn.model import Target
from galerly_cdn.recipes import Ranks
from galerly_cdn.serialization import Value
from galerly_cdn.settings.expire import ExpireRule, rule_for
from galerly_cdn.store.stored_items import Kind, StoredItem
from galerly_cdn.stored_keys import ALL, Shard

if TYPE_CHECKING:
    from galerly_cdn.model import Record

HOUR_S = 3600.0
"""How long a fill, an upload or an entry of the list of recipes may be under way."""


class Reason(enum.StrEnum):
    """Why an item can be removed."""

    ORPHAN = "orphan"
    OUTDATED = "outdated"
    UNLISTED = "unlisted"
    MISNAMED = "misnamed"
    DAMAGED = "damaged"
    TEMPORARY = "temporary"
    EXPIRED = "expired"

    @property
    def meaning(self) -> str:
        """For people, in a few words."""
        return _MEANINGS[self]


_MEANINGS = {
    Reason.ORPHAN: "the original is gone",
    Reason.OUTDATED: "made from an earlier version of the original, or by an earlier recipe",
    Reason.UNLISTED: "the size or the format is no longer in the allow-list",
    Reason.MISNAMED: "under a name that nothing asks for, such as an earlier spelling of the key",
    Reason.DAMAGED: "in the place of a rendition, and none",
    Reason.TEMPORARY: "left by a process that was killed, or an upload that was not completed",
    Reason.EXPIRED: "older than the setting `expire` allows; only `store clean --expired` removes it",
}


class Rules(Value, frozen=True):
    """What decides about an item: the allow-list, the store's list of recipes, and the rules of `expire`."""

    allowed: frozenset[Target]
    ranks: Ranks
    expire: tuple[ExpireRule, ...]

    def is_outdated(self, record: Record, age_s: float) -> bool:
        """Whether the list names another recipe for the size and format.

        A recipe that the list does not name is given an hour: its entry may not be appended yet.
        """
        name = str(record.named_target)
        current = self.ranks.current.get(name, record.recipe)
        return record.recipe != current and (self.ranks.rank(name, record.recipe) > 0 or age_s >= HOUR_S)


def reason_by_name(item: StoredItem, rules: Rules) -> Reason | None:
    """The reason that is known without reading the item; None if reading may tell one."""
    if item.kind is Kind.TEMPORARY:
        return Reason.TEMPORARY
    if item.target is not None and item.target not in rules.allowed:
        return Reason.UNLISTED
    return None


def reason_of(item: StoredItem, version: str | None, rules: Rules, now_s: float) -> Reason | None:
    """The first reason to remove an item that was read; None to keep it.

    `version` is that of the item's original, None if there is no original.
    """
    if item.kind is Kind.FOREIGN:
        return None
    if by_name := reason_by_name(item, rules):
        return by_name
    if item.kind in {Kind.MISNAMED, Kind.DAMAGED}:
        return Reason(item.kind.value)
    if version is None:
        return Reason.ORPHAN
    age_s = now_s - item.modified_s
    if item.version != version or (item.record and rules.is_outdated(item.record, age_s)):
        return Reason.OUTDATED
    rule = rule_for(rules.expire, gallery_name(item.key)) if item.record else None
    return Reason.EXPIRED if rule and rule.has_expired(item.modified_s, now_s) else None


class Selection(Value, frozen=True):
    """Which items a command is about: expired ones or all others, of an age, and of one shard."""

    is_expired: bool | None = None
    """None for both."""
    older_than_s: float = 0.0
    shard: Shard = ALL

    def includes(self, reason: Reason, modified_s: float, now_s: float) -> bool:
        """Whether to remove an item that was modified then."""
        is_wanted = self.is_expired is None or self.is_expired == (reason is Reason.EXPIRED)
        return is_wanted and now_s - modified_s >= self.older_than_s
