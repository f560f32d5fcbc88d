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


def handler(event: Mapping[str, Any], context: Any) -> None:  # noqa: ANN401 - Lambda's context is untyped
    """Handle the messages of one event. Raises for the queue to deliver them again."""
    _runner.run(_prewarm.handle(event, context.function_name))
