"""Sends a miss to an origin or an origin group: attempts, time-outs and failover.

Source: the CloudFront Developer Guide, "Optimize high availability with CloudFront origin failover".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.http import viewer_exchange
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.aws_local.cloudfront.distribution import Distribution, Origin
    from galerly_cdn.aws_local.http.origin_exchange import Responder


class Origins:
    """The origins and origin groups of a distribution. `responders` are the origins' servers by origin ID."""

    def __init__(self, distribution: Distribution, responders: Mapping[str, Responder]) -> None:
        self._origins = distribution.origins
        self._groups = distribution.origin_groups
        self._responders = responders

    async def respond(self, target: str, request: OriginRequest) -> OriginResponse:
        """The response of an origin or an origin group.

        In a group the primary origin is always tried first, and the secondary's response is final. The status
        is 502 if the origin cannot be reached, 504 if it does not respond in time.
        """
        if target not in self._groups:
            return await self._respond_finally(self._origins[target], request)
        group = self._groups[target]
        primary, secondary = (self._origins[one.origin_id] for one in group.members.items)
        try:
            first = await self._send(primary, request)
        except OSError:
            return await self._respond_finally(secondary, request)
        if first.status in group.failover_criteria.status_codes.items:
            return await self._respond_finally(secondary, request)
        return first

    async def _respond_finally(self, origin: Origin, request: OriginRequest) -> OriginResponse:
        try:
            return await self._send(origin, request)
        except TimeoutError:
            return _failure(504, "The origin did not answer in time.")
        except OSError:
            return _failure(502, "The origin could not be reached.")

    async def _send(self, origin: Origin, request: OriginRequest) -> OriginResponse:
        """Raises `OSError`, `TimeoutError` included, when all attempts have failed.

        A request to S3 is repeated only if S3 could not be reached; a request to another origin is repeated
        after a time-out too. The viewer's scheme is used only for an S3 origin without signatures.
        """
        scheme = "https" if origin.is_signed or origin.kind == "lambda" else request.scheme
        forwarded = replaced(request, host=origin.domain, scheme=scheme)
        for _ in range(origin.connection_attempts - 1):
            try:
                return await self._attempt(origin, forwarded)
            except TimeoutError:
                if origin.kind == "s3":
                    raise
            except OSError:
                continue
        return await self._attempt(origin, forwarded)

    async def _attempt(self, origin: Origin, request: OriginRequest) -> OriginResponse:
        async with asyncio.timeout(origin.response_timeout_s):
            return await self._responders[origin.id].respond(request)


def _failure(status: int, message: str) -> OriginResponse:
    error = viewer_exchange.error(status, "OriginError", message).response
    return OriginResponse(status, error.headers, error.body)
