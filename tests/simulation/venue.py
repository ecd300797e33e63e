"""The exchange itself: what it accepted, how that trades, and what it tells; the ground truth."""

from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Final

import msgspec

from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.money import ZERO
from worker.domain.order import (
    TERMINAL,
    Fill,
    OrderReport,
    OrderRequest,
    OrderState,
    Side,
    average_price,
)
from worker.domain.signal import LIMIT
from worker.exchanges.errors import ClockSkewError, InvalidOrderError, OrderNotFoundError, Outcome

STEP: Final = Decimal("0.01")
PRICES: Final = {
    "BTC/USDT:USDT": Decimal(50_000),
    "ETH/USDT:USDT": Decimal(2_000),
    "SOL/USDT:USDT": Decimal(100),
    "XRP/USDT:USDT": Decimal(2),
}
#: The largest market order of two markets, so that closes need several. It is in force every other
#: few seconds only: entries are refused under it, and a close may be taken over under other rules.
LARGEST: Final = {"BTC/USDT:USDT": Decimal("0.1"), "XRP/USDT:USDT": Decimal("0.06")}
LARGEST_EVERY_S: Final = 4.0
FEE_RATE: Final = Decimal("0.0005")
BALANCE: Final = Decimal(1_000_000)
#: An accepted order can be looked up after at most this, milliseconds.
VISIBILITY_MS: Final = 600
#: How far ahead of the exchange's clock a request's timestamp may be (Binance: one second).
MAX_AHEAD_MS: Final = 1_000


def market(symbol: str) -> SymbolInfo:
    """The rules of one market."""
    return SymbolInfo(
        symbol=symbol,
        base=symbol.partition("/")[0],
        quote="USDT",
        settle="USDT",
        kind=MarketKind.LINEAR,
        shortable=True,
        price_tick=STEP,
        quantity_step=STEP,
        min_quantity=STEP,
        taker_fee=FEE_RATE,
        maker_fee=FEE_RATE,
    )


MARKETS: Final = {symbol: market(symbol) for symbol in PRICES}
#: The same while the largest market order is in force.
LIMITED: Final = MARKETS | {
    symbol: msgspec.structs.replace(MARKETS[symbol], max_market_quantity=largest)
    for symbol, largest in LARGEST.items()
}


class Plan(msgspec.Struct, frozen=True):
    """How one accepted order will trade: parts as (seconds after acceptance, quantity).

    ``ends`` is the state it takes by itself after ``ends_s``, None if it rests until cancelled.
    """

    parts: tuple[tuple[float, Decimal], ...]
    ends: OrderState | None
    ends_s: float
    visible_s: float
    tells: str  # what the create response holds: all, state or ids


class Accepted(msgspec.Struct, kw_only=True):
    """One order the exchange took. Times are virtual seconds."""

    request: OrderRequest
    exchange_order_id: str
    worker: str
    at_s: float
    at_ms: int
    plan: Plan
    cancelled_s: float | None = None

    def state(self, now_s: float) -> OrderState:
        """Its state at a time."""
        age = now_s - self.at_s
        ended = self.plan.ends is not None and age >= self.plan.ends_s
        first = self.cancelled_s is None or self.at_s + self.plan.ends_s <= self.cancelled_s
        if ended and first and self.plan.ends is not None:
            return self.plan.ends
        if self.cancelled_s is not None and now_s >= self.cancelled_s:
            return OrderState.CANCELLED
        return OrderState.PARTIALLY_FILLED if self.filled(now_s) else OrderState.ACTIVE

    def fills(self, now_s: float) -> tuple[Fill, ...]:
        """What has traded by a time."""
        until = now_s if self.cancelled_s is None else min(now_s, self.cancelled_s)
        price = PRICES[self.request.symbol]
        return tuple(
            Fill(
                trade_id=f"{self.exchange_order_id}-{number}",
                quantity=quantity,
                price=price,
                fee=quantity * price * FEE_RATE,
                fee_currency="USDT",
                at_ms=self.at_ms + int(after * 1000),
            )
            for number, (after, quantity) in enumerate(self.plan.parts)
            if self.at_s + after <= until
        )

    def filled(self, now_s: float) -> Decimal:
        """How much has traded by a time."""
        return sum((fill.quantity for fill in self.fills(now_s)), ZERO)

    def report(self, now_s: float, tells: str = "all") -> OrderReport:
        """What the exchange says of it; ``tells`` as in :class:`Plan`."""
        if tells == "ids":
            return OrderReport(
                client_order_id=self.request.client_order_id,
                exchange_order_id=self.exchange_order_id,
                symbol=self.request.symbol,
                state=OrderState.SUBMITTED,
            )
        fills = self.fills(now_s)
        return OrderReport(
            client_order_id=self.request.client_order_id,
            exchange_order_id=self.exchange_order_id,
            symbol=self.request.symbol,
            state=self.state(now_s),
            filled_quantity=self.filled(now_s),
            average_price=average_price(fills),
            fills=fills if tells == "all" else (),
            created_ms=self.at_ms,
        )


