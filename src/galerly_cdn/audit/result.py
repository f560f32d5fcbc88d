"""Defines the result of an audit and of a clean-up, as JSON has it (docs/audit.schema.json)."""

from __future__ import annotations

from galerly_cdn.audit.judgement import Reason
from galerly_cdn.serialization import Value


class Amount(Value, frozen=True):
    """A number of files or objects, and their bytes."""

    items: int = 0
    bytes: int = 0


class Removable(Value, frozen=True):
    """What can be removed for one reason; `examples` are the first ones."""

    reason: Reason
    items: int
    bytes: int
    examples: tuple[str, ...]


class Unshown(Value, frozen=True):
    """Originals that cannot be shown, by the code of the error that answers a request for them."""

    code: str
    message: str
    originals: int
    examples: tuple[str, ...]


class Group(Value, frozen=True):
    """What a gallery, a size or a day holds; a day by the time of the last change, in UTC."""

    name: str
    originals: int
    original_bytes: int
    renditions: int
    rendition_bytes: int


class Audit(Value, frozen=True, kw_only=True):
    """What a store, or one shard of it, holds, and what can be removed.

    `expired_originals` are among the removable items. `foreign` is of other programs, or in use, and left
    alone. `galleries` are the largest; `gallery_count` is the number of all. `unread_facts` counts the fact
    records that were not read, so that refusals by them are missing in `unshown`; `without_facts` the
    originals that were never requested.
    """

    shard: str
    originals: Amount
    renditions: Amount
    facts: Amount
    foreign: Amount
    removable: tuple[Removable, ...]
    expired_originals: int
    unshown: tuple[Unshown, ...]
    unread_facts: int
    without_facts: int
    gallery_count: int
    galleries: tuple[Group, ...]
    sizes: tuple[Group, ...]
    days: tuple[Group, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing can be removed."""
        return not self.removable


class Removed(Value, frozen=True):
    """An item that was removed, or in a trial would be.

    `name` is its path below the root of the renditions, `what` what it was: `800x600.webp/gallery/a.jpg`.
    `key` is empty if it is not known.
    """

    name: str
    what: str
    key: str
    reason: Reason
    bytes: int


class Cleaned(Value, frozen=True, kw_only=True):
    """The result of a clean-up: what was removed for each reason, and what was not.

    `kept` counts items of the audit that had changed, or that another process had removed, until their
    turn. `failed` counts those that the store refused to remove; another run tries them again.
    """

    is_trial: bool
    removed: dict[Reason, Amount]
    kept: int
    failed: int
