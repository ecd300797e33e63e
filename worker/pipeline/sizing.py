"""Sizes orders: quantity, prices on the market's grid, distance of the stop."""

from decimal import Decimal

from worker.config.keys import RiskConfig
from worker.domain.identity import client_order_id
from worker.domain.market import SPOT, SymbolInfo, largest_order
from worker.domain.money import ZERO, ceil_to, floor_to, rounded_text, text, tidy
from worker.domain.order import BUY, ENTRY, EXIT, OrderRequest, Side, opening_side
from worker.domain.order_limits import RewardRule, SizeRule, StopRule
from worker.domain.position import Position, is_untradable
from worker.domain.refusal import Code, Refusal, refuse
from worker.domain.signal import GTC, GTD, MARKET, Direction, Signal, TimeInForce
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
        breach = self._check_protection(signal, direction, price, info)
        if breach is None and signal.order_type is MARKET and market != price:
            breach = self._check_protection(signal, direction, market, info)
        if breach is not None:
            return breach
        # A limit is the most that is paid; all else trades at what the market asks by then.
        cap_price = price
        if market > price and (limit is None or side is not BUY):
            cap_price = market
        quantity = self._size.quantity(
            asked=signal.quantity,
            size_pct=signal.size_pct,
            free=balance.free,
            price=price,
            cap_price=cap_price,
            info=info,
            at_market=limit is None,
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
            post_only=signal.post_only,
        )
        return request, cap_price

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

    def exit_request(
        self,
        signal: Signal,
        position: Position,
        info: SymbolInfo,
        *,
        piece: int = 1,
        closed: Decimal = ZERO,
    ) -> OrderRequest:
        """Build the order that closes ``position``, whole or by the signal's quantity.

        It is cut to the market's largest order. It follows from the arguments alone: every delivery
        of the signal makes the same order.

        Args:
            signal: the close.
            position: as it is held now.
            info: the market's rules.
            piece: the number of the order; the first one's leg is ``exit``, that of the n-th one
                ``exit.n``.
            closed: base units that earlier pieces have traded.
        """
        quantity = position.quantity
        if signal.quantity is not None:
            quantity = min(quantity, signal.quantity - closed)
        side = opening_side(position.direction).opposite
        _, limit, trigger = _prices(signal, side, signal.entry_price or ZERO, info)
        price = position.entry_price if info.max_market_notional else None  # a division
        largest = largest_order(info, price, at_market=limit is None)
        if largest and quantity > largest:
            # Two halves where what the largest order leaves could not be sold by itself.
            rest = quantity - largest
            is_dust = is_untradable(rest, position.entry_price, info)
            quantity = quantity / 2 if is_dust else largest
        return OrderRequest(
            client_order_id=client_order_id(
                self._account, signal.signal_id, EXIT if piece == 1 else f"{EXIT}.{piece}"
            ),
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
            post_only=signal.post_only,
        )

    def stop_loss(self, signal: Signal, entry_price: Decimal, info: SymbolInfo) -> Decimal | None:
        """Return the stop of a position that ``signal`` opens: its own, else the default one.

        None where the market's grid has no price on the stop's side at all.
        """
        if signal.stop_loss is not None or signal.direction is None:
            return signal.stop_loss
        return self._stop.nearest_stop(signal.direction, entry_price, info)

    def _check_protection(
        self, signal: Signal, direction: Direction, price: Decimal, info: SymbolInfo
    ) -> Refusal | None:
        if signal.stop_loss is None:
            if self._stop.default_stop(direction, price, info) is None:
                return self._stop.refuse_default(price, info)
            return None
        breach = self._stop.check(price, signal.stop_loss)
        if breach is None and signal.take_profit is not None:
            breach = self._reward.check(price, signal.stop_loss, signal.take_profit)
        return breach


def check_exit(
    signal: Signal,
    position: Position,
    request: OrderRequest,
    info: SymbolInfo,
    market: Decimal | None,
) -> Refusal | None:
    """Check what can be wrong with a close only once the position is known.

    Args:
        signal: the close.
        position: what is held.
        request: the order to be sent.
        info: the market's rules.
        market: the market's price; None where none is known, and the order's value is not judged.
    """
    if signal.direction is not None and signal.direction is not position.direction:
        return refuse(
            Code.NO_POSITION,
            f"direction: the open position in {signal.symbol} is {position.direction}, "
            f"not {signal.direction}",
        )
    price = request.price or request.stop_price or market
    if not is_untradable(request.quantity, price, info):
        return None
    least = f"{text(max(info.min_quantity, info.quantity_step))} {info.base}"
    if info.kind is SPOT and info.min_notional:
        least += f" and {text(info.min_notional)} {info.quote}"
    held = f"{rounded_text(position.quantity)} {info.base}"
    if is_untradable(position.quantity, market, info):
        problem = (
            f"quantity: the {held} held is under the market's minimum of {least}: it cannot be "
            f"traded and counts as closed; what is left of it on {signal.exchange} is yours to "
            "convert, or to sell by hand together with more"
        )
    else:
        problem = (
            f"quantity: {text(request.quantity)} is under the market's minimum of {least}; close "
            f"more of the {held} held, or all of it by leaving quantity out"
        )
    return refuse(Code.BELOW_MINIMUM, problem)


def _prices(
    signal: Signal, side: Side, reference: Decimal, info: SymbolInfo
) -> tuple[Decimal, Decimal | None, Decimal | None]:
    """Return the price to size with, the limit price and the trigger, on the market's grid.

    A limit is rounded to the side that cannot cost more than the signal said.
    """
    safe = floor_to if side is BUY else ceil_to
    limit = trigger = None
    if signal.order_type.needs_price and signal.entry_price is not None:
        limit = tidy(safe(signal.entry_price, info.price_tick))
    if signal.order_type.needs_stop_price and signal.stop_price is not None:
        trigger = tidy(safe(signal.stop_price, info.price_tick))
    return limit or trigger or reference, limit, trigger


def _time_in_force(signal: Signal) -> TimeInForce | None:
    """Return the order's: to an exchange GTD is GTC, for a worker cancels the order in time."""
    if not signal.order_type.needs_price:
        return None
    asked = signal.time_in_force
    return GTC if asked is None or asked is GTD else asked