class Venue:
    """One exchange account with Binance's rules about time and client order ids.

    Args:
        now_s: virtual time.
        epoch_ms: the Unix time at which virtual time starts.
        random: how orders trade.
        offset_ms: how far its clock is ahead of the true time.
        calm: every order fills whole at once, and is visible at once.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        *,
        epoch_ms: int,
        random: Random,
        offset_ms: int = 0,
        calm: bool = False,
    ) -> None:
        self._now_s = now_s
        self._epoch_ms = epoch_ms
        self._random = random
        self._offset_ms = offset_ms
        self.calm = calm
        self.accepted: list[Accepted] = []
        self.on_accept: Callable[[Accepted], None] = lambda _order: None
        #: Scenarios say here how orders trade.
        self.plan: Callable[[OrderRequest], Plan] = self._draw
        self.refused_late = 0

    def clock_ms(self) -> int:
        """The exchange's own time."""
        return self._epoch_ms + self._offset_ms + int(self._now_s() * 1000)

    def place(
        self, request: OrderRequest, timestamp_ms: int, valid_ms: int, worker: str
    ) -> OrderReport:
        """Take an order, or refuse it.

        Raises:
            ClockSkewError: the request's time has passed, or has not come.
            InvalidOrderError: an open order has the same client id.
        """
        now, now_ms = self._now_s(), self.clock_ms()
        if not timestamp_ms - MAX_AHEAD_MS < now_ms <= timestamp_ms + valid_ms:
            self.refused_late += 1
            raise ClockSkewError(
                f"-1021: the timestamp is {now_ms - timestamp_ms} ms old, not {-MAX_AHEAD_MS}.."
                f"{valid_ms}",
                outcome=Outcome.REFUSED,
                code="-1021",
                transient=True,
            )
        for order in self.accepted:
            if (
                order.request.client_order_id == request.client_order_id
                and order.state(now) not in TERMINAL
            ):
                raise InvalidOrderError("-4116: duplicate clientOrderId", outcome=Outcome.UNKNOWN)
        order = Accepted(
            request=request,
            exchange_order_id=str(1000 + len(self.accepted)),
            worker=worker,
            at_s=now,
            at_ms=now_ms,
            plan=self._stretch(self.plan(request), request),
        )
        self.accepted.append(order)
        self.on_accept(order)
        return order.report(now, order.plan.tells)

    def find(self, request: OrderRequest, exchange_order_id: str = "") -> OrderReport:
        """The newest order under the client id, as a slightly stale replica shows it.

        Raises:
            OrderNotFoundError: none is visible.
        """
        now = self._now_s()
        for order in reversed(self.accepted):
            known = (
                order.exchange_order_id == exchange_order_id
                if exchange_order_id
                else order.request.client_order_id == request.client_order_id
            )
            if known and order.at_s + order.plan.visible_s <= now:
                lag = 0.0 if self.calm else self._random.choice((0.0, 0.0, 0.1, 0.3))
                return order.report(
                    max(now - lag, order.at_s), self._random.choice(("all", "state"))
                )
        raise OrderNotFoundError("-2013: order does not exist", outcome=Outcome.REFUSED)

    def cancel(self, request: OrderRequest) -> None:
        """Cancel what is open under the client id.

        Raises:
            OrderNotFoundError: nothing is.
        """
        now = self._now_s()
        for order in self.accepted:
            if (
                order.request.client_order_id == request.client_order_id
                and order.state(now) not in TERMINAL
            ):
                order.cancelled_s = now
                return
        raise OrderNotFoundError("-2011: unknown order", outcome=Outcome.REFUSED)

    def trades(self, request: OrderRequest, exchange_order_id: str) -> tuple[Fill, ...]:
        """An order's trades, the newest perhaps not yet among them."""
        lag = 0.0 if self.calm else self._random.choice((0.0, 0.0, 0.2))
        for order in reversed(self.accepted):
            if order.exchange_order_id == exchange_order_id or (
                order.request.client_order_id == request.client_order_id
            ):
                return order.fills(self._now_s() - lag)
        return ()

    def net(self, symbol: str) -> Decimal:
        """The position all fills so far add up to; short is negative."""
        return sum(
            (
                order.filled(self._now_s()) * (1 if order.request.side is Side.BUY else -1)
                for order in self.accepted
                if order.request.symbol == symbol
            ),
            ZERO,
        )

    def _draw(self, request: OrderRequest) -> Plan:
        if self.calm:
            return WHOLE(request)
        random, whole = self._random, request.quantity
        visible = random.choice((0.0, 0.0, random.uniform(0.0, VISIBILITY_MS / 1000)))
        tells = random.choice(("all", "all", "state", "ids"))
        kind = random.random()
        if kind < 0.5:
            return Plan(((0.0, whole),), OrderState.FILLED, 0.0, visible, tells)
        first = (whole * Decimal(random.randint(1, 99)) / 100).quantize(STEP)
        first = min(max(first, STEP), whole)
        rest = whole - first
        if kind < 0.7 and rest:
            late = random.uniform(0.05, 2.5)
            parts = ((random.choice((0.0, late / 2)), first), (late, rest))
            return Plan(parts, OrderState.FILLED, late, visible, tells)
        if kind < 0.8:
            return Plan(((random.uniform(0, 1.5), first),), None, 0.0, visible, tells)
        if kind < 0.87:
            return Plan((), None, 0.0, visible, tells)
        if kind < 0.94:
            return Plan(((0.0, first),), OrderState.EXPIRED, 0.0, visible, tells)
        late = random.uniform(0.0, 1.0)
        return Plan((), OrderState.REJECTED, late, visible, tells)

    def _stretch(self, plan: Plan, request: OrderRequest) -> Plan:
        """Let a limit order trade later than a market order does: it rests meanwhile."""
        if request.order_type is not LIMIT:
            return plan
        times = self._random.choice((1, 4, 10))
        parts = tuple((at_s * times, quantity) for at_s, quantity in plan.parts)
        return msgspec.structs.replace(plan, parts=parts, ends_s=plan.ends_s * times)


def WHOLE(request: OrderRequest) -> Plan:  # noqa: N802 (a plan by name)
    """Filled at once, told in full."""
    return Plan(((0.0, request.quantity),), OrderState.FILLED, 0.0, 0.0, "all")
