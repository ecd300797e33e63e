"""A reply proves that an order is not there only if it was understood; with the real ccxt."""

import json
from typing import Any

import pytest

from tests.integration.canned import Canned, canned_server
from tests.integration.test_venue_wire import ID, D, an_order, trading
from tests.integration.venues import adapter_for, stock
from worker.domain.order import OrderState, Role, Side
from worker.domain.signal import OrderType
from worker.exchanges.ccxt.absence import listed_rows, pick
from worker.exchanges.ccxt.call import Call
from worker.exchanges.ccxt.codes import ANY_CODES
from worker.exchanges.ccxt.outcomes import IncompleteReplyError, classify
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, Outcome

OPEN, CLOSED = "GET /v5/order/realtime", "GET /v5/order/history"
ROW = {"orderId": "X-1", "orderLinkId": ID, "symbol": "BTCUSDT", "orderStatus": "New"}
ROW |= {
    "side": "Buy",
    "orderType": "Limit",
    "qty": "1",
    "price": "1",
    "createdTime": "1700000000000",
}


def listing(*rows: Any) -> dict[str, Any]:
    """A reply of Bybit with these rows."""
    return {"retCode": 0, "retMsg": "OK", "result": {"list": list(rows), "nextPageCursor": ""}}


#: Replies of HTTP 200 to a look-up by our id that say nothing about it.
NOT_UNDERSTOOD: list[Any] = [
    listing({**ROW, "orderLinkId": ""}),
    listing({name: value for name, value in ROW.items() if name != "orderLinkId"}),
    listing({"orderLinkId": "another", "symbol": "BTCUSDT"}),  # no id of the exchange's
    listing({}),
    listing(None),
    listing("X-1"),
    listing(["X-1", ID]),
    {"retCode": 0, "result": {"list": None}},
    {"retCode": 0, "result": {"list": {"X-1": ROW}}},
    {"retCode": 0, "result": {"rows": [ROW]}},
    {"retCode": 0, "result": {}},
    {"retCode": 0, "result": None},
    {"retCode": 0},
    {},
    Canned(b"[]"),
    Canned(b"null"),
]


@pytest.mark.parametrize("which", [OPEN, CLOSED])
@pytest.mark.parametrize("reply", NOT_UNDERSTOOD)
@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC/USDT:USDT"])
async def test_rows_that_cannot_be_read_leave_the_answer_open(
    which: str, reply: Any, symbol: str
) -> None:
    """Whichever of Bybit's lists has them, and in whatever form."""
    async with trading("bybit") as (adapter, server):
        server.replies |= {OPEN: listing(), CLOSED: listing()} | {which: reply}
        with pytest.raises(ExchangeError) as raised:
            await adapter.get_order(an_order(symbol))
        assert not isinstance(raised.value, OrderNotFoundError)
        assert raised.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("rows", [(), ({**ROW, "orderLinkId": "f" * 32},)])
async def test_an_empty_list_and_other_orders_are_an_answer(rows: tuple[Any, ...]) -> None:
    """A stop on spot is looked for among conditional orders and among ordinary ones."""
    stop = an_order(side=Side.SELL, role=Role.STOP_LOSS, order_type=OrderType.STOP, stop_price=D(9))
    async with trading("bybit") as (adapter, server):
        server.replies |= {OPEN: listing(*rows), CLOSED: listing(*rows)}
        for request, questions in ((an_order(), 2), (stop, 4)):
            server.asked.clear()
            with pytest.raises(OrderNotFoundError):
                await adapter.get_order(request)
            assert [asked.query["orderLinkId"] for asked in server.asked] == [ID] * questions


async def test_an_order_among_others_is_found() -> None:
    """Whatever the rows beside it look like."""
    async with trading("bybit") as (adapter, server):
        server.replies |= {OPEN: listing({}, ROW), CLOSED: listing()}
        assert (await adapter.get_order(an_order())).state is OrderState.ACTIVE


@pytest.mark.parametrize(
    ("venue", "route"), [("binance", "GET /api/v3/order"), ("okx", "GET /api/v5/trade/order")]
)
@pytest.mark.parametrize("data", [[], [{}], [None], {}, None])
async def test_a_success_without_the_order_is_no_absence(venue: str, route: str, data: Any) -> None:
    """These exchanges say "not found" by a code; a reply that holds nothing does not say it."""
    reply = {"code": "0", "msg": "", "data": data} if venue == "okx" else data
    async with canned_server() as server:
        stock(server, venue)
        adapter = adapter_for(venue, server.url)
        await adapter.start()
        server.replies[route] = Canned(json.dumps(reply))
        with pytest.raises(ExchangeError) as raised:
            await adapter.get_order(an_order())
        assert not isinstance(raised.value, OrderNotFoundError)
        assert raised.value.outcome is Outcome.UNKNOWN
        await adapter.close()


#: ccxt's own "not found" about a reply without an error, as most exchanges' lists lead to.
NotFound = type("OrderNotFound", (Exception,), {})


