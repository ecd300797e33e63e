"""OKX's trade modes, refusals inside of successes, and conditional orders; with the real ccxt."""

from typing import Any

import pytest

from tests.integration.canned import Asked, CannedServer
from tests.integration.test_account_settings import OKX, okx
from tests.integration.test_venue_wire import ID, D, a_limit, an_order, trading
from worker.domain.order import OrderReport, OrderRequest, OrderState, Role, Side
from worker.domain.signal import OrderType
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.errors import (
    ExchangeError,
    InsufficientBalanceError,
    OrderNotFoundError,
    Outcome,
)
from worker.exchanges.ports import Resend

SPOT, LINEAR = "BTC/USDT", "BTC/USDT:USDT"
PLAIN, ALGO = "POST /api/v5/trade/order", "POST /api/v5/trade/order-algo"
ORDER, ALGO_ORDER = "GET /api/v5/trade/order", "GET /api/v5/trade/order-algo"


def a_stop(symbol: str = LINEAR, **changes: Any) -> OrderRequest:
    """A protective sell that triggers at 59,000."""
    fields: dict[str, Any] = {
        "side": Side.SELL,
        "role": Role.STOP_LOSS,
        "order_type": OrderType.STOP,
        "stop_price": D("59000"),
    }
    return an_order(symbol, **fields | changes)


def algo(**changes: str) -> dict[str, Any]:
    """OKX's row of that stop, triggered."""
    row = {"algoId": "A-1", "algoClOrdId": ID, "clOrdId": "", "instId": "BTC-USDT-SWAP"}
    row |= {"instType": "SWAP", "state": "effective", "ordId": "X-2", "sz": "1.25"}
    row |= {"cTime": "1700000000123", "side": "sell", "ordType": "conditional", "actualSz": ""}
    row |= {"slTriggerPx": "59000", "slOrdPx": "-1"}
    return {"code": "0", "msg": "", "data": [row | changes]}


def placed(**changes: str) -> dict[str, Any]:
    """OKX's row of the order that the stop placed: it carries the stop's ids."""
    row = {"ordId": "X-2", "clOrdId": "", "algoId": "A-1", "algoClOrdId": ID, "state": "filled"}
    row |= {"instId": "BTC-USDT-SWAP", "instType": "SWAP", "sz": "1.25", "accFillSz": "1.25"}
    row |= {"avgPx": "58990", "cTime": "1700000009999", "side": "sell", "ordType": "market"}
    return {"code": "0", "msg": "", "data": [row | changes]}


def refused(code: str, message: str = "no", outer: str = "0", **ids: str) -> dict[str, Any]:
    """A reply about one row that was refused."""
    row = {"ordId": "", "clOrdId": ID, "sCode": code, "sMsg": message}
    return {"code": outer, "msg": "", "data": [row | ids]}


# --- trade modes ---


def _orders(symbol: str) -> list[tuple[str, OrderRequest]]:
    """Every kind of order, both sides, and where it goes."""
    requests = []
    for side in Side:
        requests += [(PLAIN, an_order(symbol, side=side)), (PLAIN, a_limit(symbol, side=side))]
        for role in (Role.ENTRY, Role.STOP_LOSS, Role.TAKE_PROFIT):
            stop = a_stop(symbol, side=side, role=role)
            limit = a_stop(
                symbol, side=side, role=role, order_type=OrderType.STOP_LIMIT, price=D(59000)
            )
            requests += [(ALGO, stop), (ALGO, limit)]
    return requests


@pytest.mark.parametrize(
    ("level", "spot"), [("1", "cash"), ("2", "cash"), ("3", "cross"), ("4", "cross")]
)
async def test_the_trade_mode_follows_from_account_and_market_for_every_order(
    level: str, spot: str
) -> None:
    """Plain and conditional alike; in base units, and never a margin order in spot mode."""
    async with trading("okx", market_types=("spot",)) as (adapter, server):
        server.replies[OKX] = okx(acctLv=level)
        server.replies[ALGO] = {"code": "0", "data": [{"algoId": "A-1", "algoClOrdId": ID}]}
        await adapter.start()
        for route, request in _orders(SPOT):
            await adapter.place_order(request, adapter.open_window())
            fields = server.requests(route)[-1].fields
            assert fields["tdMode"] == spot, request
            assert "ccy" not in fields
            assert "marginMode" not in fields
            assert fields["sz"] == "0.0125"
            if request.side is Side.BUY and not request.order_type.needs_price:
                assert fields["tgtCcy"] == "base_ccy"
            assert "reduceOnly" not in fields


async def test_perpetuals_are_crossed_in_every_account_that_has_them() -> None:
    """With conditional orders as well."""
    for level in "234":
        async with trading("okx") as (adapter, server):
            server.replies[OKX] = okx(acctLv=level)
            server.replies[ALGO] = {"code": "0", "data": [{"algoId": "A-1", "algoClOrdId": ID}]}
            await adapter.start()
            for route, request in _orders(LINEAR):
                await adapter.place_order(request, adapter.open_window())
                fields = server.requests(route)[-1].fields
                assert fields["tdMode"] == "cross"
                assert fields["sz"] == "1.25"


