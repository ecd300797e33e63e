"""A whole worker on the simulated Binance: the book is what the exchange's own ledgers hold."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.exchange_simulator import Server, Settings, serve
from tests.exchange_simulator.ledgers import Settled
from tests.integration.accounts import Account, configuration, working
from tests.integration.binance import KEY, SECRET
from tests.integration.fleets import until
from worker.assembly.worker import Worker
from worker.config.keys import (
    ExchangeConfig,
    ExecutionConfig,
    ReconciliationConfig,
    RiskConfig,
    Secret,
)
from worker.domain.market import MarketKind
from worker.domain.position import Position
from worker.runtime.embedded_server import EmbeddedServer

D = Decimal
CREATE = {"method": "POST", "path": "/api/v3/order$", "count": 1}
SPOT, LINEAR = "BNB/USDT", "BNB/USDT:USDT"
OPEN: dict[str, Any] = {"exchange": "binance", "entry_price": None}
CLOSE = OPEN | {"action": "close", "direction": None, "strength": None, "confluence_score": None}
NOTHING: Callable[[Server], None] = lambda _: None  # noqa: E731


class Desk:
    """One worker, its account, and the exchange it trades on."""

    def __init__(self, worker: Worker, account: Account, server: Server) -> None:
        self.worker = worker
        self.account = account
        self.engine = server.simulator.engine
        self.simulator = server.simulator

    async def do(self, signal_id: str, **fields: Any) -> dict[str, Any]:
        """Send a signal; return how it ended."""
        await self.account.send(signal_id, **fields)
        return await self.account.end(signal_id)

    async def kinds(self, signal_id: str) -> list[str]:
        return [event["type"] for event in await self.account.of(signal_id)]

    async def held(self, symbol: str) -> Position | None:
        """The book's position, which no signal may be changing."""
        await self.account.quiet()
        rows = await self.account.redis.hgetall("{main}:book")
        row = rows.get(f"binance:{symbol}".encode())
        assert not (row or b"").startswith((b"opening", b"closing"))
        return msgspec.json.decode(row, type=Position) if row else None

    @property
    def coins(self) -> Decimal:
        balance = self.engine.spot.of("BNB")
        return balance.free + balance.locked

    @property
    def contracts(self) -> Decimal:
        return self.engine.futures.position(self.engine.markets["futures"]["BNBUSDT"]).amount


@asynccontextmanager
async def trading(
    redis: EmbeddedServer, prepare: Callable[[Server], None] = NOTHING, **reconciliation: Any
) -> AsyncIterator[Desk]:
    """A worker in live mode against a simulator that ``prepare`` has changed."""
    async with serve(Settings(api_key=KEY, secret=SECRET)) as server:
        prepare(server)
        exchange = ExchangeConfig(
            adapter="ccxt",
            api_key=Secret(KEY),
            secret=Secret(SECRET),
            base_url=server.url,
            market_types=(MarketKind.SPOT, MarketKind.LINEAR),
        )
        config = configuration(
            redis.url,
            mode="live",
            exchanges={"binance": exchange},
            risk=RiskConfig(max_concurrent_positions=100, max_position_size_pct=D(100)),
            execution=ExecutionConfig(base_delay=0.05),
            reconciliation=ReconciliationConfig(
                **{"max_wait_time": 0.4, "poll_interval": 0.05} | reconciliation
            ),
        )
        config = msgspec.structs.replace(
            config, worker=msgspec.structs.replace(config.worker, lease_seconds=15)
        )
        account = Account(redis.url)
        try:
            async with working(config) as worker:
                yield Desk(worker, account, server)
        finally:
            await account.close()


def fees_in_base(server: Server) -> None:
    """Take the fee of sales out of the coins too, as Binance does where fees are paid in BNB."""
    ledger = server.simulator.engine.spot
    as_it_was = ledger.settle

    def settle(order: Any, quantity: Decimal, price: Decimal, *, maker: bool) -> Settled:
        settled = as_it_was(order, quantity, price, maker=maker)
        if order.side == "SELL":
            ledger.of(settled.asset).free += settled.commission
            fee = (quantity * ledger.taker_rate).quantize(D("1e-8"))
            fee = min(fee, ledger.of(order.market.base).free)
            ledger.of(order.market.base).free -= fee
            return Settled(fee, order.market.base)
        return settled

    ledger.settle = settle  # type: ignore[method-assign]


