"""Matching of one simulated order: a pure function of seed, client id, request and price."""

import hashlib
from decimal import Context, Decimal
from typing import Final

import msgspec

from worker.config.keys import PaperConfig
from worker.domain.market import SymbolInfo
from worker.domain.money import BPS, HUNDRED, ONE, PRECISION, ZERO, ceil_to, floor_to, tidy
from worker.domain.order import (
    BUY,
    CANCELLED,
    FILLED,
    PARTIALLY_FILLED,
    SELL,
    TAKE_PROFIT,
    Fill,
    OrderReport,
    OrderRequest,
    OrderState,
)
from worker.domain.signal import FOK, IOC, MARKET
from worker.paper.markets import PRICE_TICK

_CONTEXT = Context(prec=PRECISION)
#: The digits of simulated prices: fractional ones, and from what price down significant ones.
_USUAL_QUANTUM: Final = Decimal("1e-8")
_SMALL: Final = Decimal("0.0001")
_SIGNIFICANT: Final = 7
#: An order that fills at once or not at all, once it is triggered.
IMMEDIATE: Final = frozenset({IOC, FOK})


class PaperOrder(msgspec.Struct, gc=False):
    """One accepted order. ``resting``: it waits in the book as a limit, so it will be the maker."""

    request: OrderRequest
    info: SymbolInfo
    accepted_ms: int
    triggered: bool = False
    resting: bool = False

    def report(self, state: OrderState, reason: str = "", fill: Fill | None = None) -> OrderReport:
        """Return the order's report in ``state``; an order trades at most once."""
        request = self.request
        return OrderReport(
            client_order_id=request.client_order_id,
            exchange_order_id="P" + request.client_order_id,
            symbol=request.symbol,
            state=state,
            filled_quantity=fill.quantity if fill else ZERO,
            average_price=fill.price if fill else None,
            fills=(fill,) if fill else (),
            created_ms=self.accepted_ms,
            reason=reason,
        )


class PaperMatching:
    """The rules one simulated exchange trades by.

    Args:
        config: fees, spread, slippage, rates and the seed.
        has_quotes: prices are a real bid and ask, so no spread is made up around them.
    """

    def __init__(self, config: PaperConfig, *, has_quotes: bool) -> None:
        #: Taker and maker fee, a fraction of the value.
        self.fee = _CONTEXT.divide(config.fee_pct, HUNDRED)
        #: Bid and ask lie this far from the assumed price, a fraction of it.
        self.half_spread = ZERO if has_quotes else config.spread_bps / BPS / 2
        taken = self.half_spread + config.slippage_bps / BPS
        self._factor = {BUY: ONE + taken, SELL: ONE - taken}
        self._partial_rate = config.partial_fill_rate
        self._reject_rate = config.reject_rate
        self._seed = config.seed

    def is_rejected(self, request: OrderRequest) -> bool:
        """Return True if the order is one of those ``paper.reject_rate`` picks."""
        return bool(self._reject_rate) and self._draw(request, "reject") < self._reject_rate

    def would_take(self, request: OrderRequest, reference: Decimal | None) -> bool:
        """Return whether a limit order would trade at once with a market at ``reference``."""
        limit = request.price
        if limit is None or reference is None:
            return False
        return limit >= reference if request.side is BUY else limit <= reference

    def leaves_rest(self, order: PaperOrder) -> bool:
        """Return True if the order fills only in part and its rest stays open."""
        request = order.request
        is_immediate = request.time_in_force in IMMEDIATE
        return not is_immediate and self._traded(order) != request.quantity

    def trade(self, order: PaperOrder, reference: Decimal | None, at_ms: int) -> OrderReport | None:
        """Let the order meet a market at ``reference`` (None: no price known).

        Returns:
            The order as FILLED, CANCELLED or PARTIALLY_FILLED (the rest stays open until it is
            cancelled); None while it waits for a price that fills or triggers it.
        """
        price = None if reference is None else self._price(order, reference)
        if price is not None:
            return self._fill(order, price, at_ms)
        request = order.request
        if request.time_in_force in IMMEDIATE and (order.triggered or request.stop_price is None):
            return order.report(CANCELLED, "nothing to trade against at once")
        if reference is None and request.stop_price is None:
            order.resting = True
        return None

    def _price(self, order: PaperOrder, reference: Decimal) -> Decimal | None:
        """Return the price the order trades at, or None while it waits."""
        request = order.request
        if request.stop_price is not None and not order.triggered:
            if not is_through(request, request.stop_price, reference):
                return None
            order.triggered = True
        limit, buys = request.price, request.side is BUY
        if limit is not None:
            # A limit at exactly the assumed price counts as touched.
            if limit < reference if buys else limit > reference:
                order.resting = True
                return None
            if order.resting:
                return limit
        exact = _CONTEXT.multiply(reference, self._factor[request.side])
        taken = _to_tick(exact, order.info.price_tick, up=buys)
        if limit is None:
            return taken
        return min(taken, limit) if buys else max(taken, limit)

    def _fill(self, order: PaperOrder, price: Decimal, at_ms: int) -> OrderReport:
        request = order.request
        quantity = self._traded(order)
        state, reason = FILLED, ""
        if quantity != request.quantity:
            if request.time_in_force is FOK:
                return order.report(CANCELLED, "could not be filled at once as a whole")
            state = PARTIALLY_FILLED
            if request.time_in_force is IOC:
                state, reason = CANCELLED, "the rest could not be filled at once"
        value = _CONTEXT.multiply(quantity, price)
        fill = Fill(
            trade_id=f"P{request.client_order_id}-1",
            quantity=quantity,
            price=price,
            fee=tidy(_CONTEXT.multiply(value, self.fee)),
            fee_currency=order.info.quote,
            at_ms=at_ms,
        )
        return order.report(state, reason, fill)

    def _traded(self, order: PaperOrder) -> Decimal:
        """Return how much of the order trades: all, or what ``paper.partial_fill_rate`` picks.

        That is between a tenth and nine tenths of it, at least one step.
        """
        request, step = order.request, order.info.quantity_step
        if not self._partial_rate or self._draw(request, "partial") >= self._partial_rate:
            return request.quantity
        share = Decimal(int(100 + 800 * self._draw(request, "share"))) / 1_000
        return min(max(tidy(floor_to(request.quantity * share, step)), step), request.quantity)

    def _draw(self, request: OrderRequest, what: str) -> float:
        """Return a number in [0, 1) by the seed, the client order id and ``what`` alone."""
        name = f"{self._seed}/{request.client_order_id}/{what}".encode()
        digest = hashlib.blake2b(name, digest_size=7).digest()
        return (int.from_bytes(digest) >> 3) / (1 << 53)


