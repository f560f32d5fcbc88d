"""Sends OpenTelemetry spans of viewers' requests. The only importer of OpenTelemetry, an extra.

    GET /resize/{size}/{key}    the request, from its first byte to the last one of the response
      store.look_up             until the fill began: the original's version, and the stored rendition
      worker.queue              the stages of the fill, one after the other
      store.open
      worker.render
      store.put
      store.head

The spans of a request are made when it is over, from what the access log is made from. While traces are off,
this module is not loaded, and a request runs the same code. OpenTelemetry's own variables say where spans are
sent and how many (OpenTelemetry specification, "Environment Variable Specification"; decision 0026).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from galerly_cdn import __version__
from galerly_cdn.errors import SettingsError
from galerly_cdn.http.exchange import Application, ViewerExchange
from galerly_cdn.settings.networks import NO_CLIENTS
from galerly_cdn.telemetry import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from galerly_cdn.clock import Clock
    from galerly_cdn.http.exchange import Handler
    from galerly_cdn.http.request import Scope
    from galerly_cdn.http.responses import PreparedResponse
    from galerly_cdn.settings.networks import Networks
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.telemetry import Telemetry

_NAME: Final = "galerly-cdn"
_LOOK_UP: Final = "store.look_up"
_STAGES: Final = {
    "queue": "worker.queue",
    "open": "store.open",
    "render": "worker.render",
    "put": "store.put",
    "head": "store.head",
    "copy": "store.copy",
}
"""The span of each stage of a fill."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"})
_MAX_PATH_CHARACTERS: Final = 1024
_W3C: Final = TraceContextTextMapPropagator()


class TracedExchange(ViewerExchange):
    """An exchange that knows the context in which its request was sent."""

    __slots__ = ("context",)

    def __init__(self, scope: Scope, request_id: str, trusted: Networks = NO_CLIENTS) -> None:
        super().__init__(scope, request_id, trusted)
        peer = scope["client"][0] if scope["client"] else ""
        self.context: Context | None = None
        """The span of a trusted proxy. A viewer decides neither what is traced nor under which id."""
        if b"traceparent" in self.headers and peer in trusted:
            carrier = {name: self.headers.get(name.encode(), b"").decode("latin-1") for name in _W3C.fields}
            self.context = _W3C.extract(carrier)


class TracedApplication(Application):
    """The public application, whose requests are traced."""

    exchange_type = TracedExchange

    def __init__(  # noqa: PLR0913 - those of `Application`, and the tracer
        self,
        route: Callable[[bytes], Handler],
        settings: Settings,
        telemetry: Telemetry,
        *,
        clock: Clock,
        find_hit: Callable[[ViewerExchange], PreparedResponse | None],
        tracer: Tracer,
    ) -> None:
        super().__init__(route, settings, telemetry, clock=clock, find_hit=find_hit)
        self._tracer = tracer

    def _record(self, exchange: ViewerExchange) -> None:
        super()._record(exchange)
        if isinstance(exchange, TracedExchange):
            self._tracer.trace(exchange, self._clock.wall())


class Tracer:
    """Makes spans and sends them in the background, by OTLP over HTTP. Raises `SettingsError`.

    It never delays a response: spans are dropped while too many wait to be sent.
    """

    def __init__(self) -> None:
        try:
            self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except (OSError, ValueError) as error:
            raise SettingsError([f"traces: a variable OTEL_… cannot be used: {error}"]) from error
        self._tracer = self._provider.get_tracer(_NAME, __version__)

    def application(
        self,
        route: Callable[[bytes], Handler],
        settings: Settings,
        telemetry: Telemetry,
        *,
        clock: Clock,
        find_hit: Callable[[ViewerExchange], PreparedResponse | None],
    ) -> TracedApplication:
        """A public application whose requests are traced; the arguments are those of `Application`."""
        return TracedApplication(route, settings, telemetry, clock=clock, find_hit=find_hit, tracer=self)

    def trace(self, exchange: TracedExchange, ended_s: float) -> None:
        """Make the spans of a request that ended at this time, in seconds since the epoch."""
        started_s = ended_s - exchange.total_ms / 1000
        route = route_of(exchange)
        method = exchange.method if exchange.method in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            f"{'HTTP' if method == '_OTHER' else method} {route}".rstrip(),
            exchange.context,
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
            start_time=_nanoseconds(started_s),
        )
        if span.is_recording():
            _describe(span, exchange, route)
            parent = trace.set_span_in_context(span)
            for name, first_s, last_s in parts_of(exchange, started_s):
                part = self._tracer.start_span(name, parent, start_time=_nanoseconds(first_s))
                part.end(_nanoseconds(last_s))
        span.end(_nanoseconds(ended_s))

    def close(self, timeout_s: float = 2.0) -> None:
        """Send the remaining spans; wait at most `timeout_s` for a receiver that cannot be reached."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(timeout_s)


def route_of(exchange: ViewerExchange) -> str:
    """The low-cardinality form of the path (semantic conventions, `http.route`); empty without a key."""
    if not exchange.key:
        return ""
    return "/resize/{size}/{key}" if exchange.target is not None else "/original/{key}"


def parts_of(exchange: ViewerExchange, started_s: float) -> Iterator[tuple[str, float, float]]:
    """Name, start and end of each child span of a request that waited for a fill of its own.

    The last stage ends when the response is ready, and each begins where the one before it ends.
    """
    if not exchange.stages_ms:
        return
    filled_s = started_s + exchange.duration_ms / 1000
    began_s = max(started_s, filled_s - sum(exchange.stages_ms.values()) / 1000)
    yield _LOOK_UP, started_s, began_s
    for stage, spent_ms in exchange.stages_ms.items():
        ended_s = began_s + spent_ms / 1000
        yield _STAGES[stage], began_s, ended_s
        began_s = ended_s


def _describe(span: Span, exchange: ViewerExchange, route: str) -> None:
    """Set the attributes: no query, which may hold a signature, no header, and no address of a viewer."""
    span.set_attributes(
        {
            "url.path": printable(exchange.raw_path[:_MAX_PATH_CHARACTERS].decode("latin-1")),
            "http.response.status_code": exchange.status,
            "http.response.body.size": exchange.sent_bytes,
            "galerly.request_id": exchange.request_id,
        }
    )
    if route:
        span.set_attribute("http.route", route)
    if exchange.target is not None:
        span.set_attribute("galerly.size", str(exchange.target.size))
        span.set_attribute("galerly.format", exchange.target.format or "own")
    if exchange.cache_status is not None:
        span.set_attribute("galerly.cache", exchange.cache_status.parameters)
    if exchange.error is not None:
        span.set_attribute("error.type", exchange.error.code)
    if exchange.status >= 500:
        span.set_status(Status(StatusCode.ERROR))


def _resource() -> Resource:
    """The server, as `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` name it."""
    resource = Resource.create({SERVICE_VERSION: __version__})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: _NAME}))
    return resource


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