# --- refusals inside of successes ---


@pytest.mark.parametrize(
    ("row", "error", "outcome"),
    [
        (refused("51008", "Insufficient balance"), InsufficientBalanceError, Outcome.REFUSED),
        (refused("51020", "too small"), ExchangeError, Outcome.REFUSED),
        (refused("59999", "of no table"), ExchangeError, Outcome.REFUSED),
        (refused("51008", ordId="X-1"), InsufficientBalanceError, Outcome.REFUSED),
        (refused("51008", outer="2"), InsufficientBalanceError, Outcome.REFUSED),
        (refused("51149", "Order timed out"), ExchangeError, Outcome.UNKNOWN),
        (refused("51016", "Duplicated client order ID"), ExchangeError, Outcome.UNKNOWN),
        (refused("50037", "The order is expired."), ExchangeError, Outcome.REFUSED),
        (refused("50011", "Rate limit"), ExchangeError, Outcome.THROTTLED),
    ],
)
@pytest.mark.parametrize("route", [PLAIN, ALGO])
async def test_a_refused_row_in_a_success_is_what_its_own_code_says(
    route: str, row: dict[str, Any], error: type[ExchangeError], outcome: Outcome
) -> None:
    """Code 0 says only that the request was fine."""
    request = an_order() if route == PLAIN else a_stop(SPOT)
    async with trading("okx") as (adapter, server):
        server.replies[route] = row
        with pytest.raises(error) as raised:
            await adapter.place_order(request, adapter.open_window())
        assert raised.value.outcome is outcome
        assert raised.value.code == row["data"][0]["sCode"]
        assert len(server.asked) == 1


async def test_a_refused_row_in_a_cancellation_is_no_cancellation() -> None:
    """Of a plain order and of a conditional one."""
    async with trading("okx") as (adapter, server):
        cancel = "POST /api/v5/trade/cancel-order"
        server.replies[cancel] = refused("51400", "does not exist")
        with pytest.raises(OrderNotFoundError):
            await adapter.cancel_order(an_order())
        server.replies[cancel] = refused("51410", "is being cancelled")
        with pytest.raises(ExchangeError) as raised:
            await adapter.cancel_order(an_order())
        assert raised.value.transient
        server.replies[ALGO_ORDER] = algo(state="live", ordId="")
        server.replies["POST /api/v5/trade/cancel-algos"] = refused("51400", algoId="A-1")
        with pytest.raises(OrderNotFoundError):
            await adapter.cancel_order(a_stop())


# --- conditional orders ---


async def _seen(
    adapter: CCXTAdapter, server: CannedServer, stop: dict[str, Any], child: dict[str, Any]
) -> OrderReport:
    server.replies |= {ALGO_ORDER: stop, ORDER: child}
    return await adapter.get_order(a_stop())


UNSEEN = {"code": "51603", "msg": "Order does not exist", "data": []}


async def test_a_triggered_stop_is_filled_only_when_its_order_is() -> None:
    """Before that nothing of it is: neither with a child out of sight nor without one told."""
    async with trading("okx") as (adapter, server):
        for stop, child in (
            (algo(), UNSEEN),
            (algo(ordId=""), UNSEEN),
            (algo(ordId="", actualSz="1.25", actualPx="58990"), UNSEEN),
        ):
            seen = await _seen(adapter, server, stop, child)
            assert (seen.state, seen.filled_quantity) == (OrderState.ACTIVE, D(0))
            assert (seen.average_price, seen.fills) == (None, ())
            assert seen.client_order_id == ID
        seen = await _seen(adapter, server, algo(), placed(state="live", accFillSz="0", avgPx=""))
        assert (seen.state, seen.filled_quantity) == (OrderState.ACTIVE, D(0))
        seen = await _seen(adapter, server, algo(), placed(state="partially_filled", accFillSz="1"))
        assert (seen.state, seen.filled_quantity) == (OrderState.PARTIALLY_FILLED, D("0.01"))
        seen = await _seen(adapter, server, algo(), placed())
        assert (seen.state, seen.filled_quantity) == (OrderState.FILLED, D("0.0125"))


async def test_trades_of_a_triggered_stop_are_asked_for_with_its_orders_id() -> None:
    """Which carries the stop's id too, and even if the stop's own report is what one has."""
    trade = {"instId": "BTC-USDT-SWAP", "tradeId": "7", "fillSz": "1.25", "fillPx": "58990"}
    trade |= {"side": "sell", "fee": "-0.3", "feeCcy": "USDT", "ts": "1700000010000"}

    def fills(asked: Asked) -> dict[str, Any]:
        rows = [trade | {"ordId": "X-2"}] if asked.query["ordId"] == "X-2" else []
        return {"code": "0", "data": rows}

    async with trading("okx") as (adapter, server):
        server.replies["GET /api/v5/trade/fills"] = fills
        server.replies[ALGO] = {"code": "0", "data": [{"algoId": "A-1", "algoClOrdId": ID}]}
        sent = await adapter.place_order(a_stop(), adapter.open_window())
        assert sent.exchange_order_id == "A-1"
        seen = await _seen(adapter, server, algo(), placed())
        assert seen.exchange_order_id == "X-2"
        for report in (seen, sent):
            (fill,) = await adapter.get_trades(a_stop(), report)
            assert (fill.trade_id, fill.quantity) == ("7", D("0.0125"))


