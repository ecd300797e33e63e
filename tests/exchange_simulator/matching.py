"""The matching engine: accepts, fills, triggers and cancels orders. No I/O and no clock.

Liquidity is unlimited at the symbol's bid and ask; a resting order fills at its own price when the
quote reaches it. Every call carries the time; delayed fills happen when time has passed them.
"""

import heapq
from collections.abc import Iterator
from decimal import Decimal

from tests.exchange_simulator import errors, filters
from tests.exchange_simulator.errors import ApiError
from tests.exchange_simulator.ledgers import FuturesLedger, Ledger, SpotLedger
from tests.exchange_simulator.markets import Market, Venue, floor_to
from tests.exchange_simulator.orders import (
    CONDITIONAL_TYPES,
    MARKET_WHEN_TRIGGERED,
    STOP_TYPES,
    ZERO,
    Conditions,
    Lock,
    Order,
    Trade,
)

_FIRST_ORDER_ID = {"spot": 10_000_000_001, "futures": 20_000_000_001, "algo": 3_000_000_001}


class Engine:
    """All state of the simulated exchange.

    Args:
        markets: both venues' symbols.
        spot: spot balances.
        futures: futures wallet and positions.
        fills_per_order: into how many trades a fill is split (when the step allows it).
    """

    def __init__(
        self,
        markets: dict[Venue, dict[str, Market]],
        spot: SpotLedger,
        futures: FuturesLedger,
        fills_per_order: int = 1,
    ) -> None:
        #: Weight a minute and orders in 10 s, as exchangeInfo announces them; None for no limit.
        self.limits: tuple[int | None, int | None] = (None, None)
        self.markets = markets
        self.spot = spot
        self.futures = futures
        self.fills_per_order = fills_per_order
        #: whether positions are kept by side, so that an order has to name one
        self.hedge_mode = False
        #: what the API key may do beside trading, and whether it works from some addresses only
        self.key_withdraws = False
        self.key_is_bound = True
        self.accepted: list[Order] = []
        self.open: dict[tuple[Venue, str], dict[int, Order]] = {}
        self._by_id: dict[tuple[str, str, int], Order] = {}
        self._by_client: dict[tuple[str, str, str], list[Order]] = {}
        self._by_symbol: dict[tuple[str, str], list[Order]] = {}
        self._lists: dict[int, list[Order]] = {}
        self._next_id = dict(_FIRST_ORDER_ID)
        self._next_trade_id = 500_000_001
        self._next_list_id = 1
        self._delayed: list[tuple[int, int, Order]] = []

    # ---- looking ----------------------------------------------------------------------------

    def market(self, venue: Venue, symbol: str) -> Market:
        """Return a market or raise -1121."""
        found = self.markets[venue].get(symbol)
        if found is None:
            raise errors.bad_symbol()
        return found

    def find(self, space: str, symbol: str, order_id: int | None, client_id: str) -> Order | None:
        """Return the order by id, else the newest with that client id.

        Args:
            space: ``spot``, ``futures`` or ``algo``.
            symbol: empty when the endpoint does not take one (algo).
            order_id: the exchange's id, if given.
            client_id: the client's id, if given.
        """
        if order_id is not None:
            found = self._by_id.get((space, symbol, order_id))
            if found is not None and client_id and found.client_id != client_id:
                return None
            return found
        same = self._by_client.get((space, symbol, client_id))
        return same[-1] if same else None

    def of_symbol(self, space: str, symbol: str) -> list[Order]:
        """Return every order of a symbol, oldest first."""
        return self._by_symbol.get((space, symbol), [])

    def open_orders(self, space: str, symbol: str | None) -> list[Order]:
        """Return open orders of one symbol or of all, by order id."""
        venue: Venue = "spot" if space == "spot" else "futures"
        books = (
            [self.open.get((venue, symbol), {})]
            if symbol
            else [book for (owner, _), book in self.open.items() if owner == venue]
        )
        found = [order for book in books for order in book.values() if space_of(order) == space]
        return sorted(found, key=lambda order: order.order_id)

    def duplicates(self) -> dict[str, list[Order]]:
        """Return client ids accepted more than once from requests, on any market."""
        seen: dict[str, list[Order]] = {}
        for order in self.accepted:
            if order.source != "trigger":
                seen.setdefault(order.client_id, []).append(order)
        return {key: orders for key, orders in seen.items() if len(orders) > 1}

    # ---- accepting --------------------------------------------------------------------------

    def submit(self, order: Order) -> Order:
        """Check, accept and if possible fill ``order``; raises ApiError when it is refused."""
        market, now_ms = order.market, order.conditions.now_ms
        if order.quote_quantity:
            order.quantity = floor_to(order.quote_quantity / market.ask, market.step)
        if market.venue == "spot":
            filters.check_spot(order)
        else:
            filters.check_futures(order)
        self._refuse_duplicate(order)
        if order.type in CONDITIONAL_TYPES:
            self._refuse_triggered(order)
            order.working = False
        if order.kind == "algo":
            self._accept(order)
            return order
        self._refuse_reduce_only(order)
        self._refuse_taking_maker(order)
        taking = order.type == "MARKET"
        price = _touch(order) if taking else order.price or order.stop_price
        self._ledger(order).reserve(order, price)
        self._accept(order)
        if order.working:
            if order.conditions.slow_fill_ms:
                due = now_ms + order.conditions.slow_fill_ms
                heapq.heappush(self._delayed, (due, order.order_id, order))
            else:
                self._work(order, now_ms)
        return order

    def check(self, order: Order) -> None:
        """Apply every refusal but the balance's, accept nothing (order/test)."""
        filters.check_spot(order)

    def submit_list(self, legs: list[Order]) -> int:
        """Accept an OCO: both legs or none, one shared lock. Returns the list's id."""
        for leg in legs:
            filters.check_spot(leg)
            self._refuse_duplicate(leg)
            if leg.type in CONDITIONAL_TYPES:
                self._refuse_triggered(leg)
                leg.working = False
            else:
                self._refuse_taking_maker(leg)
        dearest = max(legs, key=lambda leg: max(leg.price, leg.stop_price))
        self.spot.reserve(dearest, max(dearest.price, dearest.stop_price))
        list_id = self._next_list_id
        self._next_list_id += 1
        self._lists[list_id] = legs
        for leg in legs:
            leg.list_id, leg.source, leg.lock = list_id, "order_list", dearest.lock
            self._accept(leg)
        return list_id

    def _accept(self, order: Order) -> None:
        space = space_of(order)
        symbol = order.market.symbol
        order.order_id = self._next_id[space]
        self._next_id[space] += 1
        self.accepted.append(order)
        self._by_id[space, symbol, order.order_id] = order
        self._by_client.setdefault((space, symbol, order.client_id), []).append(order)
        if space == "algo":  # its queries name no symbol
            self._by_id[space, "", order.order_id] = order
            self._by_client.setdefault((space, "", order.client_id), []).append(order)
        self._by_symbol.setdefault((space, symbol), []).append(order)
        self.open.setdefault((order.market.venue, symbol), {})[order.order_id] = order
        order.move("NEW", order.accepted_ms)

    def _refuse_duplicate(self, order: Order) -> None:
        """Ids are unique among open orders only: a finished order's id is accepted again."""
        space = space_of(order)
        same = self._by_client.get((space, order.market.symbol, order.client_id), ())
        if not any(other.is_open for other in same):
            return
        if space == "spot":
            raise ApiError(-2010, "Duplicate order sent.")
        raise ApiError(-4116, "ClientOrderId is duplicated.")

    def _refuse_triggered(self, order: Order) -> None:
        if not _is_triggered(order):
            return
        if order.market.venue == "spot":
            raise ApiError(-2010, "Stop price would trigger immediately.")
        raise ApiError(-2021, "Order would immediately trigger.")

    def _refuse_reduce_only(self, order: Order) -> None:
        if not order.reduce_only:
            return
        if not self.futures.position(order.market).reducible(order.side):
            raise ApiError(-2022, "ReduceOnly Order is rejected.")

    def _refuse_taking_maker(self, order: Order) -> None:
        if order.type == "LIMIT_MAKER" and _is_marketable(order):
            raise ApiError(-2010, "Order would immediately match and take.")
        if order.tif == "GTX" and _is_marketable(order):
            raise ApiError(
                -5022,
                "Due to the order could not be executed as maker, "
                "the Post Only order will be rejected. The order will not be recorded in the "
                "order history",
            )

    # ---- working ----------------------------------------------------------------------------

    def _work(self, order: Order, now_ms: int) -> None:
        """Let a newly working order take what it can, then rest or expire."""
        if order.type in MARKET_WHEN_TRIGGERED[order.market.venue] or order.type == "MARKET":
            self._take(order, now_ms)
            if order.is_open:
                self._finish(order, "EXPIRED", now_ms)
            return
        if order.tif == "FOK" and order.conditions.partial_fill is not None:
            self._finish(order, "EXPIRED", now_ms)
            return
        if _is_marketable(order):
            self._take(order, now_ms)
        if order.is_open and order.tif in {"IOC", "FOK"}:
            self._finish(order, "EXPIRED", now_ms)

    def _take(self, order: Order, now_ms: int) -> None:
        quantity = order.remaining
        if order.conditions.partial_fill is not None:
            quantity = floor_to(quantity * order.conditions.partial_fill, order.market.step)
        self.fill(order, quantity, _touch(order), now_ms, maker=False)

    def fill(
        self, order: Order, quantity: Decimal, price: Decimal, now_ms: int, *, maker: bool
    ) -> None:
        """Execute ``quantity`` of an order; a reduce-only one no further than the position."""
        quantity = min(quantity, order.remaining)
        if order.reduce_only:
            quantity = min(quantity, self.futures.position(order.market).reducible(order.side))
        for part in _split(quantity, order.market.fills or self.fills_per_order, order.market.step):
            settled = self._ledger(order).settle(order, part, price, maker=maker)
            order.trades.append(
                Trade(
                    trade_id=self._next_trade_id,
                    price=price,
                    quantity=part,
                    commission=settled.commission,
                    commission_asset=settled.asset,
                    realized_pnl=settled.realized_pnl,
                    time_ms=now_ms,
                    maker=maker,
                )
            )
            self._next_trade_id += 1
            order.executed += part
            order.cost += part * price
        if order.market.venue == "futures":
            self.futures.position(order.market).updated_ms = now_ms
        if order.remaining <= 0:
            self._finish(order, "FILLED", now_ms)
        elif quantity > 0:
            order.move("PARTIALLY_FILLED", now_ms)
            self._drop_siblings(order, now_ms)

    def expire(self, order: Order, status: str, now_ms: int) -> None:
        """End an open order as an exchange does of itself: ``EXPIRED`` or ``REJECTED``."""
        self._finish(order, status, now_ms)

    def cancel(self, order: Order, now_ms: int) -> Order:
        """Cancel an open order, and the other leg of its list; -2011 when it is not open."""
        if not order.is_open:
            raise errors.cancel_not_found()
        self._finish(order, "CANCELED", now_ms, siblings="CANCELED")
        return order

    def _finish(self, order: Order, status: str, now_ms: int, siblings: str = "EXPIRED") -> None:
        order.move(status, now_ms)
        self.open[order.market.venue, order.market.symbol].pop(order.order_id, None)
        self._drop_siblings(order, now_ms, siblings)
        self._ledger(order).release(order)
        if order.parent is not None:
            order.parent.status = "FINISHED"
            order.parent.executed, order.parent.cost = order.executed, order.cost
            order.parent.updated_ms = now_ms

    def _drop_siblings(self, order: Order, now_ms: int, status: str = "EXPIRED") -> None:
        for other in self._lists.pop(order.list_id, ()):
            if other is not order and other.is_open:
                other.lock = Lock("", ZERO)  # the list's funds stay with ``order``
                other.move(status, now_ms)
                self.open[other.market.venue, other.market.symbol].pop(other.order_id, None)

    # ---- time and prices --------------------------------------------------------------------

    def advance(self, now_ms: int) -> None:
        """Fill what was to fill by ``now_ms``."""
        while self._delayed and self._delayed[0][0] <= now_ms:
            due_ms, _, order = heapq.heappop(self._delayed)
            if order.is_open:
                self._work(order, due_ms)

    def reprice(self, market: Market, now_ms: int) -> None:
        """Trigger and fill what the market's new quote reaches."""
        book = self.open.get((market.venue, market.symbol), {})
        for order in sorted(book.values(), key=lambda order: order.order_id):
            if not order.is_open:
                continue  # its sibling went first
            if not order.working:
                if _is_triggered(order):
                    self._trigger(order, now_ms)
            elif order.type != "MARKET" and _is_marketable(order):
                self.fill(order, order.remaining, order.price, now_ms, maker=True)

    def _trigger(self, order: Order, now_ms: int) -> None:
        order.triggered_ms = now_ms
        if order.kind == "order":
            order.working = True
            self._drop_siblings(order, now_ms)
            self._work(order, now_ms)
            return
        self.open[order.market.venue, order.market.symbol].pop(order.order_id, None)
        order.move("TRIGGERED", now_ms)
        position = self.futures.position(order.market)
        taking = order.type in MARKET_WHEN_TRIGGERED[order.market.venue]
        order.child = Order(
            kind="order",
            market=order.market,
            client_id=order.client_id,
            side=order.side,
            type="MARKET" if taking else "LIMIT",
            tif=order.tif,
            quantity=abs(position.amount) if order.close_position else order.quantity,
            price=ZERO if taking else order.price,
            reduce_only=order.reduce_only or order.close_position,
            source="trigger",
            conditions=Conditions(now_ms),
            parent=order,
        )
        try:
            self.submit(order.child)
        except ApiError as refused:
            order.child = None
            order.move("EXPIRED" if refused.code == -2022 else "REJECTED", now_ms)

    def _ledger(self, order: Order) -> Ledger:
        return self.spot if order.market.venue == "spot" else self.futures


def space_of(order: Order) -> str:
    """Return the id space an order lives in: ``spot``, ``futures`` or ``algo``."""
    return "algo" if order.kind == "algo" else order.market.venue


def _touch(order: Order) -> Decimal:
    return order.market.ask if order.side == "BUY" else order.market.bid


def _is_marketable(order: Order) -> bool:
    if order.side == "BUY":
        return order.price >= order.market.ask
    return order.price <= order.market.bid


def _is_triggered(order: Order) -> bool:
    rising = (order.side == "BUY") == (order.type in STOP_TYPES)
    last = order.market.last
    return last >= order.stop_price if rising else last <= order.stop_price


def _split(quantity: Decimal, parts: int, step: Decimal) -> Iterator[Decimal]:
    share = floor_to(quantity / parts, step) if parts > 1 else ZERO
    if share > 0:
        for _ in range(parts - 1):
            yield share
            quantity -= share
    if quantity > 0:
        yield quantity
