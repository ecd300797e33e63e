"""One trace a signal, from its producer through every stage to its events; nothing when off."""

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tests.integration.accounts import Account, configuration, working
from worker.assembly.worker import Worker
from worker.client import AsyncSignalProducer, new_signal, unique_events
from worker.config.keys import Config, TracingConfig
from worker.observe import tracing
from worker.observe.otel import OpenTelemetry
from worker.runtime.embedded_server import EmbeddedServer
from worker.runtime.errors import ConfigError

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STEPS = ("claim", "validation", "risk", "execution", "reconciliation", "commit")


@pytest.fixture
async def account(one_server: EmbeddedServer) -> AsyncIterator[Account]:
    made = Account(one_server.url)
    yield made
    await made.close()


@asynccontextmanager
async def traced(config: Config, sample_ratio: float = 1.0) -> AsyncIterator[InMemorySpanExporter]:
    """A worker whose spans are kept; they are all there once it has stopped."""
    exporter = InMemorySpanExporter()
    made = OpenTelemetry(
        SimpleSpanProcessor(exporter),
        account="main",
        worker="w-1",
        version="1",
        sample_ratio=sample_ratio,
    )
    worker = Worker(config, tracing=made)
    running = asyncio.create_task(worker.run())
    try:
        yield exporter
    finally:
        worker.engine.stop()
        assert await asyncio.wait_for(running, 20) == 0


def named(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    (only,) = [span for span in spans if span.name == name]
    return only


def signal(signal_id: str, **fields: Any) -> Any:
    return new_signal(
        signal_id,
        "paper",
        fields.pop("symbol", "BTC/USDT"),
        direction="long",
        strength=0.8,
        confluence_score=7,
        entry_price="100",
        **fields,
    )


async def test_a_signal_is_one_trace_from_producer_to_events(
    one_server: EmbeddedServer, account: Account
) -> None:
    """The producer's trace goes on: every stage in order under one span, which the events name."""
    async with traced(configuration(one_server.url)) as exporter:
        async with AsyncSignalProducer(one_server.url) as producer:
            entry_id = await producer.send(signal("a"), traceparent=f"00-{TRACE}-{PARENT}-01")
        await account.end("a")
        await account.quiet()
    spans = exporter.get_finished_spans()
    root = named(spans, "signal")
    assert root.context is not None
    assert root.parent is not None
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == PARENT
    assert root.kind is SpanKind.CONSUMER
    assert root.attributes is not None
    assert root.attributes["messaging.message.id"] == entry_id
    assert root.attributes["execution_worker.signal_id"] == "a"
    assert root.attributes["execution_worker.outcome"] == "filled"
    assert root.resource.attributes["service.instance.id"] == "w-1"
    steps = sorted((span for span in spans if span is not root), key=lambda one: one.end_time or 0)
    assert tuple(span.name for span in steps) == STEPS
    for step in steps:
        assert step.parent is not None
        assert step.parent.span_id == root.context.span_id
        assert (root.start_time or 0) <= (step.start_time or 0) <= (step.end_time or 0)
        assert (step.end_time or 0) <= (root.end_time or 0)
    expected = f"00-{TRACE}-{root.context.span_id:016x}-01"
    received = []
    async with closing_events(one_server.url) as events:
        async for event in events:
            received.append((event.type, event.traceparent))
            if len(received) == 3:
                break
    assert sorted(received) == [
        ("OrderFilled", expected),
        ("OrderPlaced", expected),
        ("PositionOpened", expected),
    ]


@asynccontextmanager
async def closing_events(url: str) -> AsyncIterator[Any]:
    events = unique_events(url, from_id="0", streams=("orders", "positions"))
    try:
        yield events
    finally:
        await events.aclose()


async def test_signals_handed_on_keep_their_own_traces(
    one_server: EmbeddedServer, account: Account
) -> None:
    """Twenty of one group and twenty of many, at once: no span is in another signal's trace."""
    for number in range(20):
        await account.send(f"g-{number}", key="one", symbol=f"AB{number}/USDT")
        await account.send(f"s-{number}", symbol=f"AC{number}/USDT")
    async with traced(configuration(one_server.url)) as exporter:
        for number in range(20):
            await account.end(f"g-{number}")
            await account.end(f"s-{number}")
        await account.quiet()
    spans = exporter.get_finished_spans()
    roots = {span.context.trace_id: span for span in spans if span.name == "signal"}
    assert len(roots) == 40
    attributes = [dict(span.attributes or {}) for span in roots.values()]
    assert len({one["execution_worker.signal_id"] for one in attributes}) == 40
    counted = Counter((span.context.trace_id, span.name) for span in spans)
    assert set(counted.values()) == {1}
    assert len(spans) == 40 * (1 + len(STEPS))


@pytest.mark.parametrize(
    ("fields", "outcome", "steps"),
    [
        ({"strength": None}, "failed", ("claim", "validation", "commit")),
        ({"stop_loss": "1"}, "failed", ("claim", "validation", "risk", "commit")),
        ({"quantity": "NaN"}, "dead", ("claim", "commit")),
    ],
)
async def test_a_trace_says_how_a_signal_ended_early(
    one_server: EmbeddedServer,
    account: Account,
    fields: dict[str, Any],
    outcome: str,
    steps: tuple[str, ...],
) -> None:
    """A new trace where the producer has none; only the stages it came to; the reason."""
    async with traced(configuration(one_server.url)) as exporter:
        await account.send("a", **fields)
        await (account.dead() if outcome == "dead" else account.end("a"))
        await account.quiet()
    spans = exporter.get_finished_spans()
    root = named(spans, "signal")
    assert root.parent is None
    assert root.attributes is not None
    assert root.attributes["execution_worker.outcome"] == outcome
    assert root.attributes["execution_worker.reason"]
    assert sorted(span.name for span in spans) == sorted(("signal", *steps))


@pytest.mark.parametrize(
    ("ratio", "traceparent", "recorded"),
    [
        (0.0, None, False),
        (0.0, f"00-{TRACE}-{PARENT}-01", True),
        (1.0, f"00-{TRACE}-{PARENT}-00", False),
        (1.0, "nonsense", True),
        (1.0, "00-" + "0" * 5_000, True),
    ],
)
async def test_the_producer_decides_what_is_recorded_else_the_ratio(
    one_server: EmbeddedServer,
    account: Account,
    ratio: float,
    traceparent: str | None,
    recorded: bool,
) -> None:
    """Its sampled flag is obeyed; a header that is none counts as none; all trade alike."""
    async with traced(configuration(one_server.url), ratio) as exporter:
        async with AsyncSignalProducer(one_server.url) as producer:
            await producer.send(signal("a"), traceparent=traceparent)
        assert (await account.end("a"))["type"] == "OrderFilled"
    assert bool(exporter.get_finished_spans()) is recorded


async def test_events_carry_no_trace_where_it_is_off(
    one_server: EmbeddedServer, account: Account
) -> None:
    """The field is absent, not empty."""
    async with working(configuration(one_server.url)):
        await account.send("a")
        await account.end("a")
    for _, fields in await account.redis.xrange("{main}:orders"):
        assert set(fields) == {b"type", b"id", b"subject", b"data"}


class Collector(BaseHTTPRequestHandler):
    """Keeps what is exported."""

    requests: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the library)
        pass