async def test_fees_in_the_base_coin_leave_the_book_what_the_wallet_is(
    one_server: EmbeddedServer,
) -> None:
    """Bought, half sold, all sold: nothing is left that could never be sold."""
    async with trading(one_server, fees_in_base) as desk:
        await desk.do("b", **OPEN, symbol=SPOT, quantity="10")
        held = await desk.held(SPOT)
        assert held is not None
        assert held.quantity == desk.coins == D("9.99")
        await desk.do("h", **CLOSE, symbol=SPOT, quantity="5")
        held = await desk.held(SPOT)
        assert held is not None
        assert held.quantity == desk.coins == D("4.985")
        assert (await desk.do("c", **CLOSE, symbol=SPOT))["type"] == "OrderFilled"
        assert await desk.held(SPOT) is None
        assert desk.coins < D("0.001")
        assert (await desk.account.of("c"))[-1]["type"] == "PositionClosed"


@pytest.mark.parametrize(("direction", "sign"), [("long", 1), ("short", -1)])
async def test_no_fee_changes_what_is_held_of_a_derivative(
    one_server: EmbeddedServer, direction: str, sign: int
) -> None:
    """Whatever coin pays it: opened, half closed, closed."""

    def prepare(server: Server) -> None:
        ledger = server.simulator.engine.futures
        as_it_was = ledger.settle

        def settle(*args: Any, **kwargs: Any) -> Settled:
            return Settled(D("0.0075"), "BNB", as_it_was(*args, **kwargs).realized_pnl)

        ledger.settle = settle  # type: ignore[method-assign]

    async with trading(one_server, prepare) as desk:
        await desk.do("o", **OPEN | {"direction": direction}, symbol=LINEAR, quantity="10")
        held = await desk.held(LINEAR)
        assert held is not None
        assert (held.quantity, desk.contracts) == (D(10), D(sign * 10))
        await desk.do("h", **CLOSE, symbol=LINEAR, quantity="4")
        held = await desk.held(LINEAR)
        assert held is not None
        assert (held.quantity, desk.contracts) == (D(6), D(sign * 6))
        await desk.do("c", **CLOSE, symbol=LINEAR)
        assert await desk.held(LINEAR) is None
        assert desk.contracts == 0


def market_maximum(venue: Any) -> Callable[[Server], None]:
    """Allow market orders of 3 at most."""

    def prepare(server: Server) -> None:
        server.simulator.engine.markets[venue]["BNBUSDT"].max_market_quantity = D(3)

    return prepare


@pytest.mark.parametrize(("symbol", "venue"), [(SPOT, "spot"), (LINEAR, "futures")])
async def test_more_than_one_order_may_have_is_closed_in_pieces(
    one_server: EmbeddedServer, symbol: str, venue: str
) -> None:
    """Each under an id of its own, one terminal event, and the position is closed once."""
    async with trading(one_server, market_maximum(venue)) as desk:
        limit = {"order_type": "limit", "entry_price": "601", "quantity": "10"}
        assert (await desk.do("o", **OPEN | limit, symbol=symbol))["type"] == "OrderFilled"
        end = await desk.do("c", **CLOSE, symbol=symbol)
        assert end["type"] == "OrderFilled"
        assert D(end["filled_quantity"]) == D("9.99" if symbol == SPOT else "10")
        assert await desk.held(symbol) is None
        kinds = await desk.kinds("c")
        assert kinds.count("OrderPlaced") == 4
        assert (kinds[-2:], kinds.count("PositionClosed")) == (["OrderFilled", "PositionClosed"], 1)
        orders = [order for order in desk.simulator.orders() if order.side == "SELL"]
        assert [order.executed for order in orders][:3] == [3, 3, 3]
        assert len({order.client_id for order in orders}) == 4
        assert desk.simulator.duplicates() == {}


async def test_a_given_entry_over_the_market_maximum_is_refused(
    one_server: EmbeddedServer,
) -> None:
    """A person's quantity is not cut; what sizing chose is."""
    async with trading(one_server, market_maximum("spot")) as desk:
        end = await desk.do("o", **OPEN, symbol=SPOT, quantity="3.001")
        assert (end["type"], end["code"]) == ("OrderFailed", "QUANTITY_OUT_OF_RANGE")
        await desk.do("s", **OPEN, symbol=SPOT)
        held = await desk.held(SPOT)
        assert held is not None
        assert held.opened_quantity == D("2.997")


