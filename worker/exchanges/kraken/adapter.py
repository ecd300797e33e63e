"""Kraken spot.

A create request carries ``deadline``, after which the matching engine refuses it, between 2 and
60 s ahead (https://docs.kraken.com/api-reference/trading/add-order). Every private request needs a
nonce above the key's last one, so they go out one by one (``turns.py``), and one worker at a time
uses a key that has no nonce window
(https://support.kraken.com/articles/360001148023-what-is-a-nonce-window-).
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderReport, OrderRequest
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.outcomes import IncompleteReplyError, current_call
from worker.exchanges.ccxt.paging import MAX_PAGES, Row, too_long
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, Outcome
from worker.exchanges.kraken.client import SEATS, Nonces, in_turn
from worker.exchanges.kraken.codes import KrakenCodes
from worker.exchanges.kraken.turns import ARRIVED_S, RequestTurns
from worker.exchanges.ports import Resend, SendWindow
from worker.runtime.clock import Clock, rfc3339
from worker.runtime.errors import ConfigError

MIN_DEADLINE_MS: Final = 2_000
#: Added to the shortest deadline for the request's travel.
_TRAVEL_MS: Final = 500
#: The most trades one request may ask for.
_QUERIED: Final = 20
#: Ended orders whose trade ids are remembered until their trades are asked for.
_REMEMBERED: Final = 1_000
#: An order's documented states (https://docs.kraken.com/api-reference/account-data/get-open-orders).
_OPEN_STATES: Final = frozenset({"pending", "open"})
_END_STATES: Final = frozenset({"closed", "canceled", "expired"})
#: A pair's modes in which it takes no order of ours, in words
#: (https://docs.kraken.com/api-reference/market-data/get-tradable-asset-pairs).
_CLOSED_MODES: Final = {
    "cancel_only": "Kraken has the pair in cancel_only mode: orders can only be cancelled",
    "post_only": "Kraken has the pair in post_only mode: only post-only orders are taken",
    "reduce_only": "Kraken has the pair in reduce_only mode: only margin positions can be reduced",
}


#: What one worker need not mind, and several must.
_ONE_WORKER: Final = (
    "exchanges.{0}.nonce_window is 0, so one worker at a time uses this API key: for several "
    "workers give each a key of its own, or give the key a nonce window at Kraken (settings of the "
    "API key) and state it in exchanges.{0}.nonce_window"
)


class KrakenCCXTAdapter(CCXTAdapter):
    """Kraken; look-ups go through the lists of open, then of closed orders."""

    resend = Resend.AFTER_DEADLINE
    _codes = KrakenCodes()
    clock_grain_ms: ClassVar[float] = 1_000.0  # the time endpoint has whole seconds

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        if MarketKind.LINEAR in config.market_types:
            raise ConfigError(f"exchanges.{name}.market_types", "kraken here means spot only")
        shortest = MIN_DEADLINE_MS + int(self.clock_grain_ms) + _TRAVEL_MS
        if config.recv_window_ms < shortest:
            config = msgspec.structs.replace(config, recv_window_ms=shortest)
        super().__init__(name, config, clock)
        has_window = config.nonce_window > 0
        self.workers_per_key = SEATS if has_window else 1
        self._turns = RequestTurns(clock, 0.0 if has_window else ARRIVED_S)
        self._nonces = Nonces(self._exchange_time.now_ms, self.workers_per_key)
        if config.api_key and not has_window:
            self.advice = (_ONE_WORKER.format(name),)
        #: Why this worker must not use the key now; empty if it may.
        self._key_refused = ""
        #: The trade ids of ended orders, by order id.
        self._listed_trades: dict[str, list[str]] = {}

    def _ccxt_class(self) -> type[Any]:
        return in_turn(super()._ccxt_class(), self._turns, self._nonces, self._check_private)

    # ---- the key ----------------------------------------------------------------------------

    @property
    def obstacle(self) -> str:
        """Why no order can be sent at this moment, in a sentence; empty if orders can be sent."""
        return self._key_refused

    def take_seat(self, seat: int) -> None:
        """Use the API key, under the number ``seat`` among the workers that share it."""
        self._nonces.seat = seat
        self._key_refused = ""

    def lose_seat(self, reason: str) -> None:
        """Send nothing more with the API key, for ``reason``, until there is a seat again."""
        self._key_refused = reason

    def _check_private(self) -> None:
        """Check, just before a private request is signed, that it may still be sent.

        Raises:
            ExchangeError: it may not; nothing was sent.
        """
        call = current_call.get()
        operation = call.operation if call is not None else "request"
        if self._key_refused:
            raise ExchangeError(
                f"{self.name} {operation}: {self._key_refused}",
                outcome=Outcome.NOT_SENT,
                code="api_key_in_use",
            )
        expires = call.expires_mono_ms if call is not None else None
        if expires is not None and self._clock.monotonic_ms() >= expires:
            raise ExchangeError(
                f"{self.name} {operation}: the send window is over",
                outcome=Outcome.NOT_SENT,
                code="window_over",
            )

    def take_turn(self, within_ms: float) -> float:
        """Take this process's next turn: by ``max_orders_per_second``, and in the line of orders.

        Waiting in line happens here, before the window is fixed and the ledger asked, as far as
        its length can be known.
        """
        wait_ms = super().take_turn(within_ms)
        return wait_ms if wait_ms > within_ms else max(wait_ms, self._turns.reserve(within_ms))

    # ---- markets ----------------------------------------------------------------------------

    def _restrict(self, info: SymbolInfo, listed: Mapping[str, Any]) -> SymbolInfo:
        mode = str(listed.get("status") or "")
        if mode == "limit_only":
            reason = "Kraken has the pair in limit_only mode"
            return msgspec.structs.replace(info, active=True, limit_only=True, restriction=reason)
        reason = _CLOSED_MODES.get(mode, "")
        if mode and mode != "online" and not reason:
            reason = f"Kraken has the pair in {mode} mode"
        return msgspec.structs.replace(info, active=False, restriction=reason) if reason else info

    # ---- orders -----------------------------------------------------------------------------

    def _deadline_params(self, window: SendWindow) -> dict[str, Any]:
        return {"deadline": rfc3339(window.timestamp_ms + window.valid_ms)}

    async def _look_up(self, request: OrderRequest, exchange_order_id: str) -> Mapping[str, Any]:
        """Return the order by Kraken's id where that is known, else by ours from the lists."""
        if exchange_order_id:
            query = {"txid": exchange_order_id, "trades": "true"}
            rows = _mapping((await self._ccxt.privatePostQueryOrders(query)).get("result"))
            if exchange_order_id in rows:
                return self._told(exchange_order_id, rows[exchange_order_id], request)
        asked = {"cl_ord_id": request.client_order_id}
        reply = await self._ccxt.privatePostOpenOrders(asked)
        found = self._ours_among(_listed(reply, "open"), request)
        if found is None:
            reply = await self._ccxt.privatePostClosedOrders(asked | {"trades": "true"})
            rows = _listed(reply, "closed")
            found = self._ours_among(rows, request)
            count = _mapping(reply.get("result")).get("count")
            if found is None and rows and str(count or 0).isdigit() and int(count or 0) > len(rows):
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
            while len(self._listed_trades) >= _REMEMBERED:
                del self._listed_trades[next(iter(self._listed_trades))]
            self._listed_trades[order_id] = [str(trade) for trade in trades]
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

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        ids = self._listed_trades.pop(report.exchange_order_id, None)
        if ids is None:
            ids = await self._trade_ids(report)
        if len(ids) > MAX_PAGES * _QUERIED:
            raise too_long(f"{self.name} get_trades", _QUERIED)
        market = self._ccxt.market(request.symbol)
        parsed: list[Row] = []
        # Not by ccxt's ``fetch_order_trades``: after batches that are all full it asks about no
        # trade at all, which Kraken refuses.
        for first in range(0, len(ids), _QUERIED):
            asked = {"txid": ",".join(ids[first : first + _QUERIED])}
            trades = (await self._ccxt.privatePostQueryTrades(asked))["result"]
            rows = [{**trade, "id": trade_id} for trade_id, trade in trades.items()]
            parsed += self._ccxt.parse_trades(rows, market)
        return parsed

    async def _trade_ids(self, report: OrderReport) -> list[str]:
        order = await self._ccxt.fetch_order(report.exchange_order_id, report.symbol)
        return [str(trade) for trade in (order.get("info") or {}).get("trades") or ()]


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


ADAPTER: Final = KrakenCCXTAdapter
