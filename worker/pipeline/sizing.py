"""Sizes orders: quantity, prices on the market's grid, distance of the stop."""

from decimal import Decimal

from worker.config.keys import RiskConfig
from worker.domain.identity import client_order_id
from worker.domain.limits import RewardRule, SizeRule, StopRule, refuse
from worker.domain.market import SymbolInfo
from worker.domain.money import ZERO, ceil_to, floor_to, text, tidy
from worker.domain.order import BUY, ENTRY, EXIT, OrderRequest, Side, opening_side
from worker.domain.position import Position
from worker.domain.refusal import Code, Refusal
from worker.domain.signal import GTC, MARKET, Signal, TimeInForce
from worker.pipeline.flow import ValidSignal, leg_of


class Sizing:
    """Builds the order of a signal; pure, every rule has its code and a sentence.

    Args:
        config: the ``risk`` section.
        account: part of every order's id.
    """

    def __init__(self, config: RiskConfig, *, account: str) -> None:
        self._account = account
        self._max_balance_age_s = config.max_balance_age_seconds
        self._size = SizeRule(
            default_pct=config.default_position_size_pct, max_pct=config.max_position_size_pct
        )
        self._stop = StopRule(
            default_pct=config.default_stop_loss_pct, max_pct=config.max_stop_loss_pct
        )
        self._reward = RewardRule(min_ratio=config.min_risk_reward_ratio)

    def entry_request(self, valid: ValidSignal) -> tuple[OrderRequest, Decimal] | Refusal:
        """Build the order that opens a position, with the worst price that it may trade at."""
        signal, info = valid.arrival.signal, valid.info
        balance = valid.arrival.view.balance
        direction, reference = signal.direction, valid.reference
        if direction is None or reference is None:
            raise AssertionError("validation lets no entry through without direction and price")
        if balance is None:
            return refuse(
                Code.BALANCE_UNKNOWN,
                f"{signal.exchange} did not tell the {info.settle} balance in the last "
                f"{self._max_balance_age_s:g} s",
            )
        side = opening_side(direction)
        price, limit, trigger = _prices(signal, side, reference, info)
        ticker = valid.arrival.view.ticker
        market = ticker.last if ticker is not None else price
        breach = self._check_protection(signal, price)
        if breach is None and signal.order_type is MARKET and market != price:
            breach = self._check_protection(signal, market)
        if breach is not None:
            return breach
        # A limit is the most that is paid; all else trades at what the market asks by then.
        worth = price
        if market > price and (limit is None or side is not BUY):
            worth = market
        quantity = self._size.quantity(
            asked=signal.quantity,
            size_pct=signal.size_pct,
            free=balance.free,
            price=price,
            worth=worth,
            info=info,
        )
        if not isinstance(quantity, Decimal):
            return quantity
        request = OrderRequest(
            client_order_id=client_order_id(self._account, signal.signal_id, ENTRY),
            exchange=signal.exchange,
            symbol=signal.symbol,
            role=ENTRY,
            side=side,
            order_type=signal.order_type,
            quantity=quantity,
            price=limit,
            stop_price=trigger,
            time_in_force=_time_in_force(signal),
        )
        return request, worth

    def unsized_request(self, valid: ValidSignal) -> OrderRequest:
        """Build what a look-up needs of an entry that cannot be sized any more."""
        signal = valid.arrival.signal
        direction = signal.direction
        if direction is None:
            raise AssertionError("no order of an entry without a direction is looked for")
        return OrderRequest(
            client_order_id=client_order_id(self._account, signal.signal_id, ENTRY),
            exchange=signal.exchange,
            symbol=signal.symbol,
            role=ENTRY,
            side=opening_side(direction),
            order_type=signal.order_type,
            quantity=signal.quantity or valid.info.quantity_step,
        )

    def exit_request(self, signal: Signal, position: Position, info: SymbolInfo) -> OrderRequest:
        """Build the order that closes ``position``, whole or by the signal's quantity.

        It follows from the arguments alone: every delivery of the signal makes the same order.
        """
        quantity = position.quantity
        if signal.quantity is not None:
            quantity = min(quantity, signal.quantity)
        side = opening_side(position.direction).opposite
        _, limit, trigger = _prices(signal, side, signal.entry_price or ZERO, info)
        return OrderRequest(
            client_order_id=client_order_id(self._account, signal.signal_id, EXIT),
            exchange=signal.exchange,
            symbol=signal.symbol,
            role=leg_of(signal),
            side=side,
            order_type=signal.order_type,
            quantity=floor_to(quantity, info.quantity_step),
            price=limit,
            stop_price=trigger,
            time_in_force=_time_in_force(signal),
            reduce_only=True,
        )

    def stop_loss(self, signal: Signal, entry_price: Decimal, info: SymbolInfo) -> Decimal | None:
        """Return the stop of a position that ``signal`` opens: its own, else the default one."""
        if signal.stop_loss is not None or signal.direction is None:
            return signal.stop_loss
        return self._stop.default_stop(signal.direction, entry_price, info)

    def _check_protection(self, signal: Signal, price: Decimal) -> Refusal | None:
        if signal.stop_loss is None:
            return None
        breach = self._stop.check(price, signal.stop_loss)
        if breach is None and signal.take_profit is not None:
            breach = self._reward.check(price, signal.stop_loss, signal.take_profit)
        return breach


def check_exit(
    signal: Signal, position: Position, request: OrderRequest, info: SymbolInfo
) -> Refusal | None:
    """Check what can be wrong with a close only once the position is known."""
    if signal.direction is not None and signal.direction is not position.direction:
        return refuse(
            Code.NO_POSITION,
            f"direction: the open position in {signal.symbol} is {position.direction}, "
            f"not {signal.direction}",
        )
    if request.quantity <= 0:
        return refuse(
            Code.BELOW_MINIMUM,
            f"quantity: {text(tidy(position.quantity))} is under the market's step of "
            f"{text(info.quantity_step)}",
        )
    return None


def _prices(
    signal: Signal, side: Side, reference: Decimal, info: SymbolInfo
) -> tuple[Decimal, Decimal | None, Decimal | None]:
    """Return the price to size with, the limit price and the trigger, on the market's grid.

    A limit is rounded to the side that cannot cost more than the signal said.
    """
    safe = floor_to if side is BUY else ceil_to
    limit = trigger = None
    if signal.order_type.needs_price and signal.entry_price is not None:
        limit = safe(signal.entry_price, info.price_tick)
    if signal.order_type.needs_stop_price and signal.stop_price is not None:
        trigger = safe(signal.stop_price, info.price_tick)
    return limit or trigger or reference, limit, trigger


def _time_in_force(signal: Signal) -> TimeInForce | None:
    if signal.order_type is MARKET:
        return None
    if signal.order_type.needs_price:
        return signal.time_in_force or GTC
    return None
