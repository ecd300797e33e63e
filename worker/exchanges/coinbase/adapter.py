"""Coinbase Advanced Trade, spot.

There are no deadlines, but an order's ``client_order_id`` makes creating it idempotent: a repeat
returns the first order (https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api).
Orders cannot be looked up by that id, only listed; and market orders cannot be stops.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderReport, OrderRequest, Side
from worker.domain.signal import OrderType
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.call import current_call
from worker.exchanges.ccxt.outcomes import IncompleteReplyError
from worker.exchanges.ccxt.paging import MAX_PAGES, Row, too_long
from worker.exchanges.ccxt.rounding import WireOrder
from worker.exchanges.coinbase import secret as api_secret
from worker.exchanges.coinbase.account import key_findings
from worker.exchanges.coinbase.codes import CoinbaseCodes
from worker.exchanges.coinbase.limits import CoinbaseLimits
from worker.exchanges.errors import CredentialsError, OrderNotFoundError, Outcome
from worker.exchanges.findings import AccountFinding
from worker.exchanges.ports import Resend
from worker.runtime.clock import Clock
from worker.runtime.errors import ConfigError
from worker.runtime.logger import get_logger
from worker.runtime.secret import Secret

#: Orders listed at a time.
_LISTED: Final = 250
#: Fills requested at a time.
_FILLS: Final = 100
#: ccxt's word for each state of an order; it reads some as others, or not at all
#: (https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/get-order).
_STATES: Final = {
    "PENDING": "open",
    "OPEN": "open",
    "QUEUED": "open",
    "CANCEL_QUEUED": "open",
    "EDIT_QUEUED": "open",
    "FILLED": "closed",
    "CANCELLED": "canceled",
    "EXPIRED": "expired",
    "FAILED": "rejected",
}
#: A reject reason that gives none.
_NO_REASON: Final = "REJECT_REASON_UNSPECIFIED"
#: A product's flags with which it takes no order of ours, in words, and those with which it takes
#: only limit orders (https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/
#: products/list-products).
_CLOSING_FLAGS: Final = {
    "is_disabled": "Coinbase has disabled the product",
    "trading_disabled": "Coinbase has disabled trading of the product",
    "view_only": "Coinbase has the product as view_only: it can only be looked at",
    "cancel_only": "Coinbase has the product as cancel_only: orders can only be cancelled",
    "post_only": "Coinbase has the product as post_only: only post-only orders are taken",
}
_LIMITING_FLAGS: Final = {
    "limit_only": "Coinbase has the product as limit_only",
    "auction_mode": "Coinbase has the product in auction_mode",
}

_log = get_logger()


class UnsuccessfulReplyError(Exception):
    """A complete reply says no where the library does not look."""


class CoinbaseCCXTAdapter(CCXTAdapter):
    """Coinbase; cancels by exchange id only."""

    resend = Resend.IDEMPOTENT
    _codes = CoinbaseCodes()
    _balances_at = (("accounts",),)
    _limits = CoinbaseLimits

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        if MarketKind.LINEAR in config.market_types:
            raise ConfigError(f"exchanges.{name}.market_types", "coinbase here means spot only")
        api_key, secret = config.api_key.reveal(), api_secret.tidied(config.secret.reveal())
        super().__init__(name, msgspec.structs.replace(config, secret=Secret(secret)), clock)
        if reason := api_secret.advice(api_key, secret):
            self.advice = (*self.advice, f"exchanges.{name}.secret: {reason}")

    async def start(self) -> None:
        """Check the secret, load markets, measure the clock, check the credentials.

        Raises:
            ConfigError: nothing can be signed with the secret.
        """
        config = self._config
        if config.api_key and (
            fault := api_secret.fault(config.api_key.reveal(), config.secret.reveal())
        ):
            raise ConfigError(f"exchanges.{self.name}.secret", fault)
        for advice in self.advice:
            _log.warning("credentials_doubtful", exchange=self.name, advice=advice)
        try:
            await super().start()
        except CredentialsError as error:
            if not self.advice:
                raise
            text = "; ".join((str(error), *self.advice))
            raise CredentialsError(text, outcome=error.outcome, code=error.code) from None

    def _options(self) -> dict[str, Any]:
        return {"fetchBalance": "v3PrivateGetBrokerageAccounts"}

    async def _fetch_time(self) -> Any:
        # ccxt reads the whole seconds beside it.
        return (await self._ccxt.v3PublicGetBrokerageTime()).get("epochMillis")

    def _restrict(self, info: SymbolInfo, listed: Mapping[str, Any]) -> SymbolInfo:
        for flag, reason in _CLOSING_FLAGS.items():
            if _is_set(listed.get(flag)):
                return msgspec.structs.replace(info, active=False, restriction=reason)
        status = str(listed.get("status") or "online")
        if status != "online":
            reason = f"Coinbase has the product as {status}"
            return msgspec.structs.replace(info, active=False, restriction=reason)
        for flag, reason in _LIMITING_FLAGS.items():
            if _is_set(listed.get(flag)):
                return msgspec.structs.replace(info, limit_only=True, restriction=reason)
        return info

    # ---- orders -----------------------------------------------------------------------------

    def _order_params(self, request: OrderRequest, info: SymbolInfo) -> dict[str, Any]:
        params = super()._order_params(request, info)
        # ccxt drops ``clientOrderId`` here and invents an id.
        params["client_order_id"] = params.pop("clientOrderId")
        return params

    async def _create(
        self, request: OrderRequest, order: WireOrder, params: dict[str, Any]
    ) -> Mapping[str, Any]:
        if request.order_type is OrderType.MARKET and request.side is Side.BUY:
            # ccxt would spend a quote amount; ours is a base amount.
            params |= {
                "createMarketBuyOrderRequiresPrice": False,
                "order_configuration": {"market_market_ioc": {"base_size": order.amount}},
            }
        reply = await super()._create(request, order, params)
        call = current_call.get()
        if not reply.get("id") and call is not None and self._codes.read(call.body or b"")[0]:
            # ccxt takes ``success: false`` without an ``error_response`` for an empty order.
            raise UnsuccessfulReplyError
        return reply

    async def _look_up(self, request: OrderRequest, exchange_order_id: str) -> Mapping[str, Any]:
        if exchange_order_id:
            return _told(await self._ccxt.fetch_order(exchange_order_id, request.symbol))
        market = self._ccxt.market(request.symbol)
        doubtful = ""
        async for row in self._listed({"product_ids": [market["id"]]}):
            client_id = row.get("client_order_id")
            if client_id == request.client_order_id:
                return _told(self._ccxt.parse_order(row, market))
            if not client_id and row.get("product_id") in {None, "", market["id"]}:
                doubtful = str(row.get("order_id") or "without an id")
        if doubtful:
            raise IncompleteReplyError(f"the order {doubtful} is listed without a client id")
        raise OrderNotFoundError(
            f"{self.name} get_order: none of the listed orders has this client id",
            outcome=Outcome.REFUSED,
            code="not_listed",
        )

    async def _open_orders(self, symbol: str | None) -> AsyncIterator[Mapping[str, Any]]:
        query: dict[str, Any] = {"order_status": ["OPEN"]}
        if symbol is not None:
            query["product_ids"] = [self._ccxt.market(symbol)["id"]]
        async for row in self._listed(query):
            if not row.get("product_id"):
                raise IncompleteReplyError("an order is listed without its product")
            yield _told(self._ccxt.parse_order(row))

    def _listed(self, query: dict[str, Any]) -> AsyncIterator[Row]:
        """Return the orders that match ``query``, newest first."""
        ask = self._ccxt.v3PrivateGetBrokerageOrdersHistoricalBatch
        return self._rows("orders", ask, query | {"limit": _LISTED})

    async def _cancel(self, request: OrderRequest, exchange_order_id: str) -> None:
        if not exchange_order_id:
            exchange_order_id = str((await self._look_up(request, "")).get("id") or "")
        await self._ccxt.cancel_order(exchange_order_id, request.symbol)

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        market = self._ccxt.market(request.symbol)
        # Not ``order_id``: that is ignored, and everything the account ever traded is listed.
        query = {"order_ids": report.exchange_order_id, "limit": _FILLS}
        ask = self._ccxt.v3PrivateGetBrokerageOrdersHistoricalFills
        rows = [row async for row in self._rows("fills", ask, query)]
        trades: Iterable[Row] = self._ccxt.parse_trades(rows, market)
        return trades

    async def _read_account(self) -> AsyncIterator[AccountFinding]:
        ask = self._ccxt.v3PrivateGetBrokerageKeyPermissions
        reply = await self._setting("permissions", ask)
        for finding in [reply] if isinstance(reply, AccountFinding) else key_findings(reply):
            yield finding

    async def _rows(
        self,
        name: str,
        ask: Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]],
        query: dict[str, Any],
    ) -> AsyncIterator[Row]:
        """Read all pages of a list, however many rows each has.

        Args:
            name: the field of a reply that has the rows.
            ask: requests one page.
            query: what is asked for.

        Raises:
            IncompleteReplyError: a page cannot be read, or the next one cannot be asked for.
            ExchangeError: there are more than ``MAX_PAGES`` pages.
        """
        seen: set[str] = set()
        page = query
        for _ in range(MAX_PAGES):
            reply = await ask(page)
            rows = reply.get(name)
            if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
                raise IncompleteReplyError(f"the reply holds no list of {name}")
            for row in rows:
                yield row
            cursor, has_next = str(reply.get("cursor") or ""), reply.get("has_next")
            if has_next is None:  # fills have only a cursor, which may repeat itself at the end
                if not rows or not cursor or cursor in seen:
                    return
            elif not _is_set(has_next):
                return
            elif not cursor or cursor in seen:
                raise IncompleteReplyError(f"there are more {name}, and no cursor leads to them")
            seen.add(cursor)
            page = query | {"cursor": cursor}
        raise too_long(f"{self.name} {name}", int(query["limit"]))


def _told(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an order as ccxt reads it with its state and its reason as Coinbase tells them.

    Raises:
        IncompleteReplyError: the reply does not say the state.
    """
    row = order.get("info") or {}
    state = str(row.get("status") or "")
    if state not in _STATES:
        raise IncompleteReplyError(f"the order's state is {state or 'missing'}")
    told = [str(row.get(name) or "") for name in ("reject_reason", "reject_message")]
    if state != "FAILED" and not any(text not in {"", _NO_REASON} for text in told):
        told.append(str(row.get("cancel_message") or ""))
    reasons = dict.fromkeys(text for text in told if text not in {"", _NO_REASON})
    return {**order, "status": _STATES[state], "rejectReason": ": ".join(reasons)}


def _is_set(flag: Any) -> bool:
    return flag in (True, "true", "True")


ADAPTER: Final = CoinbaseCCXTAdapter
