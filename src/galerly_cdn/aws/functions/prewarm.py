"""Renders every size and format of an uploaded photograph from one decode, before a viewer requests them."""

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
    """The log line of one upload: the renditions made, and those that were stored before.

    `reason` and `detail` are an error's, where the original is gone or cannot be rendered.
    """

    key: str
    made: int
    was_there: int
    reason: str = ""
    detail: str = ""


class Prewarm:
    """Handles upload events. `wall` returns seconds since the epoch, `log` writes one line."""

    def __init__(
        self, stores: Stores, filler: Filler, *, wall: Callable[[], float], log: Callable[[bytes], None]
    ) -> None:
        self._folder = stores.folder
        self._targets = stores.settings.page_targets
        self._filler = filler
        self._wall = wall
        self._log = log

    async def handle(self, event: Mapping[str, Any], function: str) -> None:
        """Warm every original that was put; `function` is this function's name, for its metrics.

        Raises every error that a retry may solve; the queue delivers the message again.
        """
        try:
            for change in s3_events.object_changes(event, self._folder):
                if change.is_put:
                    await self._warm(change.key, function)
        finally:
            await self._filler.drain()  # the fact records are written before Lambda stops the process

    async def _warm(self, key: str, function: str) -> None:
        made_bytes = made = was_there = 0
        reason = detail = ""
        try:
            async for warmed in self._filler.warm(key, self._targets):
                was_there += warmed.was_there
                made += not warmed.was_there
                made_bytes += 0 if warmed.was_there else warmed.length_bytes
        except (Unrenderable, NoSuchOriginal) as error:  # a retry would fail the same way
            reason, detail = error.code, error.detail
        finally:
            self._log(to_json(PrewarmResult(key, made, was_there, reason, detail)))
            if made_bytes:
                self._log(emf.metric_line(function, {"RenditionBytes": made_bytes}, self._wall()))
