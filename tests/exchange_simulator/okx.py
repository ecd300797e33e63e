"""OKX v5: spot, and USDT perpetuals ordered in contracts.

Documents followed: https://www.okx.com/docs-v5/en/ with the sections Overview (REST
authentication, transaction timeouts, rate limits), Trading account (balance, positions, account
configuration), Order book trading (place, cancel and get order, algo trading, transaction
details), Public data (instruments) and Error code. An expired ``expTime`` is answered with HTTP
200, ``code`` 1 and ``sCode`` 50036.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec

from tests.exchange_simulator.allowances import Allowance, OverLimitError, Windowed
from tests.exchange_simulator.dialect import Asked, Dialect, Endpoint
from tests.exchange_simulator.errors import Reply
from tests.exchange_simulator.markets import Market, Venue
from tests.exchange_simulator.okx_rows import (
    algo_row,
    conditional_type,
    fill_row,
    instrument_row,
    limit_field,
    order_row,
    ticker_row,
)
from tests.exchange_simulator.okx_words import OF_THE_REQUEST, WORDS
from tests.exchange_simulator.orders import ZERO, Order, plain
from tests.exchange_simulator.refusals import RefusedError

_STAMP_MS: Final = 30_000

PASSPHRASE: Final = "sim-passphrase"


class Okx(Dialect):
    """OKX. ``account_level`` 2 is Futures mode: spot for cash, perpetuals on margin."""

    name = "okx"
    venues = ("spot", "futures")
    words: ClassVar = WORDS
    #: of ``GET /api/v5/account/config``
    account_level = "2"

    @property
    def position_mode(self) -> str:
        """``net_mode`` is one position a contract, ``long_short_mode`` one a side."""
        return "long_short_mode" if self.engine.hedge_mode else "net_mode"

    def symbol_of(self, base: str, quote: str, venue: Venue) -> str:
        """``BTC-USDT``, and ``BTC-USDT-SWAP`` for the perpetual."""
        return f"{base}-{quote}" + ("" if venue == "spot" else "-SWAP")

    def oid(self, order: Order) -> str:
        """Digits."""
        return str(10**18 + order.order_id)

    def named(self, asked: Asked) -> tuple[str, str, Venue]:
        """``instId`` and one of the client ids; of a list, those of its first row."""
        rows = asked.fields.get("items")
        row = rows[0] if rows else asked.fields
        symbol = str(row.get("instId") or "")
        client_id = str(row.get("clOrdId") or row.get("algoClOrdId") or "")
        if not client_id and (oid := str(row.get("ordId") or row.get("algoId") or "")):
            kind = "algo" if row.get("algoId") else "order"
            order = self.find(oid=oid, kind=kind, hidden=True)
            client_id = order.client_id if order is not None else ""
        return symbol, client_id, "futures" if symbol.endswith("-SWAP") else "spot"

    def authenticate(self, asked: Asked) -> None:
        """HMAC-SHA256 in base64 over timestamp, method, path with query, and body."""
        head, chosen = asked.given, self.settings
        if head.get("OK-ACCESS-KEY") != chosen.api_key:
            raise RefusedError("50111", "Invalid OK-ACCESS-KEY", 401)
        if head.get("OK-ACCESS-PASSPHRASE") != PASSPHRASE:
            raise RefusedError("50105", "OK-ACCESS-PASSPHRASE incorrect", 401)
        stamp = head.get("OK-ACCESS-TIMESTAMP", "")
        path = asked.path + (f"?{asked.query}" if asked.query else "")
        signed = f"{stamp}{asked.method}{path}{asked.body}"
        digest = hmac.new(chosen.secret.encode(), signed.encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(base64.b64encode(digest).decode(), head["OK-ACCESS-SIGN"]):
            raise RefusedError("50113", "Invalid Sign", 401)
        stamp_ms = datetime.fromisoformat(stamp).timestamp() * 1000
        if abs(self.now_ms() - stamp_ms) > _STAMP_MS:
            raise RefusedError("50102", "Timestamp request expired", 401)
        if asked.path == "/api/v5/trade/order" and (until := head.get("expTime")):
            asked.deadline_ms = int(until)

    def _allowances(self) -> Mapping[str, Allowance]:
        return {
            "trade": Windowed("trade", 60, 2_000),
            "algo": Windowed("algo", 20, 2_000),
            "read": Windowed("read", 60, 2_000),
            "account": Windowed("account", 10, 2_000),
            "sub-account": Windowed("sub-account", 1_000, 2_000),
        }

    def charge(self, asked: Asked) -> None:
        """Each endpoint by itself: 60 in 2 s an instrument for trading, 10 for the account."""
        now_ms, symbol = asked.arrived_ms, asked.params["symbol"]
        job = asked.endpoint.job if asked.endpoint is not None else ""
        if asked.method == "POST":
            name = "algo" if "algo" in asked.path else "trade"
            self.allowances[name].spend(f"{asked.path} {symbol}", 1, now_ms)
            if job == "create":
                self.allowances["sub-account"].spend("", 1, now_ms)
        elif job in {"balance", "positions", "account"}:
            self.allowances["account"].spend(asked.path, 1, now_ms)
        elif job in {"look_up", "trades"}:
            self.allowances["read"].spend(f"{asked.path} {symbol}", 1, now_ms)

    def throttled(self, over: OverLimitError) -> RefusedError:
        """50061 for the sub-account's sum, else 50011."""
        if over.limit == "sub-account":
            return RefusedError("50061", "Sub-account rate limit exceeded", 200)
        return self.refusal("throttled", "spot")

    def error_reply(self, refused: RefusedError) -> Reply:
        """A refused order is told in its row, with ``code`` 1; a refused request by ``code``."""
        code, msg, data = str(refused.code), refused.msg, []
        of_the_order = code.startswith("51") or code in {"50036", "50037"}
        if of_the_order and code not in OF_THE_REQUEST:
            row = {"ordId": "", "clOrdId": "", "tag": "", "sCode": code, "sMsg": msg}
            code, msg, data = "1", "All operations failed", [row]
        body = msgspec.json.encode({"code": code, "msg": msg, "data": data})
        return Reply(refused.status, body, headers=refused.headers)

    # ---- endpoints ----------------------------------------------------------------------------

    def ok(self, rows: list[Any]) -> Any:
        """Wrap rows."""
        return {"code": "0", "msg": "", "data": rows}

    def time(self, asked: Asked) -> Any:
        """GET /api/v5/public/time."""
        return self.ok([{"ts": str(self.now_ms())}])

    def instruments(self, asked: Asked) -> Any:
        """GET /api/v5/public/instruments."""
        kind = asked.text("instType")
        if kind not in {"SPOT", "SWAP"}:
            return self.ok([])
        return self.ok([instrument_row(m) for m in self.listed(_venue(kind))])

    def ticker(self, asked: Asked) -> Any:
        """GET /api/v5/market/ticker."""
        return self.ok([ticker_row(self, self._market(asked.text("instId")))])

    def tickers(self, asked: Asked) -> Any:
        """GET /api/v5/market/tickers."""
        return self.ok([ticker_row(self, m) for m in self.listed(_venue(asked.text("instType")))])

    def _market(self, symbol: str) -> Market:
        return self.engine.market("futures" if symbol.endswith("-SWAP") else "spot", symbol)

    def account_config(self, asked: Asked) -> Any:
        """GET /api/v5/account/config."""
        row = {
            "uid": "1",
            "mainUid": "1",
            "acctLv": self.account_level,
            "posMode": self.position_mode,
            "autoLoan": False,
            "ctIsoMode": "automatic",
            "mgnIsoMode": "automatic",
            "spotOffsetType": "",
            "enableSpotBorrow": False,
            "perm": "read_only,trade,withdraw" if self.engine.key_withdraws else "read_only,trade",
            "ip": "203.0.113.7" if self.engine.key_is_bound else "",
        }
        return self.ok([row])

    def wallet(self, asked: Asked) -> Any:
        """GET /api/v5/account/balance."""
        futures, details = self.engine.futures, []
        for asset, held in self.engine.spot.balances.items():
            wallet = asset == futures.asset
            free = held.free + futures.coins.get(asset, ZERO)
            free += futures.available if wallet else ZERO
            frozen = held.locked + (
                futures.position_margin + futures.order_margin if wallet else ZERO
            )
            details.append(
                {
                    "ccy": asset,
                    "eq": plain(free + frozen),
                    "cashBal": plain(free + frozen),
                    "availEq": plain(free),
                    "availBal": plain(free),
                    "frozenBal": plain(frozen),
                }
            )
        return self.ok([{"uTime": str(self.now_ms()), "details": details}])

    def positions(self, asked: Asked) -> Any:
        """GET /api/v5/account/positions: ``pos`` is in contracts, negative when short."""
        rows = [
            {
                "instType": "SWAP",
                "instId": symbol,
                "posId": symbol,
                "pos": plain(held.amount / held.market.contract),
                "posSide": "net",
                "avgPx": plain(held.entry_price),
                "mgnMode": "cross",
                "lever": str(held.leverage),
                "markPx": plain(held.market.last),
                "upl": plain(held.unrealized),
                "imr": plain(held.margin),
                "mmr": plain(held.margin / 2),
                "notionalUsd": plain(abs(held.amount) * held.market.last),
                "cTime": str(held.updated_ms),
                "uTime": str(held.updated_ms),
            }
            for symbol, held in self.engine.futures.positions.items()
            if held.amount and asked.text("instId") in {"", symbol}
        ]
        return self.ok(rows)

    def create(self, asked: Asked) -> Any:
        """POST /api/v5/trade/order: the reply holds ids only."""
        market = self._market(asked.text("instId"))
        self._check_mode(asked, market)
        word = asked.text("ordType")
        kind = "MARKET" if word in {"market", "optimal_limit_ioc"} else "LIMIT"
        tif = {"ioc": "IOC", "fok": "FOK"}.get(word, "GTC")
        if word == "post_only":
            kind, tif = ("LIMIT_MAKER", "GTC") if market.venue == "spot" else ("LIMIT", "GTX")
        size = asked.decimal("sz") * market.contract
        by_quote = (
            market.venue == "spot"
            and kind == "MARKET"
            and asked.text("side") == "buy"
            and asked.text("tgtCcy", "quote_ccy") == "quote_ccy"
        )
        order = self.order(
            asked,
            market,
            asked.text("side"),
            type=kind,
            tif=tif,
            quantity=ZERO if by_quote else size,
            quote_quantity=size if by_quote else ZERO,
            price=ZERO if kind == "MARKET" else asked.decimal("px"),
            reduce_only=asked.flag("reduceOnly") and market.venue == "futures",
        )
        order.extra = {"ordType": word, "tdMode": asked.text("tdMode")}
        self.submit(order)
        row = {"ordId": self.oid(order), "clOrdId": order.client_id, "tag": ""}
        return self.ok([row | {"ts": str(order.accepted_ms), "sCode": "0", "sMsg": ""}])

    def _check_mode(self, asked: Asked, market: Market) -> None:
        """Refuse what the account's mode does not allow."""
        mode = asked.text("tdMode")
        if market.venue == "spot":
            wanted = "cash" if self.account_level in {"1", "2"} else "cross"
            if mode != wanted and not asked.text("ccy"):  # "cross MARGIN orders in Futures mode"
                raise RefusedError("51000", "Parameter ccy error")
            return
        if self.account_level == "1":
            text = "You can't complete this request under your current account mode."
            raise RefusedError("51010", text)
        if mode not in {"cross", "isolated"}:
            raise RefusedError("51000", "Parameter tdMode error")
        if self.position_mode != "net_mode" and not asked.text("posSide"):
            raise RefusedError("51000", "Parameter posSide error")

    def create_algo(self, asked: Asked) -> Any:
        """POST /api/v5/trade/order-algo: ``conditional`` and ``trigger``."""
        market = self._market(asked.text("instId"))
        self._check_mode(asked, market)
        side, stop = asked.text("side"), True
        if asked.text("ordType") == "trigger":
            trigger, limit = asked.decimal("triggerPx"), asked.text("orderPx", "-1")
            stop = (trigger > market.last) == (side == "buy")
        elif asked.text("slTriggerPx"):
            trigger, limit = asked.decimal("slTriggerPx"), asked.text("slOrdPx", "-1")
        else:
            trigger, limit, stop = asked.decimal("tpTriggerPx"), asked.text("tpOrdPx", "-1"), False
        order = self.order(
            asked,
            market,
            side,
            kind="algo",
            client_id=asked.text("algoClOrdId"),
            type=conditional_type(market.venue, stop=stop, limited=limit != "-1"),
            quantity=asked.decimal("sz") * market.contract,
            price=ZERO if limit == "-1" else asked.decimal(limit_field(asked)),
            stop_price=trigger,
            reduce_only=asked.flag("reduceOnly") and market.venue == "futures",
        )
        order.extra = {"ordType": asked.text("ordType"), "tdMode": asked.text("tdMode")}
        self.submit(order)
        row = {"algoId": self.oid(order), "algoClOrdId": order.client_id, "clOrdId": ""}
        return self.ok([row | {"sCode": "0", "sMsg": "", "tag": ""}])

    def cancel(self, asked: Asked) -> Any:
        """POST /api/v5/trade/cancel-order."""
        return self.ok([self._cancelled(asked, asked.fields, "order")])

    def cancel_algos(self, asked: Asked) -> Any:
        """POST /api/v5/trade/cancel-algos."""
        return self.ok([self._cancelled(asked, row, "algo") for row in asked.fields["items"]])

    def _cancelled(self, asked: Asked, row: Mapping[str, Any], kind: str) -> dict[str, Any]:
        names = ("ordId", "clOrdId") if kind == "order" else ("algoId", "algoClOrdId")
        oid, client_id = (str(row.get(name) or "") for name in names)
        order = self.find(oid=oid, client_id=client_id, kind=kind, hidden=True)
        if order is None or not order.is_open:
            raise self.refusal("cancel_not_found", "spot")
        self.engine.cancel(order, asked.conditions.now_ms)
        order.extra["cancelSource"] = "1"
        shown = {names[0]: self.oid(order), names[1]: order.client_id}
        return shown | {"ts": str(self.now_ms()), "sCode": "0", "sMsg": ""}

    def _asked_for(self, asked: Asked, kind: str) -> Order:
        names = ("ordId", "clOrdId") if kind == "order" else ("algoId", "algoClOrdId")
        oid, client_id = (asked.text(name) for name in names)
        order = self.find(oid=oid, client_id=client_id, kind=kind)
        if order is None or (client_id and not oid and order.source == "trigger"):
            raise self.refusal("not_found", "spot")
        return order

    def get_order(self, asked: Asked) -> Any:
        """GET /api/v5/trade/order."""
        return self.ok([order_row(self, self._asked_for(asked, "order"))])

    def get_algo(self, asked: Asked) -> Any:
        """GET /api/v5/trade/order-algo."""
        return self.ok([algo_row(self, self._asked_for(asked, "algo"))])

    def pending(self, asked: Asked) -> Any:
        """GET /api/v5/trade/orders-pending, newest first."""
        return self.ok([order_row(self, one) for one in self._listed_orders(asked, "order", True)])

    def history(self, asked: Asked) -> Any:
        """GET /api/v5/trade/orders-history, the last seven days."""
        return self.ok([order_row(self, one) for one in self._listed_orders(asked, "order", False)])

    def pending_algos(self, asked: Asked) -> Any:
        """GET /api/v5/trade/orders-algo-pending."""
        found = self._listed_orders(asked, "algo", True)
        words = asked.text("ordType").split(",")
        return self.ok([algo_row(self, o) for o in found if o.extra["ordType"] in words])

    def _listed_orders(self, asked: Asked, kind: str, is_open: bool) -> list[Order]:
        venue = _venue(asked.text("instType")) if asked.text("instType") else None
        return [
            order
            for order in reversed(self.visible(venue=venue, kind=kind))
            if order.is_open == is_open and asked.text("instId") in {"", order.market.symbol}
        ][:100]

    def fills(self, asked: Asked) -> Any:
        """GET /api/v5/trade/fills, newest first; ``after`` is a bill id."""
        before = int(asked.text("after", str(10**18)))
        rows = [
            (trade.trade_id, fill_row(self, order, trade))
            for order in self.visible()
            if asked.text("ordId") in {"", self.oid(order)}
            and asked.text("instId") in {"", order.market.symbol}
            for trade in order.trades
            if trade.trade_id < before
        ]
        rows.sort(key=lambda row: -row[0])
        return self.ok([row for _, row in rows[: int(asked.text("limit", "100"))]])

    endpoints: ClassVar = {
        "GET /api/v5/public/time": Endpoint(time, "clock", signed=False),
        "GET /api/v5/public/instruments": Endpoint(instruments, "markets", signed=False),
        "GET /api/v5/market/ticker": Endpoint(ticker, "prices", signed=False),
        "GET /api/v5/market/tickers": Endpoint(tickers, "prices", signed=False),
        "GET /api/v5/account/config": Endpoint(account_config, "account"),
        "GET /api/v5/account/balance": Endpoint(wallet, "balance"),
        "GET /api/v5/account/positions": Endpoint(positions, "positions"),
        "POST /api/v5/trade/order": Endpoint(create, "create"),
        "POST /api/v5/trade/order-algo": Endpoint(create_algo, "create"),
        "POST /api/v5/trade/cancel-order": Endpoint(cancel, "cancel"),
        "POST /api/v5/trade/cancel-algos": Endpoint(cancel_algos, "cancel"),
        "GET /api/v5/trade/order": Endpoint(get_order, "look_up"),
        "GET /api/v5/trade/order-algo": Endpoint(get_algo, "look_up"),
        "GET /api/v5/trade/orders-pending": Endpoint(pending, "look_up"),
        "GET /api/v5/trade/orders-history": Endpoint(history, "look_up"),
        "GET /api/v5/trade/orders-algo-pending": Endpoint(pending_algos, "look_up"),
        "GET /api/v5/trade/fills": Endpoint(fills, "trades"),
    }


def _venue(kind: str) -> Venue:
    return "futures" if kind == "SWAP" else "spot"