def cancelled(report: OrderReport, reason: str) -> OrderReport:
    """Return ``report`` as cancelled."""
    return msgspec.structs.replace(report, state=CANCELLED, reason=reason)


def is_through(request: OrderRequest, stop: Decimal, reference: Decimal) -> bool:
    """Return True if ``reference`` has reached the trigger price ``stop``.

    A buy stop is reached from below, a sell stop from above; a take-profit sent as a trigger
    order is reached from the other side.
    """
    return reference >= stop if is_from_below(request) else reference <= stop


def is_from_below(request: OrderRequest) -> bool:
    """Return True if the price has to rise to trigger the order."""
    return (request.side is BUY) is not (request.role is TAKE_PROFIT)


def misfit(request: OrderRequest, info: SymbolInfo) -> str:
    """Return a sentence on the first market rule that the order breaks; empty if none.

    ``min_notional`` is not checked here: it depends on the price.
    """
    quantity, kind = request.quantity, request.order_type
    if (request.price is not None) is not kind.needs_price:
        return f"a {kind} order {'needs a' if kind.needs_price else 'has no'} price"
    if (request.stop_price is not None) is not kind.needs_stop_price:
        return f"a {kind} order {'needs a' if kind.needs_stop_price else 'has no'} stop price"
    if not quantity > ZERO or quantity < info.min_quantity:
        return f"quantity {quantity:f} is less than the minimum of {info.min_quantity:f}"
    if info.max_quantity and quantity > info.max_quantity:
        return f"quantity {quantity:f} is more than the maximum of {info.max_quantity:f}"
    most = info.max_market_quantity
    if most and quantity > most and not kind.needs_price:
        return f"quantity {quantity:f} is more than the maximum of {most:f} of a market order"
    if info.quantity_step and _CONTEXT.remainder(quantity, info.quantity_step):
        return f"quantity {quantity:f} is not a multiple of {info.quantity_step:f}"
    if kind is MARKET:
        return ""
    for price in (request.price, request.stop_price):
        if price is None:
            continue
        if not price > 0:
            return f"price {price:f} is not positive"
        if info.price_tick and _CONTEXT.remainder(price, info.price_tick):
            return f"price {price:f} is not a multiple of {info.price_tick:f}"
    return ""


def simulated_price(price: Decimal, *, up: bool) -> Decimal:
    """Return a made-up price, quote units, with as many digits as a market's price would have.

    That is eight fractional digits, or eight significant ones where the price is so small that
    rounding to a hundred-millionth would move it.
    """
    quantum = _USUAL_QUANTUM
    if price < _SMALL:
        quantum = max(ONE.scaleb(price.adjusted() - _SIGNIFICANT), PRICE_TICK)
    rounded = ceil_to(price, quantum) if up else floor_to(price, quantum)
    return tidy(rounded) or PRICE_TICK


def _to_tick(price: Decimal, tick: Decimal, *, up: bool) -> Decimal:
    """Return ``price`` rounded to the grid against the taker, never to 0."""
    if tick == PRICE_TICK:
        return simulated_price(price, up=up)
    return tidy(ceil_to(price, tick) if up else floor_to(price, tick)) or tick
