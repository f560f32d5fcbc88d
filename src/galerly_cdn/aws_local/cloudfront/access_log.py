"""What does the access log tell of a request? Standard logging v2's fields, a line of JSON. Pure.

Source: the CloudFront Developer Guide, "Standard logging (access logs)", the fields' reference.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.cloudformation.properties import Property, UnmodelledProperty
from galerly_cdn.aws_local.http.viewer_exchange import Outcome, ViewerRequest
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws_local.cloudformation.stack import Stack

_KIND = "AWS::Logs::Delivery"
_LOCATION = "LOCAL1"


class LogDelivery(Property, frozen=True):
    """AWS::Logs::Delivery."""

    record_fields: tuple[str, ...]


class LoggedRequest(Value, frozen=True, kw_only=True):
    """A request that was answered; `started_s` in seconds of the epoch."""

    request: ViewerRequest
    outcome: Outcome
    request_id: str
    started_s: float
    took_s: float

    @property
    def time(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.started_s, dt.UTC)


_FIELDS: Mapping[str, Callable[[LoggedRequest], str]] = {
    "date": lambda visit: f"{visit.time:%Y-%m-%d}",
    "time": lambda visit: f"{visit.time:%H:%M:%S}",
    "x-edge-location": lambda _: _LOCATION,
    "c-ip": lambda visit: visit.request.client,
    "cs-method": lambda visit: visit.request.method,
    "cs-protocol": lambda visit: visit.request.scheme,
    "cs-protocol-version": lambda _: "HTTP/1.1",
    "x-host-header": lambda visit: visit.request.host,
    "cs-uri-stem": lambda visit: visit.request.raw_path,
    "cs(Referer)": lambda visit: visit.request.headers.get("referer", "-"),
    "cs(User-Agent)": lambda visit: visit.request.headers.get("user-agent", "-"),
    "sc-status": lambda visit: str(visit.outcome.response.status),
    "sc-bytes": lambda visit: str(len(visit.outcome.response.body)),
    "sc-content-type": lambda visit: visit.outcome.response.headers.get("content-type", "-"),
    "sc-content-len": lambda visit: str(len(visit.outcome.response.body)),
    "time-taken": lambda visit: f"{visit.took_s:.3f}",
    "time-to-first-byte": lambda visit: f"{visit.took_s:.3f}",
    "x-edge-result-type": lambda visit: visit.outcome.result,
    "x-edge-response-result-type": lambda visit: visit.outcome.result,
    "x-edge-detailed-result-type": lambda visit: visit.outcome.result,
    "x-edge-request-id": lambda visit: visit.request_id,
}


def fields(stack: Stack) -> tuple[str, ...]:
    """Those that the template's delivery names. Raises `UnmodelledProperty` for one that is not known."""
    named = [
        (name, field) for name, one in stack.all(LogDelivery, _KIND).items() for field in one.record_fields
    ]
    for name, field in named:
        if field not in _FIELDS:
            raise UnmodelledProperty(name, "RecordFields", f"the field {field} is not modelled")
    return tuple(field for _, field in named)


def line(visit: LoggedRequest, chosen: tuple[str, ...]) -> dict[str, str]:
    """The record of a visit."""
    return {name: _FIELDS[name](visit) for name in chosen}
