"""Traces by OpenTelemetry; imported only where they are turned on (``worker.observe.tracing``)."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.config.keys import TracingConfig
from worker.domain.identity import account_key
from worker.observe.tracing import Watch

#: How long one delivery to the collector may take, its repetitions included; also the last one.
EXPORT_TIMEOUT_S: Final = 5.0
#: Spans that wait for the collector; more are dropped, for a trace is worth less than an order.
MAX_WAITING_SPANS: Final = 8_192
#: A header longer than this is no trace context (W3C allows 512 for ``tracestate``).
MAX_HEADER_BYTES: Final = 512
PREFIX: Final = "execution_worker."

_propagator = TraceContextTextMapPropagator()


class _InHand:
    """The signal that the current task works on."""

    __slots__ = ("context", "last_ns", "outcome", "span")

    def __init__(self, span: Span, now_ns: int) -> None:
        self.span = span
        self.context: Context = set_span_in_context(span, Context())
        self.last_ns = now_ns
        self.outcome = ""


_in_hand: ContextVar[_InHand | None] = ContextVar("signal_in_hand", default=None)


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

    @contextmanager
    def signal(
        self, entry_id: str, fields: Mapping[bytes, bytes], deliveries: int
    ) -> Iterator[None]:
        """As :meth:`worker.observe.tracing.Tracing.signal`.

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
        here = _InHand(span, now_ns)
        self._step(here, "claim", arrived_ns, now_ns)
        token = _in_hand.set(here)
        try:
            yield
        except BaseException as error:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            _in_hand.reset(token)
            span.set_attribute(PREFIX + "outcome", here.outcome or "not_ended")
            span.end()

    def traceparent(self) -> str:
        """As :meth:`worker.observe.tracing.Tracing.traceparent`."""
        here = _in_hand.get()
        if here is None:
            return ""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, here.context)
        return carrier.get("traceparent", "")

    def ended(self, outcome: str, signal_id: str, fields: Mapping[str, object]) -> None:
        """As :meth:`worker.observe.tracing.Tracing.ended`."""
        here = _in_hand.get()
        if here is None:
            return
        self._step(here, "commit", here.last_ns, time.time_ns())
        here.outcome = outcome
        here.span.set_attribute(PREFIX + "signal_id", signal_id)
        for name, value in fields.items():
            here.span.set_attribute(PREFIX + name, str(value))

    def watch(self, inner: Watch) -> Watch:
        """As :meth:`worker.observe.tracing.Tracing.watch`."""

        def of(name: str) -> Callable[[float], None]:
            observe = inner(name)

            def told(seconds: float) -> None:
                observe(seconds)
                here = _in_hand.get()
                if here is not None:
                    now_ns = time.time_ns()
                    self._step(here, name, now_ns - int(seconds * 1e9), now_ns)

            return told

        return of

    def close(self) -> None:
        """As :meth:`worker.observe.tracing.Tracing.close`."""
        self._provider.shutdown()

    def _step(self, here: _InHand, name: str, start_ns: int, end_ns: int) -> None:
        step = self._tracer.start_span(name, context=here.context, start_time=start_ns)
        step.end(end_ns)
        here.last_ns = end_ns


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
