"""The resizer's Lambda handler. Importing this module builds everything once per start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import composition
from galerly_cdn.aws.functions.resizer import Resizer
from galerly_cdn.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

_runner = asyncio.Runner()
"""One event loop for all events, so that connections to the store stay open between them."""
_stores = composition.open_stores()
_resizer = Resizer(
    _stores,
    composition.build_filler(_stores),
    clock=SYSTEM_CLOCK,
    write_line=composition.write_log_line,
)


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context is untyped
    """Answer one function-URL event."""
    return _runner.run(_resizer.answer(event, context.aws_request_id, context.function_name))
