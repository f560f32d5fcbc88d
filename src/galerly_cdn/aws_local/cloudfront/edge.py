"""Handles one viewer request from start to end: read this first."""

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
    """A running distribution. `clock` returns seconds of the epoch; `record` gets every request."""

    distribution: Distribution
    functions: ViewerFunctions
    cache: Cache
    origins: Origins
    clock: Callable[[], float]
    record: Callable[[LoggedRequest], None]
    https_port: int = 443
    """The port of redirects to HTTPS."""

    async def respond(self, request: ViewerRequest) -> ViewerResponse:
        """The response to a viewer's request, with the headers that CloudFront adds."""
        request_id, started_s = secrets.token_urlsafe(40), self.clock()
        outcome = await self._outcome(request, request_id)
        self.record(
            LoggedRequest(
                request=request,
                outcome=outcome,
                request_id=request_id,
                started_s=started_s,
                duration_s=self.clock() - started_s,
            )
        )
        added = {
            "x-cache": f"{outcome.result} from cloudfront",
            "via": f"1.1 {self.distribution.domain} (CloudFront)",
            "x-amz-cf-id": request_id,
        }
        return replaced(outcome.response, headers=outcome.response.headers | added)

    async def _outcome(self, request: ViewerRequest, request_id: str) -> Outcome:
        behavior = behaviors.choose(self.distribution.behaviors, request.raw_path)
        refusal = behaviors.refusal(behavior, request, self.https_port)
        if refusal is None and behavior.public_keys is not None:
            refusal = signed_requests.refusal(behavior.public_keys, request, self.clock())
            request = signed_requests.without_signature(request)
        if refusal is not None:
            return refusal
        changed = await self.functions.on_request(behavior, request, request_id)
        outcome = changed if isinstance(changed, Outcome) else await self._object(behavior, changed)
        headers = behavior.response_headers_policy.apply(outcome.response.headers, request)
        outcome = replaced(outcome, response=replaced(outcome.response, headers=headers))
        if isinstance(changed, Outcome):
            return outcome
        delivered = replaced(outcome, response=ranges.apply_conditions(outcome.response, request))
        return await self.functions.on_response(behavior, changed, delivered, request_id)

    async def _object(self, behavior: Behavior, request: ViewerRequest) -> Outcome:
        """The object from the cache, or from the origins by the path that the function returned."""
        key = replaced(cache_policies.cache_key(request, behavior.cache_policy), method=request.method)
        forwarded = cache_policies.forwarded_values(
            request, behavior.cache_policy, behavior.origin_request_policy
        )

        async def fetch(conditions: dict[str, str]) -> OriginResponse:
            return await self.origins.respond(
                behavior.target_origin_id,
                OriginRequest(
                    method=request.method,
                    scheme=request.scheme,
                    host=request.host,
                    raw_path=request.raw_path,
                    query=forwarded.query,
                    headers={**forwarded.headers, **conditions, **self._cloudfront_headers(request)},
                ),
            )

        return await self.cache.respond(key, behavior.cache_policy, fetch)

    def _cloudfront_headers(self, request: ViewerRequest) -> dict[str, str]:
        """The headers that CloudFront sends to origins in place of the viewer's own."""
        return {
            "user-agent": "Amazon CloudFront",
            "via": f"1.1 {self.distribution.domain} (CloudFront)",
            "x-forwarded-for": request.client,
        }
