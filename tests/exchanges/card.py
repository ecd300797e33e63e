"""A conformance card, and what it may do while it runs: one market of one exchange."""

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec

from tests.exchange_simulator.markets import Market
from tests.exchange_simulator.orders import ZERO, Conditions, Order, Side
from tests.exchange_simulator.simulator import Simulator
from tests.exchanges.bench import Bench, Event, at_work
from tests.exchanges.venues import SPACES, SPOT, Venue, list_market
from worker.domain.identity import client_order_id
from worker.domain.market import MarketKind
from worker.domain.signal import Direction

D = Decimal
#: A signal's orders: the entry, or the close with the pieces it may be sent in.
_LEGS = ("entry", "exit", *(f"exit.{number}" for number in range(2, 10)))


class Table:
    """What a card plays on: a market that no other card uses, and the account from outside.

    Args:
        bench: the exchange and the worker.
        card: which card.
        kind: of market.
    """

    def __init__(self, bench: Bench, card: "Card", kind: MarketKind) -> None:
        self.bench = bench
        self.kind = kind
        self.card = card
        self.signals: list[str] = []
        base = card.base_of(kind)
        self.symbol = f"{base}/USDT" + ("" if kind is SPOT else ":USDT")
        listed = bench.simulator.symbol_of(base, "USDT", SPACES[kind])
        self.market: Market = bench.simulator.engine.markets[SPACES[kind]][listed]

    @property
    def simulator(self) -> Simulator:
        """The exchange."""
        return self.bench.simulator

    @property
    def is_spot(self) -> bool:
        """Whether the base currency itself is held."""
        return self.kind is SPOT

    # ---- the producer -------------------------------------------------------------------------

    async def send(self, **fields: Any) -> str:
        """Send a signal for this market; a market buy of 1 unless said otherwise."""
        signal_id = f"{self.card.id}-{self.kind}-{len(self.signals) + 1}"
        self.signals.append(signal_id)
        whole: dict[str, Any] = {"signal_id": signal_id, "exchange": self.bench.venue.name}
        whole |= {"symbol": self.symbol}
        if fields.get("action") != "close":
            whole |= {"direction": "long", "strength": 0.9, "confluence_score": 8, "quantity": "1"}
        whole |= fields
        return await self.bench.send({k: v for k, v in whole.items() if v is not None})

    async def trade(self, **fields: Any) -> Event:
        """Send a signal and wait for its end."""
        return await self.bench.end(await self.send(**fields))

    async def limit(self, price: str, **fields: Any) -> str:
        """Send a limit entry."""
        return await self.send(order_type="limit", entry_price=price, **fields)

    def more(self) -> list[str]:
        """Return the symbols of the card's further markets."""
        base = self.market.base
        return [self.symbol.replace(base, f"{base}X{n}") for n in range(self.card.more)]

    async def close(self, **fields: Any) -> Event:
        """Close the position and wait for the end."""
        return await self.trade(action="close", **fields)

    # ---- the exchange -------------------------------------------------------------------------

    def fault(self, job: str, **rule: Any) -> int:
        """Spoil requests of a job about this market."""
        matcher = self.simulator.rule(job)
        return self.simulator.add_fault(**{"symbol": self.market.symbol} | matcher | rule)

    def price(self, price: str | None = None, **quote: Any) -> None:
        """Move this market."""
        space = SPACES[self.kind]
        self.simulator.set_price(self.market.symbol, price, market=space, **quote)

    def orders(self) -> list[Order]:
        """Return every order the exchange ever accepted on this market from requests."""
        found = self.simulator.orders()
        return [o for o in found if o.market is self.market and o.source == "api"]

    def order(self) -> Order:
        """Return the one order there is."""
        (only,) = self.orders()
        return only

    def asked(self, job: str) -> int:
        """Count the requests of a job about this market."""
        return len(self._requests(job))

    def by_hand(self, side: Side, quantity: str) -> None:
        """Let the account's owner trade at the market, past the worker."""
        engine, now_ms = self.simulator.engine, self.simulator.now_ms()
        order = Order(
            kind="order",
            market=self.market,
            client_id=f"by-hand-{now_ms}",
            side=side,
            type="MARKET",
            tif="GTC",
            quantity=D(quantity),
            source="order_list",
            conditions=Conditions(now_ms),
        )
        order.extra = {"ordertype": "market", "oflags": "fciq", "ordType": "market"}
        order.extra["configuration"] = {"market_market_ioc": {"base_size": quantity}}
        engine.submit(order)

    async def until_resting(self, count: int = 1) -> Order:
        """Wait until the exchange has so many orders of this market, the last of them open."""
        await self.bench.server.until(lambda _: len(self.orders()) >= count)
        last = self.orders()[-1]
        assert last.is_open, last.status
        return last

    def times(self, job: str) -> list[int]:
        """Return when requests of a job about this market arrived, on the exchange's clock."""
        return [row["at"] for row in self._requests(job)]

    def _requests(self, job: str) -> list[dict[str, Any]]:
        return [
            row
            for row in self.simulator.recent
            if self.market.symbol in row["symbol"].split(",")
            and self.simulator.job_of(row["method"], row["path"]) == job
        ]

    async def until_taken_in(self, job: str) -> None:
        """Wait for a request of a job about this market, answered or not."""
        await self.bench.server.until(
            lambda simulator: any(
                self.market.symbol in one.params.get("symbol", "").split(",")
                and simulator.job_of(one.method, one.path) == job
                for one in simulator.last
            )
        )

    async def until_refused(self, job: str) -> bool:
        """Wait until every request of a job is answered; return whether one was not applied."""
        await self.bench.server.until(lambda _: any(not r["applied"] for r in self._requests(job)))
        return True

    def scripted(self, situation: str, wait_s: int = 0) -> dict[str, Any] | None:
        """Return the fault that answers with the exchange's words; None where it has none.

        ``wait_s`` is how long the words ask to wait, where they tell a time.
        """
        return self.simulator.scripted(situation, SPACES[self.kind], wait_s)

    def oid(self, order: Order) -> str:
        """Return the exchange's id of an order."""
        return self.simulator.oid(order)

    def no_rows(self) -> str:
        """Return the body of an empty list of trades."""
        return self.bench.venue.no_trades

    def client_id(self, signal_id: str, leg: str = "entry") -> str:
        """Return the client order id of a signal's order."""
        return client_order_id("main", signal_id, leg)

    # ---- the books ----------------------------------------------------------------------------

    def held(self) -> Decimal:
        """Return what the exchange says the account holds of this market, signed."""
        engine = self.simulator.engine
        if self.is_spot:
            balance = engine.spot.of(self.market.base)
            return balance.free + balance.locked
        position = engine.futures.positions.get(self.market.symbol)
        return position.amount if position is not None else ZERO

    async def booked(self) -> Decimal:
        """Return what the worker's book has of this market, signed."""
        position = await self.bench.position(self.symbol)
        if position is None:
            return ZERO
        return -position.quantity if position.direction is Direction.SHORT else position.quantity

    def events_agree(self) -> None:
        """Compare what was said of each signal's order with the exchange's own trades of it."""
        for signal_id in self.signals:
            assert len(self.bench.ends(signal_id)) == 1, self.bench.of(signal_id)
            ids = {self.client_id(signal_id, leg) for leg in _LEGS}
            mine = [o for o in self.simulator.orders() if o.source == "api" and o.client_id in ids]
            trades = [trade for order in mine for trade in (order.child or order).trades]
            paid: dict[str, Decimal] = {}
            for trade in trades:
                fee = paid.get(trade.commission_asset, ZERO) + trade.commission
                paid[trade.commission_asset] = fee
            for event in self.bench.of(signal_id, "OrderFilled", "OrderCancelled"):
                assert D(event["filled_quantity"]) == sum(trade.quantity for trade in trades), event
                assert {k: D(v) for k, v in event["fees"].items()} == paid, (event, paid)

    async def books_agree(self) -> None:
        """Compare wallet and book; what cannot be traded (under a step) may stay in the wallet."""
        held, booked = self.held(), await self.booked()
        assert ZERO <= abs(held) - abs(booked) <= self.card.dust, (held, booked)


