"""The configuration: every key, its default, its range and what it means."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, field

from worker.domain.identity import ACCOUNT_PATTERN
from worker.domain.market import MarketKind
from worker.domain.signature import SigningKey
from worker.runtime.secret import Secret as Secret  # noqa: PLC0414 (sections are written with it)

ENV_PREFIX: Final = "WORKER_"
#: Names a signal may use when nothing is configured: all simulated.
DEFAULT_EXCHANGES: Final = ("binance", "bybit", "coinbase", "kraken", "okx", "paper")
SYMBOL_PATTERN: Final = r"^[A-Z0-9]{1,20}/[A-Z0-9]{1,20}(:[A-Z0-9]{1,20})?$"


def _doc(meaning: str) -> Meta:
    return Meta(description=meaning)


def _whole(ge: int, le: int, meaning: str) -> Meta:
    return Meta(ge=ge, le=le, description=meaning)


def _real(meaning: str, *, le: float, ge: float = 0, gt: float | None = None) -> Meta:
    if gt is not None:
        return Meta(gt=gt, le=le, description=meaning)
    return Meta(ge=ge, le=le, description=meaning)


def _decimal(meaning: str, *, ge: str | None = None, gt: str | None = None, le: str) -> Meta:
    """Bounds of a Decimal: msgspec knows none, so they travel as ``extra`` (config_fields)."""
    bounds = {"ge": ge, "gt": gt, "le": le}
    return Meta(description=meaning, extra={k: v for k, v in bounds.items() if v is not None})


#: A record outlives its signal by this, for clocks differ.
CLOCKS_S: Final = 60


class Section(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One table of the file; every section refuses unknown keys as this one does."""


class RedisConfig(Section, kw_only=True, frozen=True):
    """Where the streams and the ledger live."""

    url: Annotated[
        Secret,
        _doc(
            "`redis://`, `rediss://` (TLS), `unix://`, "
            "`redis+sentinel://h1:p1,h2:p2/<master>/<db>`, "
            "`redis+cluster://h1:p1,h2:p2`, or `embedded` (starts the bundled server)"
        ),
    ] = Secret("redis://127.0.0.1:6379/0")
    username: Annotated[str, _doc("user, where the URL names none")] = ""
    password: Annotated[Secret, _doc("password, where the URL names none")] = Secret("")
    replicas_required: Annotated[
        int, _whole(0, 10, "replicas that must have an order's record before it is sent (`WAIT`)")
    ] = 0
    replicas_timeout_ms: Annotated[
        int, _whole(10, 60_000, "how long to wait for those replicas, milliseconds")
    ] = 1_000
    tls_ca_file: Annotated[str, _doc("certificate authorities to trust; the system's if empty")] = (
        ""
    )
    tls_cert_file: Annotated[str, _doc("client certificate")] = ""
    tls_key_file: Annotated[str, _doc("client key")] = ""
    record_retention_seconds: Annotated[
        int,
        _whole(
            60,
            31_536_000,
            "how long a finished order's record is kept, seconds; at least as long as its signal "
            "may trade",
        ),
    ] = 604_800
    signal_retention_seconds: Annotated[
        int, _whole(0, 31_536_000, "how long finished input entries are kept, seconds")
    ] = 86_400
    output_max_length: Annotated[
        int, _whole(1_000, 100_000_000, "entries an output stream keeps, approximately")
    ] = 1_000_000


class WorkerConfig(Section, kw_only=True, frozen=True):
    """How one process works."""

    concurrency: Annotated[int, _whole(1, 4_096, "signals in flight")] = 64
    lease_seconds: Annotated[
        float, _real("how long a silent worker keeps its signals, seconds", ge=1, le=300)
    ] = 15.0
    max_deliveries: Annotated[
        int, _whole(1, 1_000, "attempts after which a signal becomes a dead letter")
    ] = 5
    drain_seconds: Annotated[
        float, _real("how long a stopping worker may finish what it has, seconds", ge=0, le=3_600)
    ] = 45.0
    max_waiting: Annotated[
        int, _whole(1, 1_000_000, "claimed signals that may wait behind others of their group")
    ] = 10_000
    seed: Annotated[
        int | None, _doc("seed of the worker's random choices; from the system if absent")
    ] = None


