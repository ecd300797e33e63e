"""Kraken's look-ups: what it tells of orders, trades and prices, many at a time.

By transaction id one request asks for up to 50 orders, or 20 trades
(https://docs.kraken.com/api-reference/account-data/get-orders-info); by our client order id the
lists of open, then of closed orders are asked.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

from worker.config.keys import ExchangeConfig
from worker.domain.market import Ticker
from worker.domain.order import OrderReport, OrderRequest
from worker.domain.plausibility import number
from worker.exchanges.budget.batching import Batcher
from worker.exchanges.budget.classes import RequestClass, look_up_class
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.call import current_call
from worker.exchanges.ccxt.outcomes import IncompleteReplyError
from worker.exchanges.ccxt.paging import MAX_PAGES, Row, too_long
from worker.exchanges.errors import (
    ExchangeError,
    OrderNotFoundError,
    Outcome,
    RateLimitError,
)
from worker.runtime.clock import Clock

#: The most trades one request may ask for.
_QUERIED: Final = 20
#: How many prices one request asks for.
_PRICED: Final = 50
#: The most orders one request may ask for.
_ORDERS_QUERIED: Final = 50
#: Orders of which something is remembered.
_REMEMBERED: Final = 1_000
#: An order's documented states (https://docs.kraken.com/api-reference/account-data/get-open-orders).
_OPEN_STATES: Final = frozenset({"pending", "open"})
_END_STATES: Final = frozenset({"closed", "canceled", "expired"})


class KrakenLookUps(CCXTAdapter):
    """The part of Kraken's adapter that looks orders, trades and prices up.

    Args:
        name: the exchange's name in configuration and in signals.
        config: where it is and who we are.
        clock: this machine's clocks.
    """

    lists_polls: ClassVar[bool] = False  # it answers for many transaction ids at once

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        super().__init__(name, config, clock)
        #: Orders that are polled, and those that are in doubt: these do not wait behind the others.
        self._polled: Batcher[str, Any] = Batcher(self._query_orders, _ORDERS_QUERIED)
        self._doubtful: Batcher[str, Any] = Batcher(self._query_orders, _ORDERS_QUERIED)
        self._fills: Batcher[str, Row] = Batcher(self._query_trades, _QUERIED)
        #: The trade ids of ended orders, by order id.
        self._listed_trades: dict[str, list[str]] = {}

    async def _look_up(self, request: OrderRequest, exchange_order_id: str) -> Mapping[str, Any]:
        """Return the order by Kraken's id where that is known, else by ours from the lists."""
        if exchange_order_id:
            row = await self._row(exchange_order_id)
            if row is not None:
                return self._told(exchange_order_id, row, request)
        asked = {"cl_ord_id": request.client_order_id}
        # Both lists are paid for together: with little budget the second never had its turn.
        call = current_call.get()
        if call is not None:
            await self._enter("private", "POST", "OpenOrders", {}, 1.0, times=2)
            call.prepaid = 2
        reply = await self._ccxt.privatePostOpenOrders(asked)
        found = self._ours_among(_listed(reply, "open"), request)
        if found is None:
            reply = await self._ccxt.privatePostClosedOrders(asked | {"trades": "true"})
            rows = _listed(reply, "closed")
            found = self._ours_among(rows, request)
            count = _mapping(reply.get("result")).get("count")
            if found is None and rows and number(count, "count") > len(rows):
                raise IncompleteReplyError("there are more closed orders than were listed")
        if found is None:
            raise OrderNotFoundError(
                f"{self.name} get_order: no open or closed order has this client id",
                outcome=Outcome.REFUSED,
                code="not_listed",
            )
        return found

    def _ours_among(
        self, rows: Mapping[str, Any], request: OrderRequest
    ) -> Mapping[str, Any] | None:
        """Return our order among listed ones; None if every one is clearly another.

        Raises:
            IncompleteReplyError: a row cannot be read, or does not say whose order it is.
        """
        doubtful = ""
        for order_id, row in rows.items():
            client_id = row.get("cl_ord_id") if isinstance(row, Mapping) else None
            if client_id == request.client_order_id:
                return self._told(order_id, row, request)
            if not client_id or not isinstance(client_id, str):
                doubtful = order_id
        if doubtful:
            raise IncompleteReplyError(
                f"the order {doubtful} is listed for our client id and does not repeat it"
            )
        return None

    def _told(self, order_id: str, row: Any, request: OrderRequest) -> Mapping[str, Any]:
        """Return one listed order as ccxt reads it, under the client id it was asked for by.

        Raises:
            IncompleteReplyError: the row does not say how the order stands.
        """
        state = row.get("status") if isinstance(row, Mapping) else None
        if state not in _OPEN_STATES | _END_STATES or not {"vol", "vol_exec"} <= row.keys():
            raise IncompleteReplyError(f"the order {order_id} is listed without its state")
        trades = row.get("trades")
        if state in _END_STATES and isinstance(trades, list) and trades:
            remember(self._listed_trades, order_id, [str(trade) for trade in trades])
        market = self._ccxt.market(request.symbol)
        order: dict[str, Any] = self._ccxt.parse_order({**row, "id": order_id}, market)
        order["clientOrderId"] = row.get("cl_ord_id") or request.client_order_id
        order["rejectReason"] = row.get("reason")
        return order

    async def _open_orders(self, symbol: str | None) -> AsyncIterator[Mapping[str, Any]]:
        rows = _listed(await self._ccxt.privatePostOpenOrders({}), "open")
        for order_id, row in rows.items():
            if not _mapping(_mapping(row).get("descr")).get("pair"):
                raise IncompleteReplyError(f"the order {order_id} is listed without its pair")
            order = self._ccxt.parse_order({**row, "id": order_id})
            if symbol is None or order.get("symbol") == symbol:
                yield order

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Return prices as :meth:`get_ticker` does, many with one call: one a second is allowed."""
        wanted = [symbol for symbol in symbols if symbol in self._infos]
        tickers: dict[str, Ticker] = {}
        for first in range(0, len(wanted), _PRICED):
            tickers |= await self._prices(wanted[first : first + _PRICED])
        return tickers

    async def _prices(self, symbols: list[str]) -> dict[str, Ticker]:
        if len(symbols) == 1:
            return await super().get_tickers(symbols)
        try:
            with self._boundary("get_ticker", RequestClass.MARKET):
                markets = [self._ccxt.market(symbol) for symbol in symbols]
                asked = {"pair": ",".join(market["id"] for market in markets)}
                rows = _mapping((await self._ccxt.publicGetTicker(asked)).get("result"))
                return {
                    symbol: self._price(self._ccxt.parse_ticker(rows[market["id"]], market), symbol)
                    for symbol, market in zip(symbols, markets, strict=True)
                }
        except RateLimitError:
            raise
        except ExchangeError:  # a pair that is unknown, or has no price, fails all of them
            return await super().get_tickers(symbols)

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        ids = self._listed_trades.pop(report.exchange_order_id, None)
        if ids is None:
            ids = await self._trade_ids(report)
        if len(ids) > MAX_PAGES * _QUERIED:
            raise too_long(f"{self.name} get_trades", _QUERIED)
        market = self._ccxt.market(request.symbol)
        # Not by ccxt's ``fetch_order_trades``: after batches that are all full it asks about no
        # trade at all, which Kraken refuses.
        found = await asyncio.gather(*(self._fills.get(one) for one in ids))
        rows: Iterable[Row] = self._ccxt.parse_trades([row for row in found if row], market)
        return rows

    async def _trade_ids(self, report: OrderReport) -> list[str]:
        row = await self._row(report.exchange_order_id)
        if row is None:
            raise IncompleteReplyError("the reply does not have the order")
        return [str(trade) for trade in _mapping(row).get("trades") or ()]

    async def _row(self, order_id: str) -> Any:
        """Return what Kraken tells of an order; None if it does not know the transaction id."""
        is_urgent = look_up_class() <= RequestClass.DOUBT
        return await (self._doubtful if is_urgent else self._polled).get(order_id)

    async def _query_orders(self, take: Callable[[], list[str]]) -> Mapping[str, Any]:
        """Look orders up by transaction id: one call for many, which names their trades, too."""
        with self._boundary("get_order", look_up_class()) as call:
            await self._enter("private", "POST", "QueryOrders", {}, 1.0)
            call.prepaid = 1
            asked = {"txid": ",".join(take()), "trades": "true"}
            return _mapping((await self._ccxt.privatePostQueryOrders(asked)).get("result"))

    async def _query_trades(self, take: Callable[[], list[str]]) -> Mapping[str, Row]:
        with self._boundary("get_trades", RequestClass.POLL) as call:
            await self._enter("private", "POST", "QueryTrades", {}, 1.0)
            call.prepaid = 1
            asked = {"txid": ",".join(take())}
            trades = _mapping((await self._ccxt.privatePostQueryTrades(asked)).get("result"))
            return {trade_id: {**trade, "id": trade_id} for trade_id, trade in trades.items()}


def remember(kept: dict[str, Any], key: str, value: Any) -> None:
    """Keep ``value``, and forget the oldest of too many."""
    while len(kept) >= _REMEMBERED:
        del kept[next(iter(kept))]
    kept[key] = value


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return ``value`` if it is an object.

    Raises:
        IncompleteReplyError: it is none.
    """
    if not isinstance(value, Mapping):
        raise IncompleteReplyError("the reply has not the form that was expected")
    return value


def _listed(reply: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _mapping(_mapping(reply.get("result")).get(name))