@pytest.mark.parametrize(
    ("reply", "is_proof"),
    [
        ({"data": []}, True),
        ({"status": "ok", "data": [], "meta": {"page": 1}}, True),
        ({"result": {"list": [], "cursor": ""}}, True),
        ({"result": {"open": {}}}, True),
        ([], True),
        (None, True),
        ({"data": [{"id": "1"}]}, False),
        ([{}], False),
        ({"result": {"list": [{"oid": 5}]}}, False),
        ({"result": {"open": {"TX-1": {"vol": "1"}}}}, False),
        ({"result": {"order": {"vol": "1"}}}, False),
    ],
)
def test_any_exchanges_not_found_needs_a_reply_without_rows(reply: Any, is_proof: bool) -> None:
    """Rows that ccxt could not match may be the order."""
    call = Call("get_order", requests=1, status=200, body=json.dumps(reply).encode())
    error = classify(NotFound(), "x", ANY_CODES, call)
    assert isinstance(error, OrderNotFoundError) is is_proof
    assert error.outcome is (Outcome.REFUSED if is_proof else Outcome.UNKNOWN)


async def test_an_unreadable_open_order_or_position_is_not_left_out() -> None:
    """Neither a list of open orders nor one of positions is whole without it."""
    nameless = {name: value for name, value in ROW.items() if name != "symbol"}
    async with trading("bybit") as (adapter, server):
        server.replies[OPEN] = listing(nameless)
        with pytest.raises(ExchangeError) as raised:
            await adapter.get_open_orders()
        assert raised.value.outcome is Outcome.UNKNOWN
        server.replies["GET /v5/position/list"] = listing({"symbol": "BTCUSDT", "side": "Buy"})
        with pytest.raises(ExchangeError) as raised:
            await adapter.get_positions()
        assert raised.value.outcome is Outcome.UNKNOWN


async def test_bybit_lists_open_orders_of_every_settle_currency_and_page() -> None:
    """Perpetuals in USDC as well as in USDT, plain and conditional spot orders, each once."""

    def orders(asked: Any) -> dict[str, Any]:
        coin = asked.query.get("settleCoin", asked.query.get("orderFilter", "plain"))
        symbol = {"USDC": "BTCPERP"}.get(coin, "BTCUSDT")
        page = int(asked.query.get("cursor") or 0)
        rows = [
            {**ROW, "symbol": symbol, "orderId": f"{coin}-{page}-{n}", "orderLinkId": f"{page}-{n}"}
            for n in range(50 if page < 2 else 7)
        ]
        reply = listing(*rows)
        reply["result"]["nextPageCursor"] = str(page + 1) if page < 2 else ""
        return reply

    async with trading("bybit") as (adapter, server):
        server.replies[OPEN] = orders
        reports = await adapter.get_open_orders()
        assert len(reports) == 4 * 107
        markets = {(one.exchange_order_id.partition("-")[0], one.symbol) for one in reports}
        assert markets == {
            ("plain", "BTC/USDT"),
            ("StopOrder", "BTC/USDT"),
            ("USDT", "BTC/USDT:USDT"),
            ("USDC", "BTC/USDC:USDC"),
        }
        server.asked.clear()
        assert len(await adapter.get_open_orders("BTC/USDC:USDC")) == 107
        assert all(asked.query["symbol"] == "BTCPERP" for asked in server.asked)


def test_rows_are_read_and_orders_picked_strictly() -> None:
    """What is no list of objects, or may be the order, is said to be."""
    assert listed_rows({"a": {"b": [{}]}}, "a", "b") == [{}]
    unusable: list[Any] = [None, [], {"a": None}, {"a": {"b": {}}}, {"a": {"b": [1]}}]
    for reply in unusable:
        with pytest.raises(IncompleteReplyError):
            listed_rows(reply, "a", "b")
    mine, other = {"id": "1", "clientOrderId": ID}, {"id": "2", "clientOrderId": "x"}
    assert pick([other, {}, mine], ID) is mine
    assert pick([other], ID) is None
    with pytest.raises(IncompleteReplyError):
        pick([other, {"id": "3"}], ID)


POSITIONS = {
    "binance": ("GET /fapi/v3/positionRisk", []),
    "bybit": ("GET /v5/position/list", listing()),
    "okx": ("GET /api/v5/account/positions", {"code": "0", "msg": "", "data": []}),
}
#: Successes that list nothing, for they are no lists.
NO_LISTS: list[Any] = [
    {},
    {"code": "0", "msg": "", "data": None},
    {"code": "0", "msg": "", "data": {}},
    {"retCode": 0, "result": {}},
    {"retCode": 0, "result": {"list": None}},
    {"retCode": 0, "result": {"list": [7]}},
]


@pytest.mark.parametrize("venue", sorted(POSITIONS))
async def test_only_a_list_says_that_there_is_no_position(venue: str) -> None:
    """Otherwise the book would be taken for wrong."""
    async with canned_server() as server:
        stock(server, venue)
        route, none = POSITIONS[venue]
        server.replies["GET /fapi/v1/leverageBracket"] = Canned("[]")
        adapter = adapter_for(venue, server.url)
        await adapter.start()
        server.replies[route] = Canned(json.dumps(none))
        assert await adapter.get_positions() == []
        for reply in NO_LISTS:
            server.replies[route] = Canned(json.dumps(reply))
            with pytest.raises(ExchangeError) as raised:
                await adapter.get_positions()
            assert raised.value.outcome is Outcome.UNKNOWN, reply
        await adapter.close()
