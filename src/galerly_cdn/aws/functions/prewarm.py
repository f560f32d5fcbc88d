"""Renders the sizes of `warm_sizes` of a photograph from one decode, before a viewer requests them.

A queue passes uploads. S3 Batch Operations passes the photographs of a job (`galerly-cdn aws warm --all`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from galerly_cdn.aws.functions import emf, s3_events
from galerly_cdn.errors import GalerlyError, MalformedKey, NoSuchOriginal, Unrenderable
from galerly_cdn.http.urls import checked_key
from galerly_cdn.serialization import Value, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from galerly_cdn.aws.functions.composition import Stores
    from galerly_cdn.fill import Filler
    from galerly_cdn.model import Target


class PrewarmResult(Value, frozen=True, omit_defaults=True):
    """The log line of one upload: the renditions made, and those that were stored before.

    `reason` and `detail` are an error's, where the original is gone or cannot be rendered.
    """

    key: str
    made: int
    was_there: int
    reason: str = ""
    detail: str = ""


class TaskResult(Value, frozen=True):
    """The result of one photograph of a job.

    Renditions made, those of them that replaced an outdated one, and those that were stored and current.
    """

    made: int
    outdated: int
    current: int


class Prewarm:
    """Handles upload events, and the tasks of a job.

    `wall` returns seconds since the epoch, `log` writes one line.
    """

    def __init__(
        self, stores: Stores, filler: Filler, *, wall: Callable[[], float], log: Callable[[bytes], None]
    ) -> None:
        self._folder = stores.folder
        self._originals = stores.originals
        self._renditions = stores.renditions
        self._targets = stores.settings.warm_targets
        self._all_targets = stores.settings.all_targets
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
                    await self._warm(change.key, self._targets, function)
        finally:
            await self._filler.drain()  # the fact records are written before Lambda stops the process

    async def handle_job(self, event: Mapping[str, Any], function: str) -> dict[str, Any]:
        """Warm the photographs of a job's tasks; the result has a code for each task.

        Stored renditions that are not current, of whatever target, are made anew. Amazon S3 User Guide,
        "Invoke AWS Lambda function": S3 repeats tasks with a temporary failure. Raises `KeyError` for an
        event of another kind.
        """
        results = []
        try:
            for task in event["tasks"]:
                code, text = await self._run_task(unquote_plus(task["s3Key"]), function)
                results.append({"taskId": task["taskId"], "resultCode": code, "resultString": text})
        finally:
            await self._filler.drain()
        return {
            "invocationSchemaVersion": event["invocationSchemaVersion"],
            "treatMissingKeysAs": "PermanentFailure",
            "invocationId": event["invocationId"],
            "results": results,
        }

    async def _run_task(self, name: str, function: str) -> tuple[str, str]:
        """The result code of one photograph, and a `TaskResult` as JSON or an error's code."""
        try:
            key = checked_key(name.removeprefix(self._folder))
            version = (await self._originals.head(key, remembered=False)).version
            stored = {target: await self._renditions.record(key, target) for target in self._all_targets}
            outdated = [
                target
                for target, record in stored.items()
                if record is not None and not await self._filler.stored.serves(record, version)
            ]
            targets = list(dict.fromkeys([*self._targets, *outdated]))
            missing = [target for target in targets if stored[target] is None]
            result = PrewarmResult(key, 0, len(targets))
            if outdated or missing:
                result = await self._warm(key, targets, function)
        except (Unrenderable, NoSuchOriginal, MalformedKey) as error:
            return "PermanentFailure", error.code
        except GalerlyError as error:
            return "TemporaryFailure", error.code
        if result.reason:
            return "PermanentFailure", result.reason
        return "Succeeded", to_json(TaskResult(result.made, len(outdated), result.was_there)).decode()

    async def _warm(self, key: str, targets: Sequence[Target], function: str) -> PrewarmResult:
        made_bytes = made = was_there = 0
        reason = detail = ""
        try:
            async for warmed in self._filler.warm(key, targets):
                was_there += warmed.was_there
                made += not warmed.was_there
                made_bytes += 0 if warmed.was_there else warmed.length_bytes
        except (Unrenderable, NoSuchOriginal) as error:  # a retry would fail the same way
            reason, detail = error.code, error.detail
        finally:
            result = PrewarmResult(key, made, was_there, reason, detail)
            self._log(to_json(result))
            if made_bytes:
                self._log(emf.metric_line(function, {"RenditionBytes": made_bytes}, self._wall()))
        return result
