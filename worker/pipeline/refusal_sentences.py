"""The sentences of what the ledger refuses."""

from worker.config.keys import RiskConfig
from worker.domain.market import SymbolInfo
from worker.domain.refusal import Code
from worker.domain.signal import Signal
from worker.ledger.replies import Blocked
from worker.runtime.counted import count_of


def sentence(refused: Code | Blocked, signal: Signal, info: SymbolInfo, config: RiskConfig) -> str:
    """Return why the ledger refused an order, in a sentence that names the rule."""
    if isinstance(refused, Blocked):
        return (
            f"symbol: the entry of signal {refused.holder} rests for {signal.symbol} on "
            f"{signal.exchange}; cancel it, or wait until it has ended"
        )
    places = "the only place is"
    if config.max_concurrent_positions != 1:
        places = f"all {config.max_concurrent_positions} places are"
    return {
        Code.TRADING_HALTED: "trading_state: the account is HALTED; resume it to trade again",
        Code.TRADING_REDUCING: "trading_state: the account is REDUCING; only closes may trade",
        Code.POSITION_EXISTS: f"symbol: a position in {signal.symbol} is open on "
        f"{signal.exchange}; one a symbol is allowed",
        Code.POSITION_BUSY: f"symbol: another signal is working on {signal.symbol} on "
        f"{signal.exchange} at this moment",
        Code.NO_POSITION: f"symbol: no position in {signal.symbol} is open on {signal.exchange}",
        Code.NOT_THE_OPENER: f"strategy_id: the position in {signal.symbol} on "
        f"{signal.exchange} is not one that {signal.strategy_id or 'a nameless strategy'} "
        "opened; risk.close_only_own is on",
        Code.MAX_POSITIONS: f"risk.max_concurrent_positions: {places} taken or reserved",
        Code.MAX_EXPOSURE: "risk.max_total_exposure_pct: the order would take the account's "
        f"exposure over {config.max_total_exposure_pct}% of its {info.settle}",
        Code.DAILY_LOSS_LIMIT: "risk.max_daily_loss_pct: today's realised loss has reached "
        f"{config.max_daily_loss_pct}% of the account's {info.settle}",
        Code.ORDER_RATE_LIMIT: "risk.max_orders_per_minute: the account has sent its "
        f"{count_of(config.max_orders_per_minute, 'order')} of the last 60 seconds",
    }.get(refused, refused.meaning)
