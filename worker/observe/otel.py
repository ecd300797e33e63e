"""Traces by OpenTelemetry; imported only where they are turned on (``worker.observe.tracing``)."""

import time
from collections.abc import Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.config.keys import TracingConfig
from worker.domain.identity import account_key

#: How long one delivery to the collector may take, its repetitions included; also the last one.
EXPORT_TIMEOUT_S: Final = 5.0
#: Spans that wait for the collector; more are dropped, for a trace is worth less than an order.
MAX_WAITING_SPANS: Final = 8_192
#: A header longer than this is no trace context (W3C allows 512 for ``tracestate``).
MAX_HEADER_BYTES: Final = 512
PREFIX: Final = "execution_worker."

_propagator = TraceContextTextMapPropagator()


class SignalTrace:
    """The spans of one delivery; as :class:`worker.observe.tracing.Trace`.

    Args:
        tracer: makes spans.
        span: of the whole signal.
        now_ns: when the worker took the entry, Unix nanoseconds.
    """

    __slots__ = ("_context", "_last_ns", "_outcome", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span, now_ns: int) -> None:
        self._tracer = tracer
        self._span = span
        self._context: Context = set_span_in_context(span, Context())
        self._last_ns = now_ns
        self._outcome = ""

    def step(self, name: str, seconds: float) -> None:
        """Add a span for a step that has just ended."""
        now_ns = time.time_ns()
        self.add(name, now_ns - int(seconds * 1e9), now_ns)

    def add(self, name: str, start_ns: int, end_ns: int) -> None:
        """Add a span; times are Unix nanoseconds."""
        span = self._tracer.start_span(name, context=self._context, start_time=start_ns)
        span.end(end_ns)
        self._last_ns = end_ns

    def traceparent(self) -> str:
        """Return what the signal's events carry on (W3C Trace Context)."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, self._context)
        return carrier.get("traceparent", "")

    def committed(self, outcome: str, signal_id: str, fields: Mapping[str, object]) -> None:
        """Record the signal's end; the time since the last step was the commit's."""
        self.add("commit", self._last_ns, time.time_ns())
        self._outcome = outcome
        self._span.set_attribute(PREFIX + "signal_id", signal_id)
        for name, value in fields.items():
            self._span.set_attribute(PREFIX + name, str(value))

    def close(self, error: BaseException | None = None) -> None:
        """End the trace; only the first call counts."""
        if not self._span.is_recording():
            return
        if error is not None:
            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self._span.set_attribute(PREFIX + "outcome", self._outcome or "not_ended")
        self._span.end()


class OpenTelemetry:
    """Tracing that makes spans.

    Args:
        processor: what becomes of ended spans.
        sample_ratio: fraction of the traces begun here that are recorded.
        account: named in every trace.
        worker: named in every trace.
        version: of this program.
        service_name: as the traces name it.
    """

    def __init__(
        self,
        processor: SpanProcessor,
        *,
        account: str,
        worker: str,
        version: str,
        service_name: str = "execution-worker",
        sample_ratio: float = 1.0,
    ) -> None:
        resource = Resource.create(
            {
                "service.name": service_name,
                "service.version": version,
                "service.instance.id": worker,
                PREFIX + "account": account,
            }
        )
        sampler = ParentBased(TraceIdRatioBased(sample_ratio))
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("execution-worker", version)
        self._destination = account_key(account, "signals")

    def begin(self, entry_id: str, fields: Mapping[bytes, bytes], deliveries: int) -> SignalTrace:
        """Begin the trace of one delivery; it continues the producer's, if that has one.

        The span begins when the entry came onto the stream (Redis put the time into its id).
        """
        now_ns = time.time_ns()
        arrived_ns = min(int(entry_id.partition("-")[0]) * 1_000_000, now_ns)
        span = self._tracer.start_span(
            "signal",
            context=_parent(fields),
            kind=SpanKind.CONSUMER,
            start_time=arrived_ns,
            attributes={
                "messaging.system": "redis",
                "messaging.operation.type": "process",
                "messaging.destination.name": self._destination,
                "messaging.message.id": entry_id,
                PREFIX + "deliveries": deliveries,
            },
        )
        trace = SignalTrace(self._tracer, span, now_ns)
        trace.add("claim", arrived_ns, now_ns)
        return trace

    def close(self) -> None:
        """Send what is left; blocks for some seconds at most."""
        self._provider.shutdown()


def exporting(config: TracingConfig, *, account: str, worker: str, version: str) -> OpenTelemetry:
    """Tracing that sends its spans to ``tracing.endpoint``, in batches, from a thread of its own.

    What OpenTelemetry's own variables (``OTEL_EXPORTER_OTLP_HEADERS`` and others) say holds too.
    """
    exporter = OTLPSpanExporter(endpoint=config.endpoint, timeout=EXPORT_TIMEOUT_S)
    return OpenTelemetry(
        BatchSpanProcessor(
            exporter,
            max_queue_size=MAX_WAITING_SPANS,
            export_timeout_millis=EXPORT_TIMEOUT_S * 1000,
        ),
        account=account,
        worker=worker,
        version=version,
        service_name=config.service_name,
        sample_ratio=config.sample_ratio,
    )


def _parent(fields: Mapping[bytes, bytes]) -> Context:
    """The producer's span; an empty context, and so a new trace, where it names none."""
    carrier = {
        name.decode(): value.decode("ascii", errors="replace")
        for name in (b"traceparent", b"tracestate")
        if len(value := fields.get(name, b"")) in range(1, MAX_HEADER_BYTES + 1)
    }
    return _propagator.extract(carrier, Context())
