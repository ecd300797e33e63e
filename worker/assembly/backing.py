"""An account's ledger as one worker reaches it: in Redis, or in this process."""

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Protocol, TypedDict

from worker.config.keys import Config
from worker.domain.identity import account_key
from worker.ledger.access import Access
from worker.ledger.budgets import Budgets
from worker.ledger.calls import RedisLedger
from worker.ledger.connection import Connections
from worker.ledger.conversion import bring_up_to_date
from worker.ledger.operator_calls import OperatorCalls
from worker.ledger.ports import CorrectionCalls, Ledger, RestingCalls, TradingCalls
from worker.ledger.resting import RedisResting
from worker.ledger.scripts import RedisScripts, Scripts
from worker.ledger.trading_calls import RedisTrading
from worker.ledger.watching import Watched, watch
from worker.observe.metrics import Metrics
from worker.runtime.clock import Clock

if TYPE_CHECKING:
    from worker.ledger.memory.account import MemoryAccount


class Backing(Protocol):
    """An account's ledger, and what goes with it; closed by its worker."""

    @property
    def ledger(self) -> Ledger:
        """Return this worker's ledger."""

    @property
    def corrections(self) -> CorrectionCalls:
        """Return what carries out the corrections that people ask for."""

    @property
    def trading(self) -> TradingCalls:
        """Return what reads and changes the trading state."""

    @property
    def resting(self) -> RestingCalls:
        """Return the orders that rest at simulated exchanges."""

    @property
    def address(self) -> str:
        """Return where the account is, for people."""

    async def bring_up_to_date(self) -> int:
        """Convert what is stored in an older format; return how many positions were.

        Raises:
            ConfigError: a newer version has converted the account.
            OlderWorkersError: an older worker may be alive.
            LedgerError: the account cannot be asked.
        """

    async def watch(self, marks: Mapping[str, str]) -> Watched:
        """Note ``marks`` for the next keeper, and look at what people have changed."""

    async def close(self) -> None:
        """Close every connection."""


class LedgerTerms(TypedDict):
    """The arguments that both kinds of ledger take."""

    clock: Clock
    worker: str
    lease_ms: int
    retention_ms: int
    output_length: int
    max_waiting: int
    max_group_waiting: int
    budgets: Budgets
    on_batch: Callable[[str, int, float], None]


def ledger_terms(
    config: Config, *, worker: str, clock: Clock, budgets: Budgets, metrics: Metrics
) -> LedgerTerms:
    """Return the terms of a worker's ledger, as configured."""
    return LedgerTerms(
        clock=clock,
        worker=worker,
        lease_ms=int(config.worker.lease_seconds * 1000),
        retention_ms=int(config.record_retention_s * 1000),
        output_length=config.redis.output_max_length,
        max_waiting=config.worker.max_waiting,
        max_group_waiting=config.worker.max_group_waiting,
        budgets=budgets,
        on_batch=metrics.round_trip,
    )


class RedisBacking:
    """The account in Redis.

    Args:
        access: the account's keys and the connections to them.
        scripts: run what the keeper does for people.
        ledger: this worker's.
        output_length: about how many entries an output stream keeps.
    """

    def __init__(
        self, access: Access, scripts: Scripts, ledger: Ledger, *, output_length: int
    ) -> None:
        self._access = access
        self._scripts = scripts
        self.ledger = ledger
        self.corrections = OperatorCalls(scripts, output_length=output_length)
        self.trading = RedisTrading(access, self.corrections)
        self.resting = RedisResting(scripts)

    @property
    def address(self) -> str:
        """Return the primary's address."""
        return self._access.connections.address

    async def bring_up_to_date(self) -> int:
        """Convert what is stored in an older format; return how many positions were."""
        ledger = self.ledger
        return await bring_up_to_date(self._scripts, worker=ledger.worker, lease_ms=ledger.lease_ms)

    async def watch(self, marks: Mapping[str, str]) -> Watched:
        """Note ``marks`` for the next keeper, and look at what people have changed."""
        return await watch(self._scripts, marks)

    async def close(self) -> None:
        """Close every connection."""
        await self._access.connections.close()


def in_redis(
    config: Config, terms: LedgerTerms, *, metrics: Metrics, random: Random
) -> RedisBacking:
    """Return an account in Redis as a worker reaches it.

    Args:
        config: the account and how to reach Redis.
        terms: of the worker's ledger.
        metrics: counts errors and reconnections.
        random: for the pauses of calls that are repeated.
    """
    signals = account_key(config.account, "signals")
    connections = Connections(
        config.redis,
        key=signals,
        name=terms["worker"],
        timeout_s=min(5.0, config.worker.lease_seconds / 3),
        on_reconnect=metrics.ledger_reconnect,
    )
    scripts = RedisScripts(
        connections,
        signals=signals,
        replicas=config.redis.replicas_required,
        replicas_timeout_ms=config.redis.replicas_timeout_ms,
        patience_s=config.worker.lease_seconds / 3,
        clock=terms["clock"],
        random=random,
        on_error=lambda error: metrics.ledger_error(error.kind),
        loads=True,
    )
    return RedisBacking(
        Access(connections, config.account),
        scripts,
        RedisLedger(scripts, **terms),
        output_length=terms["output_length"],
    )


class MemoryBacking:
    """The account in this process.

    Args:
        account: shared by all workers of this process that trade it.
        terms: of the worker's ledger.
    """

    address = "memory"

    def __init__(self, account: "MemoryAccount", terms: LedgerTerms) -> None:
        # Imported here: a worker with Redis never loads it.
        from worker.ledger.memory import ledger, operator, resting, steps  # noqa: PLC0415

        way = steps.DirectSteps(account, terms["clock"])
        self.ledger = ledger.MemoryLedger(account, **terms, steps=way)
        self.resting = resting.MemoryResting(account, way)
        self._operator = operator.MemoryOperator(account, way)
        self.corrections: CorrectionCalls = self._operator
        self.trading: TradingCalls = self._operator

    async def watch(self, marks: Mapping[str, str]) -> Watched:
        """Note ``marks`` for the next keeper, and look at what people have changed."""
        return await self._operator.watch(marks)

    async def bring_up_to_date(self) -> int:
        """Do nothing: nothing was stored by another version."""
        return 0

    async def close(self) -> None:
        """Do nothing: there is no connection."""