@contextmanager
def collector() -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    requests: list[tuple[str, bytes]] = []
    handler = type("Handler", (Collector,), {"requests": requests})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port, requests
        server.shutdown()
        thread.join()


async def test_configured_traces_reach_a_collector(
    one_server: EmbeddedServer, account: Account
) -> None:
    """OTLP over HTTP to ``tracing.endpoint``; what waits is sent before the worker ends."""
    with collector() as (port, requests):
        section = TracingConfig(
            enabled=True, endpoint=f"http://127.0.0.1:{port}/v1/traces", service_name="desk"
        )
        async with working(configuration(one_server.url, tracing=section)):
            await account.send("a")
            await account.end("a")
            await account.quiet()
    names = set()
    for path, body in requests:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert attributes["service.name"] == "desk"
            assert attributes["execution_worker.account"] == "main"
            names |= {span.name for scope in resource.scope_spans for span in scope.spans}
    assert names == {"signal", *STEPS}


async def test_a_collector_that_is_away_disturbs_nothing(
    one_server: EmbeddedServer, account: Account
) -> None:
    """Signals trade, and the worker stops within the export's time limit."""
    section = TracingConfig(enabled=True, endpoint="http://127.0.0.1:1/v1/traces")
    async with asyncio.timeout(20):
        async with working(configuration(one_server.url, tracing=section)):
            await account.send("a")
            assert (await account.end("a"))["type"] == "OrderFilled"


def test_nothing_is_loaded_where_it_is_off() -> None:
    """A worker that does not trace imports nothing of OpenTelemetry, directly or not.

    But for the metrics half, which the Redis library imports wherever it is installed.
    """
    program = (
        "import sys, redis.asyncio; before = set(sys.modules); "
        "from worker.assembly.worker import Worker; from worker.config.keys import Config; "
        "worker = Worker(Config()); assert worker.tracing is None; "
        "new = set(sys.modules) - before; assert 'worker.observe.tracing' in new; "
        "names = ('opentelemetry', 'google', 'worker.observe.otel'); "
        "print(sorted(name for name in new if name.startswith(names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_without_the_extra_turning_it_on_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sentence that names the key and the extra, not a traceback."""
    monkeypatch.delitem(sys.modules, "worker.observe.otel")
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"execution-worker\[otel\]") as caught:
        tracing.tracing_of(TracingConfig(enabled=True), account="main", worker="w", version="1")
    assert caught.value.key == "tracing.enabled"
