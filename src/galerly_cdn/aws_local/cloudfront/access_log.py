"""Writes a request's access log record, with the fields of standard logging v2 that the template names.

Source: the CloudFront Developer Guide, "Standard logging (access logs)", the reference of the fields.
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

_TYPE = "AWS::Logs::Delivery"
_LOCATION = "LOCAL1"


class LogDelivery(Property, frozen=True):
    """AWS::Logs::Delivery."""

    record_fields: tuple[str, ...]


class LoggedRequest(Value, frozen=True, kw_only=True):
    """A request and its outcome. `started_s` is in seconds of the epoch."""

    request: ViewerRequest
    outcome: Outcome
    request_id: str
    started_s: float
    duration_s: float

    @property
    def time(self) -> dt.datetime:
        """When the request started, in UTC."""
        return dt.datetime.fromtimestamp(self.started_s, dt.UTC)


_FIELDS: Mapping[str, Callable[[LoggedRequest], str]] = {
    "date": lambda logged: f"{logged.time:%Y-%m-%d}",
    "time": lambda logged: f"{logged.time:%H:%M:%S}",
    "x-edge-location": lambda _: _LOCATION,
    "c-ip": lambda logged: logged.request.client,
    "cs-method": lambda logged: logged.request.method,
    "cs-protocol": lambda logged: logged.request.scheme,
    "cs-protocol-version": lambda _: "HTTP/1.1",
    "x-host-header": lambda logged: logged.request.host,
    "cs-uri-stem": lambda logged: logged.request.raw_path,
    "cs(Referer)": lambda logged: logged.request.headers.get("referer", "-"),
    "cs(User-Agent)": lambda logged: logged.request.headers.get("user-agent", "-"),
    "sc-status": lambda logged: str(logged.outcome.response.status),
    "sc-bytes": lambda logged: str(len(logged.outcome.response.body)),
    "sc-content-type": lambda logged: logged.outcome.response.headers.get("content-type", "-"),
    "sc-content-len": lambda logged: str(len(logged.outcome.response.body)),
    "time-taken": lambda logged: f"{logged.duration_s:.3f}",
    "time-to-first-byte": lambda logged: f"{logged.duration_s:.3f}",
    "x-edge-result-type": lambda logged: logged.outcome.result,
    "x-edge-response-result-type": lambda logged: logged.outcome.result,
    "x-edge-detailed-result-type": lambda logged: logged.outcome.result,
    "x-edge-request-id": lambda logged: logged.request_id,
}


def record_fields(stack: Stack) -> tuple[str, ...]:
    """The fields that the template's log delivery names. Raises `UnmodelledProperty` for an unknown field."""
    named = [
        (name, field)
        for name, delivery in stack.all(LogDelivery, _TYPE).items()
        for field in delivery.record_fields
    ]
    for name, field in named:
        if field not in _FIELDS:
            raise UnmodelledProperty(name, "RecordFields", f"the field {field} is not modelled")
    return tuple(field for _, field in named)


def log_record(request: LoggedRequest, fields: tuple[str, ...]) -> dict[str, str]:
    """The access log record of a request, with these fields."""
    return {field: _FIELDS[field](request) for field in fields}