Play = Callable[[Table], Awaitable[None]]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One thing every adapter must do.

    Args:
        id: ``E01`` to ``E99``.
        sentence: what must hold.
        play: runs it.
        kinds: of market it is about.
        rules: fields of ``Market`` for its market.
        cannot: exchange to the quotation of its document that says why it cannot do this; a name
            such as ``okx-linear`` counts for that kind of market alone.
        more: how many further markets it needs.
        alone: whether it needs a worker and an exchange of its own, since what it does stops every
            request of the account's, or spoils replies that are about other cards' orders as well.
        dust: what the wallet may hold beyond the book afterwards, base units.
    """

    id: str
    sentence: str
    play: Play
    kinds: tuple[MarketKind, ...] = tuple(MarketKind)
    rules: Mapping[str, Any] = {}
    cannot: Mapping[str, str] = {}
    dust: Decimal = ZERO
    more: int = 0
    alone: bool = False

    def base_of(self, kind: MarketKind) -> str:
        """Return the base currency of its market: no other card's, nor that of another kind."""
        return self.id if kind is SPOT else f"{self.id}P"

    def rules_of(self, kind: MarketKind) -> dict[str, Any]:
        """Return the rules of its market; those under a kind's name count for that kind alone."""
        kinds = {str(one) for one in MarketKind}
        common = {key: value for key, value in self.rules.items() if key not in kinds}
        return common | dict(self.rules.get(str(kind), {}))

    async def run(self, bench: Bench, kind: MarketKind) -> None:
        """Play it and compare the books."""
        if not self.alone:
            await self._play(bench, kind)
            return
        async with at_work(bench.venue, partial(self.list_markets, venue=bench.venue)) as own:
            await own.until_ready()
            await self._play(own, kind)

    def list_markets(self, simulator: Simulator, venue: Venue) -> None:
        """List the card's markets, of every kind that the exchange has."""
        for kind in venue.kinds:
            if kind in self.kinds:
                base, rules = self.base_of(kind), self.rules_of(kind)
                for name in (base, *(f"{base}X{n}" for n in range(self.more))):
                    list_market(venue, simulator, name, kind, **rules)

    async def _play(self, bench: Bench, kind: MarketKind) -> None:
        table = Table(bench, self, kind)
        await self.play(table)
        table.events_agree()
        await table.books_agree()
