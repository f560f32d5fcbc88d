"""Injects faults into an origin, for tests of what CloudFront does about them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse

if TYPE_CHECKING:
    from galerly_cdn.aws_local.http.origin_exchange import Responder


class Fault(enum.Enum):
    """How an origin fails. `SLOW` is a time-out at once, so that no test has to wait for it."""

    DOWN = enum.auto()
    SLOW = enum.auto()
    FORBIDDEN = enum.auto()
    THROTTLED = enum.auto()
    OVERSIZE = enum.auto()
    CRASHED = enum.auto()


_BAD_GATEWAY = OriginResponse(502, {"content-type": "application/json"}, b'{"Message":"Bad Gateway"}')
_RESPONSES = {
    Fault.FORBIDDEN: OriginResponse(403, {"content-type": "application/xml"}, b"<Error/>"),
    Fault.THROTTLED: OriginResponse(
        429, {"content-type": "application/json"}, b'{"Reason":"ConcurrentInvocationLimitExceeded"}'
    ),
    Fault.OVERSIZE: _BAD_GATEWAY,
    Fault.CRASHED: _BAD_GATEWAY,
}


class FaultInjector:
    """An origin that works until `fault` is set. `request_count` counts all requests, failed ones too."""

    def __init__(self, inner: Responder) -> None:
        self._inner = inner
        self.fault: Fault | None = None
        self.request_count = 0

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.request_count += 1
        match self.fault:
            case None:
                return await self._inner.respond(request)
            case Fault.DOWN:
                raise ConnectionRefusedError("down")
            case Fault.SLOW:
                raise TimeoutError("slow")
            case fault:
                return _RESPONSES[fault]