@pytest.mark.parametrize("left", ["0", "4"])
async def test_a_close_that_the_exchange_cuts_short_ends_the_position(
    one_server: EmbeddedServer, left: str
) -> None:
    """Part of it, or all, was closed there by somebody else: the book says so, and is flat."""
    async with trading(one_server) as desk:
        await desk.do("o", **OPEN, symbol=LINEAR, quantity="10")
        market = desk.engine.markets["futures"]["BNBUSDT"]
        desk.engine.futures.position(market).amount = D(left)
        end = await desk.do("c", **CLOSE, symbol=LINEAR)
        assert end["type"] == ("OrderFailed" if left == "0" else "OrderCancelled")
        assert "closed" in end["reason"]
        assert await desk.held(LINEAR) is None
        closed = (await desk.account.of("c"))[-1]
        assert (closed["type"], closed["close_reason"]) == ("PositionClosed", "external")
        (alarm,) = (one for one in await desk.account.events("system") if one["signal_id"] == "c")
        assert (alarm["code"], alarm["severity"]) == ("POSITION_DRIFT", "critical")


async def test_a_wallet_a_little_short_of_the_book_is_sold(one_server: EmbeddedServer) -> None:
    """What is there within the tolerance; the position is closed with it."""
    async with trading(one_server) as desk:
        await desk.do("o", **OPEN, symbol=SPOT, quantity="10")
        desk.engine.spot.of("BNB").free -= D("0.0123")
        end = await desk.do("c", **CLOSE, symbol=SPOT)
        assert (end["type"], end["filled_quantity"]) == ("OrderFilled", "9.977")
        assert await desk.held(SPOT) is None
        assert (await desk.account.of("c"))[-1]["close_reason"] == "signal"


async def test_a_wallet_that_lacks_more_is_told(one_server: EmbeddedServer) -> None:
    """Wallet and book, in the refusal; the position stays for a person to correct."""
    async with trading(one_server) as desk:
        await desk.do("o", **OPEN, symbol=SPOT, quantity="10")
        desk.engine.spot.of("BNB").free -= D("0.1")
        end = await desk.do("c", **CLOSE, symbol=SPOT)
        assert (end["type"], end["code"]) == ("OrderFailed", "INSUFFICIENT_BALANCE")
        for part in ("9.89", "9.99", "execution-worker correct"):
            assert part in end["reason"]
        assert await desk.held(SPOT) is not None


async def test_what_cannot_be_sold_counts_as_closed(one_server: EmbeddedServer) -> None:
    """Refused unsent, with what a person can do; the place is free again."""
    async with trading(one_server) as desk:
        await desk.do("o", **OPEN, symbol=SPOT, quantity="0.01")
        end = await desk.do("p", **CLOSE, symbol=SPOT, quantity="0.005")
        assert (end["type"], end["code"], end["attempts"]) == ("OrderFailed", "BELOW_MINIMUM", 0)
        assert "close more" in end["reason"]
        assert await desk.held(SPOT) is not None
        sent = len(desk.simulator.orders())
        desk.simulator.set_price("BNBUSDT", "400")
        await price_known(desk, D(400))
        end = await desk.do("c", **CLOSE, symbol=SPOT)
        assert (end["type"], end["code"], end["attempts"]) == ("OrderFailed", "BELOW_MINIMUM", 0)
        assert "counts as closed" in end["reason"]
        assert len(desk.simulator.orders()) == sent
        assert await desk.held(SPOT) is None
        assert (await desk.account.of("c"))[-1]["type"] == "PositionClosed"


async def price_known(desk: Desk, price: Decimal) -> None:
    """Wait until the worker knows the market's new price."""

    async def is_known() -> bool:
        ticker = desk.worker.market.known("binance", SPOT).ticker
        return ticker is not None and ticker.last == price

    await until(is_known, what=f"the price is known to be {price}")


