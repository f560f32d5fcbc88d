"""The prewarm function's Lambda handler. Importing this module builds everything once per start."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import composition
from galerly_cdn.aws.functions.prewarm import Prewarm

if TYPE_CHECKING:
    from collections.abc import Mapping

_runner = asyncio.Runner()
_stores = composition.open_stores()
_prewarm = Prewarm(
    _stores,
    composition.build_filler(_stores),
    wall=time.time,  # noqa: TID251 - the composition chooses the clock
    log=composition.write_log_line,
)


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any] | None:  # noqa: ANN401 - Lambda's context is untyped
    """Handle the messages of a queue, or the tasks of a job of S3 Batch Operations.

    Raises for the queue to deliver the messages again.
    """
    if "tasks" in event:
        return _runner.run(_prewarm.handle_job(event, context.function_name))
    _runner.run(_prewarm.handle(event, context.function_name))
    return None
