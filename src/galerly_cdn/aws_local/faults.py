"""What can go wrong at an origin, on demand: switches for tests."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse

if TYPE_CHECKING:
    from galerly_cdn.aws_local.http.origin_exchange import Responder


class Fault(enum.Enum):
    """`SLOW` is over its time at once: nobody waits."""

    DOWN = enum.auto()
    SLOW = enum.auto()
    FORBIDDEN = enum.auto()
    THROTTLED = enum.auto()
    OVERSIZE = enum.auto()
    CRASHED = enum.auto()


_BAD_GATEWAY = OriginResponse(502, {"content-type": "application/json"}, b'{"Message":"Bad Gateway"}')
_ANSWERS = {
    Fault.FORBIDDEN: OriginResponse(403, {"content-type": "application/xml"}, b"<Error/>"),
    Fault.THROTTLED: OriginResponse(
        429, {"content-type": "application/json"}, b'{"Reason":"ConcurrentInvocationLimitExceeded"}'
    ),
    Fault.OVERSIZE: _BAD_GATEWAY,
    Fault.CRASHED: _BAD_GATEWAY,
}


class FaultInjector:
    """An origin that works until `fault` is set; `asked` counts the requests that came."""

    def __init__(self, inner: Responder) -> None:
        self._inner = inner
        self.fault: Fault | None = None
        self.asked = 0

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.asked += 1
        match self.fault:
            case None:
                return await self._inner.respond(request)
            case Fault.DOWN:
                raise ConnectionRefusedError("down")
            case Fault.SLOW:
                raise TimeoutError("slow")
            case fault:
                return _ANSWERS[fault]