class HttpConfig(Section, kw_only=True, frozen=True):
    """Where metrics and health are served."""

    host: Annotated[str, _doc("address to listen on; empty turns HTTP off")] = "127.0.0.1"
    port: Annotated[
        int, _whole(0, 65_535, "port to listen on; 0, or if it is taken, a free one")
    ] = 9108


class PaperConfig(Section, kw_only=True, frozen=True):
    """How the simulated exchange behaves."""

    balance: Annotated[
        Decimal,
        _decimal("free amount of every quote currency at the start", ge="0", le="1e15"),
    ] = Decimal(100_000)
    fee_pct: Annotated[
        Decimal, _decimal("fee, percent of the value, in quote", ge="0", le="50")
    ] = Decimal("0.1")
    spread_bps: Annotated[
        Decimal, _decimal("bid to ask, basis points of the assumed price", ge="0", le="5000")
    ] = Decimal(1)
    slippage_bps: Annotated[
        Decimal, _decimal("what a taker pays on top of half the spread, bps", ge="0", le="5000")
    ] = Decimal(1)
    partial_fill_rate: Annotated[
        float, _real("fraction of orders that fill only in part", ge=0, le=1)
    ] = 0.0
    reject_rate: Annotated[float, _real("fraction of orders refused", ge=0, le=1)] = 0.0
    latency_ms: Annotated[
        float, _real("how long an answer takes, milliseconds", ge=0, le=60_000)
    ] = 0.0
    prices: Annotated[
        Literal["signal", "live"],
        _doc("`signal` takes the signal's own price as the market's, `live` asks the exchange"),
    ] = "signal"
    seed: Annotated[int, _doc("seed of which orders are refused or filled in part")] = 0
    symbols: Annotated[
        tuple[Annotated[str, Meta(pattern=SYMBOL_PATTERN)], ...],
        _doc("markets listed beside the built-in ones, `BASE/QUOTE` or `BASE/QUOTE:QUOTE`"),
    ] = ()


class ExchangeConfig(Section, kw_only=True, frozen=True):
    """One exchange account."""

    adapter: Annotated[
        Literal["paper", "ccxt"], _doc("`paper` simulates, `ccxt` talks to the exchange")
    ] = "paper"
    ccxt_id: Annotated[str, _doc("ccxt's name of the exchange; `<name>` if empty")] = ""
    api_key: Annotated[Secret, _doc("API key")] = Secret("")
    secret: Annotated[Secret, _doc("API secret")] = Secret("")
    password: Annotated[Secret, _doc("API passphrase, where the exchange has one")] = Secret("")
    sandbox: Annotated[bool, _doc("use the exchange's test network")] = False
    base_url: Annotated[
        str, _doc("where REST requests really go (scheme, host, port; paths kept)")
    ] = ""
    ws_base_url: Annotated[str, _doc("the same for WebSocket connections")] = ""
    order_transport: Annotated[
        Literal["rest", "websocket"],
        _doc("what orders are created over; `websocket` on Binance only"),
    ] = "rest"
    market_types: Annotated[
        tuple[MarketKind, ...], Meta(min_length=1, description="which markets are loaded")
    ] = (MarketKind.SPOT,)
    recv_window_ms: Annotated[
        int, _whole(100, 60_000, "how long the exchange may accept a request, milliseconds")
    ] = 5_000
    timeout_ms: Annotated[
        int, _whole(100, 60_000, "how long to wait for an answer, milliseconds")
    ] = 10_000
    balance_refresh_seconds: Annotated[
        float, _real("how often balances are read, seconds", gt=0, le=300)
    ] = 2.0
    ticker_refresh_seconds: Annotated[
        float, _real("how often prices are read, seconds", gt=0, le=300)
    ] = 1.0
    market_refresh_seconds: Annotated[
        float, _real("how often the list of markets is read, seconds", gt=0, le=86_400)
    ] = 3_600.0
    max_orders_per_second: Annotated[
        float, _real("orders each worker may send a second; 0 = no limit", ge=0, le=10_000)
    ] = 0.0
    paper: PaperConfig = field(default_factory=PaperConfig)


