"""The whole configuration: every section, its keys, their defaults, ranges and meanings."""

from typing import Annotated, Final, Literal

from msgspec import Meta, field

from worker.config.exchange_keys import (
    DEFAULT_EXCHANGES,
    SYMBOL_PATTERN,
    ExchangeConfig,
    PaperConfig,
    default_exchanges,
)
from worker.config.process_keys import (
    HttpConfig,
    LogConfig,
    RedisConfig,
    TracingConfig,
    WorkerConfig,
)
from worker.config.section import Section, doc
from worker.config.signature_keys import SignatureKeyConfig, SignaturesConfig
from worker.config.stage_keys import (
    ExecutionConfig,
    ReconciliationConfig,
    RiskConfig,
    UpdatesConfig,
    ValidationConfig,
)
from worker.domain.identity import ACCOUNT_PATTERN
from worker.runtime.secret import Secret

__all__ = [
    "DEFAULT_EXCHANGES",
    "ENV_PREFIX",
    "RECORD_MARGIN_S",
    "SYMBOL_PATTERN",
    "Config",
    "ExchangeConfig",
    "ExecutionConfig",
    "HttpConfig",
    "LogConfig",
    "PaperConfig",
    "ReconciliationConfig",
    "RedisConfig",
    "RiskConfig",
    "Secret",
    "Section",
    "SignatureKeyConfig",
    "SignaturesConfig",
    "TracingConfig",
    "UpdatesConfig",
    "ValidationConfig",
    "WorkerConfig",
]

ENV_PREFIX: Final = "WORKER_"
#: A record outlives the signal's tradable age by this, for clocks differ.
RECORD_MARGIN_S: Final = 60


class Config(Section, kw_only=True, frozen=True):
    """The whole configuration."""

    mode: Annotated[
        Literal["paper", "live"], doc("`paper` simulates; `live` sends real orders")
    ] = "paper"
    account: Annotated[
        str,
        Meta(pattern=ACCOUNT_PATTERN, description="the trading account that shares risk limits"),
    ] = "main"
    redis: RedisConfig = field(default_factory=RedisConfig)
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    exchanges: dict[str, ExchangeConfig] = field(default_factory=default_exchanges)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    risk: RiskConfig = field(default_factory=RiskConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    reconciliation: ReconciliationConfig = field(default_factory=ReconciliationConfig)
    updates: UpdatesConfig = field(default_factory=UpdatesConfig)
    signatures: SignaturesConfig = field(default_factory=SignaturesConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    log: LogConfig = field(default_factory=LogConfig)

    @property
    def record_retention_s(self) -> float:
        """Seconds a record is kept: at least until its signal is too old to trade."""
        return max(
            self.redis.record_retention_seconds,
            self.validation.max_signal_age_seconds + RECORD_MARGIN_S,
        )

    @property
    def max_life_s(self) -> float:
        """Seconds from now until the last signal that may trade at all expires."""
        validation = self.validation
        return validation.max_signal_lifetime_seconds + validation.max_clock_ahead_seconds

    @property
    def valid_exchanges(self) -> frozenset[str]:
        """``validation.valid_exchanges``, by default the configured ones."""
        return frozenset(self.validation.valid_exchanges or self.exchanges)
