"""Builds the stages of a signal, and the turns of what outlives it, from the configuration."""

from collections.abc import Mapping

from worker.config.keys import Config
from worker.domain.signature import Signatures
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.ports import Ledger
from worker.market.data import MarketData
from worker.market.symbol_hint import SymbolHints
from worker.pipeline.execution import ExecutionMeter, OrderExecutorHandler
from worker.pipeline.live_orders import LiveOrderWriter
from worker.pipeline.orders import OrderManager
from worker.pipeline.pipeline import ExecutionPipeline
from worker.pipeline.reconciliation import ReconciliationHandler
from worker.pipeline.risk import RiskManagementHandler
from worker.pipeline.settlement import SettlementWriter
from worker.pipeline.sizing import Sizing
from worker.pipeline.validation import ValidationHandler
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock, Random, utc
from worker.turns.follow import FollowOrders


class Stages:
    """The stages of one worker, each built once.

    Args:
        config: the whole configuration.
        worker: the worker's name.
        exchanges: by name.
        market: what is known of markets, prices and balances.
        ledger: the Redis side.
        orders: the orders that this process follows.
        state: of the worker.
        clock: time.
        random: for the jitter of pauses.
        meter: counts submissions, retries and look-ups.
    """

    def __init__(
        self,
        config: Config,
        *,
        worker: str,
        exchanges: Mapping[str, ExchangeAdapter],
        market: MarketData,
        ledger: Ledger,
        orders: OrderManager,
        state: WorkerState,
        clock: Clock,
        random: Random,
        meter: ExecutionMeter,
    ) -> None:
        self._config = config
        self._exchanges = exchanges
        self._market = market
        self._orders = orders
        self._state = state
        self._clock = clock
        sizing = Sizing(config.risk, account=config.account)
        self._validation = ValidationHandler(
            config.validation,
            exchanges=config.valid_exchanges,
            max_size_pct=config.risk.max_position_size_pct,
            hint=SymbolHints(exchanges, config.exchanges),
        )
        self._risk = RiskManagementHandler(
            config.risk, sizing=sizing, exchanges=exchanges, market=market, orders=orders
        )
        self._execution = OrderExecutorHandler(
            config.execution,
            exchanges=exchanges,
            ledger=ledger,
            orders=orders,
            state=state,
            clock=clock,
            random=random,
            meter=meter,
        )
        self._reconciliation = ReconciliationHandler(
            config.reconciliation, exchanges=exchanges, orders=orders, state=state, clock=clock
        )
        self._writer = SettlementWriter(
            account=config.account,
            worker=worker,
            sizing=sizing,
            max_slippage_pct=config.reconciliation.max_price_slippage_pct,
            max_life_ms=config.max_life_s * 1000,
            clock=clock,
        )
        self._first_pause_ms = int(config.updates.poll_seconds * 1000)
        self._live_orders = LiveOrderWriter(
            self._writer,
            worker=worker,
            sizing=sizing,
            retention_ms=int(config.record_retention_s * 1000),
            max_rest_ms=int(config.execution.max_rest_seconds * 1000),
            first_pause_ms=self._first_pause_ms,
            clock=clock,
        )

    def pipeline(self) -> ExecutionPipeline:
        """Return the way of a signal through the stages."""
        return ExecutionPipeline(
            signatures=self._signatures(),
            market=self._market,
            exchanges=self._exchanges,
            validation=self._validation,
            risk=self._risk,
            execution=self._execution,
            reconciliation=self._reconciliation,
            writer=self._writer,
            live_orders=self._live_orders,
            orders=self._orders,
            clock=self._clock,
            max_deliveries=self._config.worker.max_deliveries,
            skew_margin_ms=self._config.execution.skew_margin_ms,
        )

    def follow_orders(self) -> FollowOrders:
        """Return what takes the turns of orders that rest."""
        return FollowOrders(
            exchanges=self._exchanges,
            market=self._market,
            validation=self._validation,
            risk=self._risk,
            reconciliation=self._reconciliation,
            writer=self._writer,
            live_orders=self._live_orders,
            orders=self._orders,
            state=self._state,
            first_pause_ms=self._first_pause_ms,
            clock=self._clock,
        )

    def _signatures(self) -> Signatures:
        return Signatures(
            account=self._config.account,
            keys=self._config.signatures.signing_keys,
            required=self._config.validation.require_signature,
            now=lambda: utc(self._clock.now_ms()),
        )