class ValidationConfig(Section, kw_only=True, frozen=True):
    """Which signals are good enough to look at."""

    min_signal_strength: Annotated[float, _real("least `strength` of a signal", ge=0, le=1)] = 0.0
    min_confluence_score: Annotated[
        float, _real("least `confluence_score` of a signal", ge=0, le=10)
    ] = 3.0
    valid_exchanges: Annotated[
        tuple[str, ...], _doc("exchanges a signal may name; all configured ones if empty")
    ] = ()
    max_signal_age_seconds: Annotated[
        float, _real("age at which a signal without `expires_at` expires", gt=0, le=86_400)
    ] = 30.0
    max_clock_ahead_seconds: Annotated[
        float, _real("how far ahead of this machine `created_at` may be", ge=0, le=3_600)
    ] = 5.0
    max_price_deviation_pct: Annotated[
        Decimal,
        _decimal("how far `entry_price` may be from the market, percent", ge="0", le="100"),
    ] = Decimal("5.0")
    max_price_age_seconds: Annotated[
        float, _real("age at which a market price no longer counts, seconds", gt=0, le=3_600)
    ] = 5.0
    require_signature: Annotated[
        bool, _doc("only signed signals trade; a signature that is given must be good in any case")
    ] = False


class RiskConfig(Section, kw_only=True, frozen=True):
    """What one account may hold over all its workers."""

    max_concurrent_positions: Annotated[
        int, _whole(1, 1_000_000, "positions open or being opened at a time")
    ] = 3
    default_position_size_pct: Annotated[
        Decimal, _decimal("size of a signal that states none, % of balance", gt="0", le="10000")
    ] = Decimal("2.0")
    max_position_size_pct: Annotated[
        Decimal, _decimal("largest position, percent of the balance", gt="0", le="10000")
    ] = Decimal("5.0")
    min_risk_reward_ratio: Annotated[
        Decimal, _decimal("least reward over risk of a signal with both", ge="0", le="1000")
    ] = Decimal("1.5")
    max_stop_loss_pct: Annotated[
        Decimal, _decimal("farthest stop-loss, percent of the price", gt="0", le="100")
    ] = Decimal("2.0")
    default_stop_loss_pct: Annotated[
        Decimal, _decimal("stop-loss of a signal that states none, percent", gt="0", le="100")
    ] = Decimal("2.0")
    max_total_exposure_pct: Annotated[
        Decimal,
        _decimal(
            "largest sum of positions, % of what is left in the wallet that pays for the next one "
            "(spot purchases make it smaller); 0 = off",
            ge="0",
            le="1000000",
        ),
    ] = Decimal(0)
    max_daily_loss_pct: Annotated[
        Decimal,
        _decimal(
            "realised loss of a UTC day that stops new positions, % of that wallet; fees that "
            "cannot be converted to the quote currency, and funding, do not count; 0 = off",
            ge="0",
            le="100",
        ),
    ] = Decimal(0)
    max_orders_per_minute: Annotated[
        int,
        _whole(
            0, 1_000_000, "entries the account may send a minute, closes are not held up; 0 = off"
        ),
    ] = 0
    max_balance_age_seconds: Annotated[
        float, _real("age at which a balance no longer counts, seconds", gt=0, le=3_600)
    ] = 30.0


class ExecutionConfig(Section, kw_only=True, frozen=True):
    """Sending: retries, deadlines, clocks."""

    max_retries: Annotated[
        int, _whole(0, 20, "further attempts after one that did not reach the exchange")
    ] = 3
    base_delay: Annotated[float, _real("wait before the first retry, seconds", gt=0, le=60)] = 1.0
    backoff_factor: Annotated[float, _real("factor from one wait to the next", ge=1, le=10)] = 2.0
    max_delay: Annotated[float, _real("longest wait, seconds", gt=0, le=600)] = 30.0
    jitter: Annotated[
        float, _real("random part of a wait, a fraction: 0.25 is ±25%", ge=0, le=1)
    ] = 0.25
    skew_margin_ms: Annotated[
        int, _whole(0, 60_000, "clock error allowed for beside the measured one, milliseconds")
    ] = 1_000
    max_clock_skew_ms: Annotated[
        int, _whole(1, 60_000, "clock difference to an exchange that stops sending, milliseconds")
    ] = 1_000
    max_lookup_seconds: Annotated[
        float, _real("how long an order in doubt is looked for, seconds", gt=0, le=600)
    ] = 20.0


