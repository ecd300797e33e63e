"""The configuration: every key, its default and its range, from a TOML file and the environment."""

from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, field

from worker.domain.identity import ACCOUNT_PATTERN
from worker.domain.market import MarketKind

ENV_PREFIX: Final = "WORKER_"
#: Names a signal may use when nothing is configured: all simulated.
DEFAULT_EXCHANGES: Final = ("binance", "bybit", "coinbase", "kraken", "okx", "paper")

Ratio = Annotated[float, Meta(ge=0, le=1)]
Percent = Annotated[Decimal, Meta(description="percent, 2.0 is 2%")]


class Secret:
    """A string that never shows itself: not by ``str``, ``repr``, ``format`` or an encoder."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('********')" if self._value else "Secret('')"

    def __str__(self) -> str:
        return "********" if self._value else ""

    def reveal(self) -> str:
        """The secret itself, for the one place that needs it."""
        return self._value


class Section(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One table of the file."""


class RedisConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Where the streams and the ledger live."""

    url: Secret = Secret("redis://127.0.0.1:6379/0")
    username: str = ""
    password: Secret = Secret("")
    replicas_required: Annotated[int, Meta(ge=0, le=10)] = 0
    replicas_timeout_ms: Annotated[int, Meta(ge=10, le=60_000)] = 1_000
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    record_retention_seconds: Annotated[int, Meta(ge=60, le=31_536_000)] = 604_800
    signal_retention_seconds: Annotated[int, Meta(ge=0, le=31_536_000)] = 86_400
    output_max_length: Annotated[int, Meta(ge=1_000, le=100_000_000)] = 1_000_000


class WorkerConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How one process works."""

    concurrency: Annotated[int, Meta(ge=1, le=4_096)] = 64
    lease_seconds: Annotated[float, Meta(ge=1, le=300)] = 15.0
    max_deliveries: Annotated[int, Meta(ge=1, le=1_000)] = 5
    drain_seconds: Annotated[float, Meta(ge=0, le=3_600)] = 45.0
    max_waiting: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    seed: int | None = None


class HttpConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Where metrics and health are served; port 0 takes a free one, an empty host turns it off."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 9108


class PaperConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How the simulated exchange behaves."""

    balance: Annotated[Decimal, Meta(description="free quote currency at the start")] = Decimal(
        100_000
    )
    fee_pct: Decimal = Decimal("0.1")
    spread_bps: Decimal = Decimal(1)
    slippage_bps: Decimal = Decimal(1)
    partial_fill_rate: Ratio = 0.0
    reject_rate: Ratio = 0.0
    latency_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    prices: Literal["signal", "live"] = "signal"
    seed: int = 0
    symbols: tuple[str, ...] = ()


class ExchangeConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One exchange account."""

    adapter: Literal["paper", "ccxt"] = "paper"
    ccxt_id: str = ""
    api_key: Secret = Secret("")
    secret: Secret = Secret("")
    password: Secret = Secret("")
    sandbox: bool = False
    base_url: str = ""
    ws_base_url: str = ""
    market_types: Annotated[tuple[MarketKind, ...], Meta(min_length=1)] = (MarketKind.SPOT,)
    recv_window_ms: Annotated[int, Meta(ge=100, le=60_000)] = 5_000
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 10_000
    balance_refresh_seconds: Annotated[float, Meta(gt=0, le=300)] = 2.0
    ticker_refresh_seconds: Annotated[float, Meta(gt=0, le=300)] = 1.0
    max_orders_per_second: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    paper: PaperConfig = field(default_factory=PaperConfig)


class ValidationConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which signals are good enough to look at."""

    min_signal_strength: Ratio = 0.0
    min_confluence_score: Annotated[float, Meta(ge=0, le=10)] = 3.0
    valid_exchanges: tuple[str, ...] = ()
    max_signal_age_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    max_clock_ahead_seconds: Annotated[float, Meta(ge=0, le=3_600)] = 5.0
    max_price_deviation_pct: Annotated[Decimal, Meta(description="percent")] = Decimal("5.0")
    max_price_age_seconds: Annotated[float, Meta(gt=0, le=3_600)] = 5.0


class RiskConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What one account may hold; 0 turns a limit marked (0 = off) off."""

    max_concurrent_positions: Annotated[int, Meta(ge=1, le=1_000_000)] = 3
    default_position_size_pct: Percent = Decimal("2.0")
    max_position_size_pct: Percent = Decimal("5.0")
    min_risk_reward_ratio: Decimal = Decimal("1.5")
    max_stop_loss_pct: Percent = Decimal("2.0")
    default_stop_loss_pct: Percent = Decimal("2.0")
    max_total_exposure_pct: Percent = Decimal(0)
    max_daily_loss_pct: Percent = Decimal(0)
    max_orders_per_minute: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    max_balance_age_seconds: Annotated[float, Meta(gt=0, le=3_600)] = 30.0


class ExecutionConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Sending: retries, deadlines, clocks."""

    max_retries: Annotated[int, Meta(ge=0, le=20)] = 3
    base_delay: Annotated[float, Meta(gt=0, le=60)] = 1.0
    backoff_factor: Annotated[float, Meta(ge=1, le=10)] = 2.0
    max_delay: Annotated[float, Meta(gt=0, le=600)] = 30.0
    jitter: Ratio = 0.25
    skew_margin_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1_000
    max_clock_skew_ms: Annotated[int, Meta(ge=1, le=60_000)] = 1_000
    max_lookup_seconds: Annotated[float, Meta(gt=0, le=600)] = 20.0


class ReconciliationConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Confirming what was sent."""

    verify_fill: bool = True
    max_price_slippage_pct: Percent = Decimal("1.0")
    max_wait_time: Annotated[float, Meta(gt=0, le=600)] = 10.0
    poll_interval: Annotated[float, Meta(ge=0.01, le=60)] = 0.5


class LogConfig(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What is logged, and how; ``auto`` writes JSON unless a terminal is attached."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


def _default_exchanges() -> dict[str, ExchangeConfig]:
    return {name: ExchangeConfig() for name in DEFAULT_EXCHANGES}


class Config(Section, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The whole configuration."""

    mode: Literal["paper", "live"] = "paper"
    account: Annotated[str, Meta(pattern=ACCOUNT_PATTERN)] = "main"
    redis: RedisConfig = field(default_factory=RedisConfig)
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    exchanges: dict[str, ExchangeConfig] = field(default_factory=_default_exchanges)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    risk: RiskConfig = field(default_factory=RiskConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    reconciliation: ReconciliationConfig = field(default_factory=ReconciliationConfig)
    log: LogConfig = field(default_factory=LogConfig)

    @property
    def valid_exchanges(self) -> frozenset[str]:
        """``validation.valid_exchanges``, by default the configured ones."""
        return frozenset(self.validation.valid_exchanges or self.exchanges)
