"""What happens to a viewer's request? Read this first: one request, from top to bottom."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.cloudfront import behaviors, cache_policies, ranges, signed_requests
from galerly_cdn.aws_local.cloudfront.access_log import LoggedRequest
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
from galerly_cdn.aws_local.http.viewer_exchange import Outcome, ViewerRequest, ViewerResponse
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.aws_local.cloudfront.cache import Cache
    from galerly_cdn.aws_local.cloudfront.distribution import Behavior, Distribution
    from galerly_cdn.aws_local.cloudfront.origins import Origins
    from galerly_cdn.aws_local.cloudfront.viewer_functions import ViewerFunctions
    from galerly_cdn.aws_local.http.origin_exchange import OriginResponse


@dataclass
class Edge:
    """A distribution at work. `clock` tells seconds of the epoch, `record` gets every visit."""

    distribution: Distribution
    functions: ViewerFunctions
    cache: Cache
    origins: Origins
    clock: Callable[[], float]
    record: Callable[[LoggedRequest], None]
    https_port: int = 443
    """Where redirects lead to."""

    async def respond(self, request: ViewerRequest) -> ViewerResponse:
        """The response to a viewer, with CloudFront's own headers."""
        request_id, started_s = secrets.token_urlsafe(40), self.clock()
        outcome = await self._outcome(request, request_id)
        self.record(
            LoggedRequest(
                request=request,
                outcome=outcome,
                request_id=request_id,
                started_s=started_s,
                took_s=self.clock() - started_s,
            )
        )
        own = {
            "x-cache": f"{outcome.result} from cloudfront",
            "via": f"1.1 {self.distribution.domain} (CloudFront)",
            "x-amz-cf-id": request_id,
        }
        return replaced(outcome.response, headers=outcome.response.headers | own)

    async def _outcome(self, request: ViewerRequest, request_id: str) -> Outcome:
        chosen = behaviors.choose(self.distribution.behaviors, request.raw_path)
        refused = behaviors.refusal(chosen, request, self.https_port)
        if refused is None and chosen.keys is not None:
            refused = signed_requests.refusal(chosen.keys, request, self.clock())
            request = signed_requests.without_signature(request)
        if refused is not None:
            return refused
        asked = await self.functions.on_request(chosen, request, request_id)
        found = asked if isinstance(asked, Outcome) else await self._object(chosen, asked)
        headers = chosen.headers.applied(found.response.headers, request)
        found = replaced(found, response=replaced(found.response, headers=headers))
        if isinstance(asked, Outcome):
            return found
        delivered = replaced(found, response=ranges.apply_conditions(found.response, request))
        return await self.functions.on_response(chosen, asked, delivered, request_id)

    async def _object(self, chosen: Behavior, request: ViewerRequest) -> Outcome:
        """From the cache, or from the origins under the path that the function has left."""
        key = replaced(cache_policies.cache_key(request, chosen.cache), method=request.method)
        sent = cache_policies.forwarded_values(request, chosen.cache, chosen.forwarded)

        async def ask(conditions: dict[str, str]) -> OriginResponse:
            return await self.origins.respond(
                chosen.target,
                OriginRequest(
                    method=request.method,
                    scheme=request.scheme,
                    host=request.host,
                    raw_path=request.raw_path,
                    query=sent.query,
                    headers={**sent.headers, **conditions, **self._introduced(request)},
                ),
            )

        return await self.cache.respond(key, chosen.cache, ask)

    def _introduced(self, request: ViewerRequest) -> dict[str, str]:
        """Headers by which CloudFront introduces itself; the viewer's own are gone."""
        return {
            "user-agent": "Amazon CloudFront",
            "via": f"1.1 {self.distribution.domain} (CloudFront)",
            "x-forwarded-for": request.client,
        }