class ReconciliationConfig(Section, kw_only=True, frozen=True):
    """Confirming what was sent."""

    verify_fill: Annotated[
        bool,
        _doc(
            "check fills against the exchange's trades before the outcome is written; where an "
            "answer has none they are else taken as one, its fee estimated"
        ),
    ] = True
    max_price_slippage_pct: Annotated[
        Decimal, _decimal("slippage above which a fill is reported, percent", ge="0", le="100")
    ] = Decimal("1.0")
    max_wait_time: Annotated[float, _real("how long to wait for a fill, seconds", gt=0, le=600)] = (
        10.0
    )
    poll_interval: Annotated[
        float, _real("how often an order is asked for meanwhile, seconds", ge=0.01, le=60)
    ] = 0.5


class LogConfig(Section, kw_only=True, frozen=True):
    """What is logged, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], _doc("least severity logged")
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "console"],
        _doc("`auto` writes JSON unless a terminal is attached"),
    ] = "auto"


class SignatureKeyConfig(Section, kw_only=True, frozen=True):
    """One key that producers sign signals with."""

    secret: Annotated[Secret, _doc("shared with the producer, at least 32 characters")] = Secret("")
    strategies: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="strategies it may sign for: ids, or beginnings that end in `*`",
        ),
    ] = ("*",)
    not_before: Annotated[
        datetime | None,
        _doc("from when it is good, RFC 3339; always if absent"),
    ] = None
    not_after: Annotated[
        datetime | None,
        _doc("until when it is good, RFC 3339; for ever if absent"),
    ] = None


class SignaturesConfig(Section, kw_only=True, frozen=True):
    """Who may sign signals; several keys at a time, so that one can replace another."""

    keys: dict[str, SignatureKeyConfig] = field(default_factory=dict)

    @property
    def signing_keys(self) -> tuple[SigningKey, ...]:
        """The keys as the domain takes them."""
        return tuple(
            SigningKey(
                key_id=key_id,
                secret=key.secret.reveal().encode(),
                strategies=key.strategies,
                not_before=key.not_before,
                not_after=key.not_after,
            )
            for key_id, key in self.keys.items()
        )


class TracingConfig(Section, kw_only=True, frozen=True):
    """Traces for OpenTelemetry; needs the extra `otel`."""

    enabled: Annotated[bool, _doc("send one trace a signal; off, nothing of it is even loaded")] = (
        False
    )
    endpoint: Annotated[str, _doc("where traces go: OTLP over HTTP with protobuf")] = (
        "http://127.0.0.1:4318/v1/traces"
    )
    sample_ratio: Annotated[
        float, _real("fraction of signals traced where the producer has not decided", ge=0, le=1)
    ] = 1.0
    service_name: Annotated[str, _doc("`service.name` of the traces")] = "execution-worker"


def _default_exchanges() -> dict[str, ExchangeConfig]:
    return {name: ExchangeConfig(ccxt_id=name) for name in DEFAULT_EXCHANGES}


class Config(Section, kw_only=True, frozen=True):
    """The whole configuration."""

    mode: Annotated[
        Literal["paper", "live"], _doc("`paper` simulates; `live` sends real orders")
    ] = "paper"
    account: Annotated[
        str,
        Meta(pattern=ACCOUNT_PATTERN, description="the trading account that shares risk limits"),
    ] = "main"
    redis: RedisConfig = field(default_factory=RedisConfig)
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    exchanges: dict[str, ExchangeConfig] = field(default_factory=_default_exchanges)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    risk: RiskConfig = field(default_factory=RiskConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    reconciliation: ReconciliationConfig = field(default_factory=ReconciliationConfig)
    signatures: SignaturesConfig = field(default_factory=SignaturesConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    log: LogConfig = field(default_factory=LogConfig)

    @property
    def record_retention_s(self) -> float:
        """How long a record is kept: a signal may not be young enough to trade once it is gone."""
        return max(
            self.redis.record_retention_seconds, self.validation.max_signal_age_seconds + CLOCKS_S
        )

    @property
    def valid_exchanges(self) -> frozenset[str]:
        """``validation.valid_exchanges``, by default the configured ones."""
        return frozenset(self.validation.valid_exchanges or self.exchanges)