async def test_a_stop_that_failed_when_triggered_is_rejected_with_its_reason() -> None:
    """Not cancelled: somebody has to know that the position is not protected."""
    async with trading("okx") as (adapter, server):
        failed = algo(state="order_failed", ordId="", failCode="51008")
        seen = await _seen(adapter, server, failed, UNSEEN)
        assert seen.state is OrderState.REJECTED
        assert "51008" in seen.reason


@pytest.mark.parametrize(
    ("source", "told", "reason"),
    [
        ("1", "", "at the account's own request"),
        ("32", "", "self-trade prevention"),
        ("31", "Post-only order will take liquidity", "Post-only order will take liquidity"),
        ("99", "", "cancelSource 99"),
        ("", "", ""),
    ],
)
async def test_why_an_order_was_cancelled_is_told(source: str, told: str, reason: str) -> None:
    """``cancelSource`` in words, and OKX's own sentence where there is one."""
    async with trading("okx") as (adapter, server):
        server.replies[ORDER] = placed(
            clOrdId=ID,
            algoId="",
            state="canceled",
            accFillSz="0",
            cancelSource=source,
            cancelSourceReason=told,
        )
        report = await adapter.get_order(an_order(LINEAR, side=Side.SELL))
        assert report.state is OrderState.CANCELLED
        assert reason in report.reason
        assert bool(report.reason) is bool(source)


async def test_only_what_carries_its_deadline_is_ever_sent_again() -> None:
    """Ids are unique among pending orders only, and conditional orders know no ``expTime``."""
    async with trading("okx") as (adapter, server):
        server.replies[ALGO] = {"code": "0", "data": [{"algoId": "A-1", "algoClOrdId": ID}]}
        for route, request in _orders(SPOT) + _orders(LINEAR):
            await adapter.place_order(request, adapter.open_window())
            conditional = route == ALGO
            rule = Resend.NEVER if conditional else Resend.AFTER_DEADLINE
            assert adapter.resend_rule(request) is rule
            assert "expTime" in server.requests(route)[-1].headers


# --- lists ---


async def test_every_open_order_is_listed_in_however_many_pages() -> None:
    """Plain and conditional ones, 100 a page."""

    def pending(asked: Asked) -> dict[str, Any]:
        conditional = asked.path.endswith("algo-pending")
        if asked.query["instType"] != "SPOT" or asked.query.get("ordType") == "trigger":
            return {"code": "0", "data": []}
        first = 1_000 if conditional else 0
        newest = int(asked.query.get("after", first + 251))
        rows = []
        for number in range(newest - 1, max(newest - 101, first), -1):
            row = {"instId": "BTC-USDT", "instType": "SPOT", "state": "live", "sz": "1"}
            if conditional:
                row |= {"algoId": str(number), "algoClOrdId": f"c{number}", "ordId": ""}
            else:
                row |= {"ordId": str(number), "clOrdId": f"p{number}", "accFillSz": "0"}
            rows.append(row)
        return {"code": "0", "data": rows}

    async with trading("okx") as (adapter, server):
        for name in ("orders-pending", "orders-algo-pending"):
            server.replies[f"GET /api/v5/trade/{name}"] = pending
        reports = await adapter.get_open_orders(SPOT)
        named = {report.client_order_id for report in reports}
        assert named == {f"p{n}" for n in range(1, 251)} | {f"c{n}" for n in range(1_001, 1_251)}
        assert {report.state for report in reports} == {OrderState.ACTIVE}


async def test_market_orders_have_a_maximum_of_their_own() -> None:
    """Contracts become base units; a spot market's is a value in USDT."""

    def instruments(asked: Asked) -> dict[str, Any]:
        reply: dict[str, Any] = before(asked)
        for row in reply["data"]:
            row |= {"maxMktSz": "3000", "maxLmtSz": "10000"}
        return reply

    async with trading("okx") as (adapter, server):
        before: Any = server.replies["GET /api/v5/public/instruments"]
        server.replies["GET /api/v5/public/instruments"] = instruments
        await adapter.refresh_markets()
        linear, spot = (adapter.get_symbol_info(symbol) for symbol in (LINEAR, SPOT))
        assert linear is not None
        assert spot is not None
        assert (linear.max_quantity, linear.max_market_quantity) == (D(100), D(30))
        assert linear.max_market_notional == 0
        assert (spot.max_quantity, spot.max_market_notional) == (D(10000), D(3000))
        assert spot.max_market_quantity == 0
