"""Who is asked on a miss, how often, and whose response counts?

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
    """The origins and groups of a distribution; `doors` are who answers for each origin, by its id."""

    def __init__(self, distribution: Distribution, doors: Mapping[str, Responder]) -> None:
        self._origins = distribution.origins
        self._groups = distribution.groups
        self._doors = doors

    async def respond(self, target: str, request: OriginRequest) -> OriginResponse:
        """What an origin or a group answers: the primary always first, the secondary's word is final.

        502 and 504 of CloudFront's own where nobody can be reached, or answers in time.
        """
        if target not in self._groups:
            return await self._final(self._origins[target], request)
        group = self._groups[target]
        primary, secondary = (self._origins[one.origin_id] for one in group.members.items)
        try:
            first = await self._ask(primary, request)
        except OSError:
            return await self._final(secondary, request)
        if first.status in group.failover_criteria.status_codes.items:
            return await self._final(secondary, request)
        return first

    async def _final(self, origin: Origin, request: OriginRequest) -> OriginResponse:
        try:
            return await self._ask(origin, request)
        except TimeoutError:
            return _failure(504, "The origin did not answer in time.")
        except OSError:
            return _failure(502, "The origin could not be reached.")

    async def _ask(self, origin: Origin, request: OriginRequest) -> OriginResponse:
        """Raises `OSError`, a `TimeoutError` among them, when all attempts are used up.

        A bucket is asked again only if it could not be reached, any other origin after a timeout too. It is
        asked by the viewer's scheme only where nothing is signed.
        """
        scheme = "https" if origin.is_signed or origin.kind == "lambda" else request.scheme
        asked = replaced(request, host=origin.domain, scheme=scheme)
        for _ in range(origin.attempts - 1):
            try:
                return await self._attempt(origin, asked)
            except TimeoutError:
                if origin.kind == "s3":
                    raise
            except OSError:
                continue
        return await self._attempt(origin, asked)

    async def _attempt(self, origin: Origin, request: OriginRequest) -> OriginResponse:
        async with asyncio.timeout(origin.read_s):
            return await self._doors[origin.id].respond(request)


def _failure(status: int, message: str) -> OriginResponse:
    own = viewer_exchange.error(status, "OriginError", message).response
    return OriginResponse(status, own.headers, own.body)