async def test_a_sale_refused_as_too_small_is_judged_by_the_price_of_then(
    one_server: EmbeddedServer,
) -> None:
    """The worker knew an older price: the exchange refuses, and the place is free all the same."""
    async with trading(one_server) as desk:
        await desk.do("o", **OPEN, symbol=SPOT, quantity="0.01")
        desk.simulator.set_price("BNBUSDT", "400")
        end = await desk.do("c", **CLOSE, symbol=SPOT)
        assert (end["type"], end["code"]) == ("OrderFailed", "BELOW_MINIMUM")
        assert "counts as closed" in end["reason"]
        assert await desk.held(SPOT) is None
        assert (await desk.account.of("c"))[-1]["type"] == "PositionClosed"


async def test_an_entry_that_trades_too_little_to_sell_is_no_position(
    one_server: EmbeddedServer,
) -> None:
    """The place and the exposure are free again; the event says what traded, and why it is none."""
    async with trading(one_server) as desk:
        desk.simulator.add_fault(**CREATE, partial_fill="0.02")
        end = await desk.do("o", **OPEN, symbol=SPOT, quantity="0.1")
        assert end["type"] == "OrderCancelled"
        assert D(end["filled_quantity"]) > 0
        assert "no position was opened" in end["reason"]
        assert await desk.held(SPOT) is None
        assert "PositionOpened" not in await desk.kinds("o")
        assert await desk.account.redis.hget("{main}:totals", "USDT") in {None, b"0"}


@pytest.mark.parametrize("piece", [2, 4])
@pytest.mark.parametrize("action", ["drop_after", "drop_before"])
async def test_a_piece_whose_reply_is_lost_is_sent_once(
    one_server: EmbeddedServer, piece: int, action: str
) -> None:
    """It is looked up like any order, and the close goes on after it."""
    async with trading(one_server, market_maximum("futures")) as desk:
        limit = {"order_type": "limit", "entry_price": "601", "quantity": "10"}
        await desk.do("o", **OPEN | limit, symbol=LINEAR)
        create = {"method": "POST", "path": "/fapi/v1/order$", "count": 1, "skip": piece - 1}
        desk.simulator.add_fault(**create, action=action)
        assert (await desk.do("c", **CLOSE, symbol=LINEAR))["type"] == "OrderFilled"
        assert desk.contracts == 0
        assert await desk.held(LINEAR) is None
        orders = [order for order in desk.simulator.orders() if order.side == "SELL"]
        assert [order.executed for order in orders] == [3, 3, 3, 1]
        assert desk.simulator.duplicates() == {}


async def test_a_refused_piece_leaves_what_was_closed_booked(one_server: EmbeddedServer) -> None:
    """The event says what is left and that it needs another close, which then closes it."""
    async with trading(one_server, market_maximum("futures")) as desk:
        limit = {"order_type": "limit", "entry_price": "601", "quantity": "10"}
        await desk.do("o", **OPEN | limit, symbol=LINEAR)
        create = {"method": "POST", "path": "/fapi/v1/order$", "count": 1, "skip": 2}
        desk.simulator.add_fault(**create, action="reject", code=-2019, msg="Margin low.")
        end = await desk.do("c", **CLOSE, symbol=LINEAR)
        assert (end["type"], D(end["filled_quantity"])) == ("OrderCancelled", D(6))
        for part in ("Margin low.", "another close"):
            assert part in end["reason"]
        held = await desk.held(LINEAR)
        assert held is not None
        assert held.quantity == desk.contracts == 4
        assert (await desk.do("d", **CLOSE, symbol=LINEAR))["type"] == "OrderFilled"
        assert await desk.held(LINEAR) is None


@pytest.mark.parametrize(("symbol", "path"), [(SPOT, "/api/v3/"), (LINEAR, "/fapi/v1/")])
async def test_an_unknown_code_is_told_as_the_exchanges_own_refusal(
    one_server: EmbeddedServer, symbol: str, path: str
) -> None:
    """It did reach the exchange, which said no in words that no table has: once proven absent."""
    words = "Please sign TradFi-Perps agreement for token XYZ first."
    async with trading(one_server) as desk:
        create = {"method": "POST", "path": f"{path}order$", "count": 1}
        desk.simulator.add_fault(**create, action="reject", code=-4999, msg=words)
        end = await desk.do("o", **OPEN, symbol=symbol, quantity="1")
        assert (end["type"], end["code"]) == ("OrderFailed", "ORDER_REJECTED")
        assert words in end["reason"]
        assert end["attempts"] == 1
        assert desk.simulator.orders() == []
