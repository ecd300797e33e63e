"""The keys of one process: Redis, the worker itself, HTTP, traces and logs."""

from typing import Annotated, Literal

from worker.config.section import Section, doc, integer, real
from worker.runtime.secret import Secret


class RedisConfig(Section, kw_only=True, frozen=True):
    """The Redis of the streams and the ledger."""

    url: Annotated[
        Secret,
        doc(
            "`redis://`, `rediss://` (TLS), `unix://`, "
            "`redis+sentinel://h1:p1,h2:p2/<master>/<db>`, "
            "`redis+cluster://h1:p1,h2:p2`, or `embedded` (starts the bundled server); `?db=`, "
            "`?username=` and `?password=` are followed, other options refused"
        ),
    ] = Secret("redis://127.0.0.1:6379/0")
    username: Annotated[str, doc("user, where the URL names none")] = ""
    password: Annotated[Secret, doc("password, where the URL names none")] = Secret("")
    replicas_required: Annotated[
        int, integer(0, 10, "replicas that must have an order's record before it is sent (`WAIT`)")
    ] = 0
    replicas_timeout_ms: Annotated[
        int, integer(10, 60_000, "how long to wait for those replicas, milliseconds")
    ] = 1_000
    tls_ca_file: Annotated[str, doc("certificate authorities to trust; the system's if empty")] = ""
    tls_cert_file: Annotated[str, doc("client certificate")] = ""
    tls_key_file: Annotated[str, doc("client key")] = ""
    record_retention_seconds: Annotated[
        int,
        integer(
            60,
            31_536_000,
            "how long a finished order's record is kept, seconds; at least as long as its signal "
            "may trade",
        ),
    ] = 604_800
    signal_retention_seconds: Annotated[
        int, integer(0, 31_536_000, "how long finished input entries are kept, seconds")
    ] = 86_400
    output_max_length: Annotated[
        int, integer(1_000, 100_000_000, "entries an output stream keeps, approximately")
    ] = 1_000_000
    dead_max_length: Annotated[
        int, integer(1, 10_000_000, "dead letters kept; beyond it the oldest are removed")
    ] = 10_000
    dead_max_bytes: Annotated[
        int,
        integer(
            1_048_576,
            1_099_511_627_776,
            "memory that dead letters may take, bytes; beyond it the oldest are removed",
        ),
    ] = 67_108_864


class WorkerConfig(Section, kw_only=True, frozen=True):
    """The limits of one worker process."""

    concurrency: Annotated[int, integer(1, 4_096, "signals in flight")] = 64
    lease_seconds: Annotated[
        float, real("how long a silent worker keeps its signals, seconds", ge=1, le=300)
    ] = 15.0
    max_deliveries: Annotated[
        int, integer(1, 1_000, "attempts after which a signal becomes a dead letter")
    ] = 5
    drain_seconds: Annotated[
        float, real("how long a stopping worker may finish what it has, seconds", ge=0, le=3_600)
    ] = 45.0
    max_waiting: Annotated[
        int,
        integer(
            1,
            1_000_000,
            "claimed signals that may wait behind others of their group, over all groups; "
            "an opening beyond that ends as `GROUP_FULL`",
        ),
    ] = 10_000
    max_group_waiting: Annotated[
        int,
        integer(
            1,
            1_000_000,
            "openings that may wait in one group, and as many closes beside them; an opening "
            "beyond that ends as `GROUP_FULL`",
        ),
    ] = 100
    seed: Annotated[
        int | None, doc("seed of the worker's random choices; from the system if absent")
    ] = None


class HttpConfig(Section, kw_only=True, frozen=True):
    """The address of metrics and health."""

    host: Annotated[
        str, doc("name or address to listen on, IPv6 in brackets or not; empty: off")
    ] = "127.0.0.1"
    port: Annotated[
        int, integer(0, 65_535, "port to listen on; 0, or if it is taken, a free one")
    ] = 9108


class TracingConfig(Section, kw_only=True, frozen=True):
    """Traces for OpenTelemetry; needs the extra `otel`."""

    enabled: Annotated[bool, doc("send one trace a signal; off, nothing of it is even loaded")] = (
        False
    )
    endpoint: Annotated[str, doc("where traces go: OTLP over HTTP with protobuf")] = (
        "http://127.0.0.1:4318/v1/traces"
    )
    sample_ratio: Annotated[
        float, real("fraction of signals traced where the producer has not decided", ge=0, le=1)
    ] = 1.0
    service_name: Annotated[str, doc("`service.name` of the traces")] = "execution-worker"


class LogConfig(Section, kw_only=True, frozen=True):
    """The level and format of logs."""

    level: Annotated[Literal["debug", "info", "warning", "error"], doc("least severity logged")] = (
        "info"
    )
    format: Annotated[
        Literal["auto", "json", "console"],
        doc("`auto` writes JSON unless a terminal is attached"),
    ] = "auto"
