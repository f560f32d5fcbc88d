"""Every size and format of a photograph that was just uploaded, from one decode, before anybody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import emf, s3_events
from galerly_cdn.errors import NoSuchOriginal, Unrenderable
from galerly_cdn.serialization import Value, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws.functions.composition import Stores
    from galerly_cdn.fill import Filler


class PrewarmResult(Value, frozen=True, omit_defaults=True):
    """What came of one upload: renditions made, and those there before; a `reason` where it ended early."""

    key: str
    made: int
    was_there: int
    reason: str = ""
    detail: str = ""


class Prewarm:
    """Takes upload events. `wall` tells seconds since the epoch."""

    def __init__(
        self, stores: Stores, origin: Filler, *, wall: Callable[[], float], tell: Callable[[bytes], None]
    ) -> None:
        self._folder = stores.folder
        self._targets = stores.settings.page_targets
        self._origin = origin
        self._wall = wall
        self._tell = tell

    async def take(self, event: Mapping[str, Any], function: str) -> None:
        """Warm what was put. Raises what a later try may mend; the queue will bring it again."""
        for change in s3_events.object_changes(event, self._folder):
            if change.is_put:
                await self._warm(change.key, function)

    async def _warm(self, key: str, function: str) -> None:
        made_bytes = made = was_there = 0
        reason = detail = ""
        try:
            async for warmed in self._origin.warm(key, self._targets):
                was_there += warmed.was_there
                made += not warmed.was_there
                made_bytes += 0 if warmed.was_there else warmed.length_bytes
        except (Unrenderable, NoSuchOriginal) as error:  # another try would end the same
            reason, detail = error.code, error.detail
        finally:
            self._tell(to_json(PrewarmResult(key, made, was_there, reason, detail)))
            if made_bytes:
                self._tell(emf.metric_line(function, {"RenditionBytes": made_bytes}, self._wall()))
