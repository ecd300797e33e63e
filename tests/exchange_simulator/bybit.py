"""Bybit v5 with a unified account: spot, and perpetuals settled in USDT.

Documents followed: https://bybit-exchange.github.io/docs/v5/ with ``guide`` (signatures,
``recv_window``), ``market/instrument``, ``market/tickers``, ``order/create-order``,
``order/cancel-order``, ``order/open-order``, ``order/order-list``, ``order/execution``,
``position``, ``account/wallet-balance``, ``rate-limit``, ``enum`` and ``error``.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from tests.exchange_simulator.allowances import Allowance, OverLimitError, Windowed
from tests.exchange_simulator.bybit_rows import execution_row, instrument_row, order_row, ticker_row
from tests.exchange_simulator.dialect import Asked, Dialect, Endpoint, page
from tests.exchange_simulator.errors import Reply
from tests.exchange_simulator.markets import Market, Venue
from tests.exchange_simulator.orders import ZERO, Order, plain
from tests.exchange_simulator.refusals import RefusedError

_AHEAD_MS: Final = 1_000


class Bybit(Dialect):
    """Bybit."""

    name = "bybit"
    venues = ("spot", "futures")
    words: ClassVar = {
        "unknown_symbol": ("10001", "params error: symbol invalid", 200),
        "unknown_symbol@spot": ("170121", "Invalid symbol.", 200),
        "malformed": ("10001", "Request parameter error.", 200),
        "insufficient@spot": ("170131", "Insufficient balance.", 200),
        "insufficient": ("110007", "ab not enough for new order", 200),
        "duplicate@spot": ("170141", "Duplicate clientOrderId", 200),
        "duplicate": ("110072", "OrderLinkedID is duplicate", 200),
        "too_small@spot": ("170140", "Order value exceeded lower limit.", 200),
        "too_small": ("110094", "Order does not meet minimum order value 5USDT", 200),
        "quantity@spot": ("170136", "Order quantity lower than the minimum.", 200),
        "quantity": ("10001", "Qty invalid", 200),
        "price@spot": ("170134", "Order price has too many decimals.", 200),
        "price": ("10001", "Price invalid", 200),
        "triggered": ("110093", "expect Falling, but trigger_price > current", 200),
        "reduce_only": (
            "110017",
            "current position is zero, cannot fix reduce-only order qty",
            200,
        ),
        "post_only": ("170218", "The LIMIT-MAKER order is rejected due to invalid price.", 200),
        "closed@spot": ("170150", "Trading is disabled for this symbol.", 200),
        "closed": ("110074", "This contract is not live", 200),
        "cancel_not_found@spot": ("170213", "Order does not exist.", 200),
        "cancel_not_found": ("110001", "order not exists or too late to cancel", 200),
        "not_found": ("110001", "order not exists or too late to cancel", 200),
        "late": (
            "10002",
            "invalid request, please check your server timestamp or recv_window param.",
            200,
        ),
        "throttled": ("10006", "Too many visits. Exceeded the API Rate Limit.", 200),
        "throttled_until": ("10006", "Too many visits. Exceeded the API Rate Limit.", 200),
        "outage": ("10016", "Server error.", 200),
    }

    def symbol_of(self, base: str, quote: str, venue: Venue) -> str:
        """``BTCUSDT`` on both venues."""
        return f"{base}{quote}"

    def oid(self, order: Order) -> str:
        """Digits on spot, a UUID on perpetuals."""
        if order.market.venue == "spot":
            return str(order.order_id)
        return f"b10d0000-0000-4000-8000-{order.order_id:012d}"

    def named(self, asked: Asked) -> tuple[str, str, Venue]:
        """``symbol``, ``orderLinkId`` and ``category``; executions name an order by its id."""
        symbol, client_id = asked.text("symbol"), asked.text("orderLinkId")
        if not client_id and (order := self.find(oid=asked.text("orderId") or "-", hidden=True)):
            client_id = order.client_id
        return symbol, client_id, _venue(asked.text("category"))

    def authenticate(self, asked: Asked) -> None:
        """HMAC-SHA256 over timestamp, key, window and the query or body."""
        head = asked.given
        stamp, window = head.get("X-BAPI-TIMESTAMP", ""), head.get("X-BAPI-RECV-WINDOW", "5000")
        if head.get("X-BAPI-API-KEY") != self.settings.api_key:
            raise RefusedError("10003", "API key is invalid.")
        signed = f"{stamp}{self.settings.api_key}{window}{asked.query or asked.body}"
        expected = hmac.new(self.settings.secret.encode(), signed.encode(), hashlib.sha256)
        if not hmac.compare_digest(expected.hexdigest(), head.get("X-BAPI-SIGN", "")):
            raise RefusedError(
                "10004", "Error sign, please check your signature generation algorithm."
            )
        if int(stamp) >= self.now_ms() + _AHEAD_MS:
            raise self.refusal("late", "spot")
        asked.deadline_ms = int(stamp) + int(window)

    def _allowances(self) -> Mapping[str, Allowance]:
        return {
            "uid": Windowed("uid", 20, 1_000),
            "ip": Windowed("ip", 600, 5_000),
        }

    def charge(self, asked: Asked) -> None:
        """600 requests in five seconds of an IP; 20 a second of a user on each trade endpoint."""
        self.allowances["ip"].spend("ip", 1, asked.arrived_ms)
        if asked.method == "POST":
            uid = self.allowances["uid"]
            subject = f"{asked.path} {asked.text('category')}"
            left = 20 - uid.used(subject, asked.arrived_ms) - 1
            asked.headers |= {
                "X-Bapi-Limit": "20",
                "X-Bapi-Limit-Status": f"{max(left, 0):.0f}",
                "X-Bapi-Limit-Reset-Timestamp": str((asked.arrived_ms // 1_000 + 1) * 1_000),
            }
            uid.spend(subject, 1, asked.arrived_ms)

    def throttled(self, over: OverLimitError) -> RefusedError:
        """403 for the IP, 10006 for the user."""
        if over.limit == "ip":
            return RefusedError("403", "access too frequent", 403)
        return self.refusal("throttled", "spot")

    def tell_time(self, refused: RefusedError, until_ms: int) -> None:
        """By the header with the end of the present window."""
        refused.headers = {
            "X-Bapi-Limit": "20",
            "X-Bapi-Limit-Status": "0",
            "X-Bapi-Limit-Reset-Timestamp": str(until_ms),
        }

    def error_reply(self, refused: RefusedError) -> Reply:
        """Any refusal is HTTP 200 with ``retCode``."""
        body = {
            "retCode": int(refused.code),
            "retMsg": refused.msg,
            "result": {},
            "retExtInfo": {},
            "time": self.now_ms(),
        }
        return Reply(refused.status, msgspec.json.encode(body), headers=refused.headers)

    # ---- endpoints ----------------------------------------------------------------------------

    def ok(self, result: Any) -> Any:
        """Wrap a result."""
        return {
            "retCode": 0,
            "retMsg": "OK",
            "result": result,
            "retExtInfo": {},
            "time": self.now_ms(),
        }

    def time(self, asked: Asked) -> Any:
        """GET /v5/market/time."""
        now = self.now_ms()
        return self.ok({"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)})

    def instruments(self, asked: Asked) -> Any:
        """GET /v5/market/instruments-info."""
        category = asked.text("category")
        rows = [] if asked.text("status") else [instrument_row(m) for m in self._of(category)]
        return self.ok({"category": category, "list": rows, "nextPageCursor": ""})

    def _of(self, category: str) -> list[Market]:
        return self.listed(_venue(category))

    def tickers(self, asked: Asked) -> Any:
        """GET /v5/market/tickers."""
        category, symbol = asked.text("category"), asked.text("symbol")
        rows = [ticker_row(m) for m in self._of(category) if symbol in {"", m.symbol}]
        if symbol and not rows:
            raise self.refusal("unknown_symbol", _venue(category))
        return self.ok({"category": category, "list": rows})

    def key_info(self, asked: Asked) -> Any:
        """GET /v5/user/query-api."""
        trade = ["Order", "Position"]
        wallet = ["Withdraw"] if self.engine.key_withdraws else []
        return self.ok(
            {
                "readOnly": 0,
                "permissions": {"ContractTrade": trade, "Spot": ["SpotTrade"], "Wallet": wallet},
                "ips": ["203.0.113.7"] if self.engine.key_is_bound else ["*"],
                "type": 1,
                "unified": 0,
                "uta": 1,
                "userID": 1,
            }
        )

    def account_info(self, asked: Asked) -> Any:
        """GET /v5/account/info."""
        return self.ok({"unifiedMarginStatus": 6, "marginMode": "REGULAR_MARGIN"})

    def wallet(self, asked: Asked) -> Any:
        """GET /v5/account/wallet-balance."""
        futures, coins = self.engine.futures, []
        held = {asset: one.free + one.locked for asset, one in self.engine.spot.balances.items()}
        for coin, change in futures.coins.items():
            held[coin] = held.get(coin, ZERO) + change
        for asset, amount in held.items():
            wallet = asset == futures.asset
            total = amount + (futures.wallet if wallet else ZERO)
            coins.append(
                {
                    "coin": asset,
                    "equity": plain(total),
                    "walletBalance": plain(total),
                    "locked": plain(self.engine.spot.of(asset).locked),
                    "totalPositionIM": plain(futures.position_margin if wallet else ZERO),
                    "totalOrderIM": plain(futures.order_margin if wallet else ZERO),
                    "borrowAmount": "0",
                    "accruedInterest": "0",
                }
            )
        return self.ok({"list": [{"accountType": "UNIFIED", "coin": coins}]})

    def create(self, asked: Asked) -> Any:
        """POST /v5/order/create: the reply holds ids only."""
        venue = _venue(asked.text("category"))
        market = self.engine.market(venue, asked.text("symbol"))
        self._refuse_duplicate(asked)
        if venue == "futures" and self.engine.hedge_mode == (asked.text("positionIdx", "0") == "0"):
            raise RefusedError("10001", "position idx not match position mode")
        limited = asked.text("orderType") == "Limit"
        trigger, quantity = asked.decimal("triggerPrice"), asked.decimal("qty")
        kind = "LIMIT" if limited else "MARKET"
        tif = asked.text("timeInForce", "GTC")
        if trigger:
            kind = _conditional(venue, asked, limited=limited)
        elif tif == "PostOnly":
            kind, tif = ("LIMIT_MAKER", "GTC") if venue == "spot" else ("LIMIT", "GTX")
        by_quote = asked.text("marketUnit") == "quoteCoin"
        by_quote |= (
            venue == "spot"
            and kind == "MARKET"
            and asked.text("side") == "Buy"
            and not asked.text("marketUnit")
        )  # the documented default of a spot market buy
        order = self.order(
            asked,
            market,
            asked.text("side"),
            type=kind,
            tif=tif,
            quantity=ZERO if by_quote else quantity,
            quote_quantity=quantity if by_quote else ZERO,
            price=asked.decimal("price") if limited else ZERO,
            stop_price=trigger,
            reduce_only=asked.flag("reduceOnly"),
        )
        order.extra = {"marketUnit": asked.text("marketUnit")}
        self.submit(order)
        return self.ok({"orderId": self.oid(order), "orderLinkId": order.client_id})

    def _refuse_duplicate(self, asked: Asked) -> None:
        """``orderLinkId`` is always unique."""
        venue, client_id = _venue(asked.text("category")), asked.text("orderLinkId")
        if client_id and any(
            order.client_id == client_id and order.market.venue == venue
            for order in self.engine.accepted
        ):
            raise self.refusal("duplicate", venue)

    def cancel(self, asked: Asked) -> Any:
        """POST /v5/order/cancel."""
        venue = _venue(asked.text("category"))
        order = self.find(
            oid=asked.text("orderId"), client_id=asked.text("orderLinkId"), hidden=True
        )
        if order is None or order.market.venue != venue or not order.is_open:
            raise self.refusal("cancel_not_found", venue)
        self.engine.cancel(order, asked.conditions.now_ms)
        return self.ok({"orderId": self.oid(order), "orderLinkId": order.client_id})

    def _listed_orders(self, asked: Asked) -> list[Order]:
        found = [
            order
            for order in self.visible(venue=_venue(asked.text("category")))
            if asked.text("symbol") in {"", order.market.symbol}
            and asked.text("orderId") in {"", self.oid(order)}
            and asked.text("orderLinkId") in {"", order.client_id}
        ]
        return found[::-1]

    def open_orders(self, asked: Asked) -> Any:
        """GET /v5/order/realtime: open orders; on spot, untriggered ones by ``orderFilter``."""
        stops = asked.text("orderFilter") == "StopOrder"
        spot = asked.text("category") == "spot"
        rows = [
            order_row(self, order)
            for order in self._listed_orders(asked)
            if order.is_open and (not spot or stops == (not order.working))
        ]
        return self._page(asked, rows)

    def history(self, asked: Asked) -> Any:
        """GET /v5/order/history: orders that are over, newest first."""
        stops = asked.text("orderFilter") == "StopOrder"
        spot = asked.text("category") == "spot"
        rows = [
            order_row(self, order)
            for order in self._listed_orders(asked)
            if not order.is_open and (not spot or stops == (not order.working))
        ]
        return self._page(asked, rows)

    def executions(self, asked: Asked) -> Any:
        """GET /v5/execution/list, newest first."""
        rows = [
            execution_row(self, order, trade)
            for order in self._listed_orders(asked)
            for trade in reversed(order.trades)
            if trade.time_ms + order.conditions.late_visibility_ms <= self.now_ms()
        ]
        return self._page(asked, rows)

    def _page(self, asked: Asked, rows: list[Any]) -> Any:
        shown, cursor = page(rows, asked, 20, 100)
        return self.ok(
            {"category": asked.text("category"), "list": shown, "nextPageCursor": cursor}
        )

    def positions(self, asked: Asked) -> Any:
        """GET /v5/position/list."""
        settle, symbol = asked.text("settleCoin"), asked.text("symbol")
        if symbol:  # "it returns data regardless of having position or not"
            self.engine.futures.position(self.engine.market("futures", symbol))
        rows = [
            {
                "symbol": held.market.symbol,
                "side": "" if not held.amount else "Buy" if held.amount > 0 else "Sell",
                "size": plain(abs(held.amount)),
                "avgPrice": plain(held.entry_price),
                "positionValue": plain(abs(held.amount) * held.entry_price),
                "positionIdx": side,
                "leverage": str(held.leverage),
                "markPrice": plain(held.market.last),
                "unrealisedPnl": plain(held.unrealized),
            }
            for held in self.engine.futures.positions.values()
            for side in ((1, 2) if self.engine.hedge_mode else (0,))
            if held.amount or symbol == held.market.symbol
            if settle in {"", held.market.quote} and symbol in {"", held.market.symbol}
        ]
        return self._page(asked, rows)

    endpoints: ClassVar = {
        "GET /v5/market/time": Endpoint(time, "clock", signed=False),
        "GET /v5/market/instruments-info": Endpoint(instruments, "markets", signed=False),
        "GET /v5/market/tickers": Endpoint(tickers, "prices", signed=False),
        "GET /v5/user/query-api": Endpoint(key_info, "account"),
        "GET /v5/account/info": Endpoint(account_info, "account"),
        "GET /v5/account/wallet-balance": Endpoint(wallet, "balance"),
        "POST /v5/order/create": Endpoint(create, "create"),
        "POST /v5/order/cancel": Endpoint(cancel, "cancel"),
        "GET /v5/order/realtime": Endpoint(open_orders, "look_up"),
        "GET /v5/order/history": Endpoint(history, "look_up"),
        "GET /v5/execution/list": Endpoint(executions, "trades"),
        "GET /v5/position/list": Endpoint(positions, "positions"),
    }


def _venue(category: str) -> Venue:
    return "spot" if category == "spot" else "futures"


def _conditional(venue: Venue, asked: Asked, *, limited: bool) -> str:
    """Return the core's type of a conditional order: Bybit's trigger may lie on either side."""
    rising = asked.text("triggerDirection", "1") == "1"
    stop = venue == "spot" or rising == (asked.text("side") == "Buy")
    if venue == "spot":
        return "STOP_LOSS_LIMIT" if limited else "STOP_LOSS"
    if limited:
        return "STOP" if stop else "TAKE_PROFIT"
    return "STOP_MARKET" if stop else "TAKE_PROFIT_MARKET"
