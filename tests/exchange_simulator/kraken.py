"""Kraken spot, REST.

Documents followed: https://docs.kraken.com/api/docs/guides/ with ``spot-rest-auth`` (signature,
nonce), ``spot-rest-ratelimits`` (the API counter), ``spot-ratelimits`` (the order counter of each
pair), ``spot-errors``; and https://docs.kraken.com/api-reference/ with ``trading/add-order``
(``deadline``: "min now() + 2 seconds, max now() + 60 seconds"), ``trading/cancel-order``,
``account-data/get-open-orders``, ``get-closed-orders``, ``get-orders-info``, ``get-trades-info``,
``get-extended-balance``, ``get-api-key-info``, ``market-data/get-tradable-asset-pairs``,
``get-ticker-information``.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec

from tests.exchange_simulator.allowances import Allowance, Decaying, OverLimitError
from tests.exchange_simulator.dialect import Asked, Dialect, Endpoint
from tests.exchange_simulator.errors import Reply
from tests.exchange_simulator.markets import Market, Venue, plain_digits
from tests.exchange_simulator.orders import ZERO, Order, Trade, plain
from tests.exchange_simulator.refusals import RefusedError

_DEADLINE_MS: Final = (2_000, 60_000)
#: Highest value and decay a second by tier: of the API counter, of a pair's order counter.
TIERS: Final = {
    "starter": ((15, 0.33), (60, 1.0)),
    "intermediate": ((20, 0.5), (125, 2.34)),
    "pro": ((20, 1.0), (180, 3.75)),
}
#: What cancelling adds to a pair's counter, by the order's age in seconds.
_CANCEL_COSTS: Final = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2))
_STATES: Final = {"NEW": "open", "PARTIALLY_FILLED": "open", "FILLED": "closed"}
_TYPES: Final = {
    "market": "MARKET",
    "limit": "LIMIT",
    "stop-loss": "STOP_LOSS",
    "stop-loss-limit": "STOP_LOSS_LIMIT",
    "take-profit": "TAKE_PROFIT",
    "take-profit-limit": "TAKE_PROFIT_LIMIT",
}


class Kraken(Dialect):
    """Kraken."""

    name = "kraken"
    fee_in = "quote"
    words: ClassVar = {
        "unknown_symbol": ("EQuery:Unknown asset pair", "", 200),
        "malformed": ("EGeneral:Invalid arguments:volume", "", 200),
        "insufficient": ("EOrder:Insufficient funds", "", 200),
        "duplicate": ("EOrder:cl_ord_id already in use", "", 200),
        "too_small": ("EOrder:Cost minimum not met", "", 200),
        "quantity": ("EOrder:Order minimum not met", "", 200),
        "price": ("EOrder:Tick size check failed", "", 200),
        "triggered": ("EOrder:Invalid price", "", 200),
        "post_only": ("EOrder:Post only order", "", 200),
        "closed": ("EService:Market in cancel_only mode", "", 200),
        "cancel_not_found": ("EOrder:Unknown order", "", 200),
        "not_found": ("EOrder:Unknown order", "", 200),
        "late": ("EService:Deadline elapsed", "", 200),
        "throttled": ("EAPI:Rate limit exceeded", "", 200),
        "throttled_until": ("EService: Throttled: 0", "", 200),
        "outage": ("EService:Unavailable", "", 200),
    }
    tier: ClassVar[str] = "pro"

    def reset(self) -> None:
        """Forget nonces, too."""
        super().reset()
        self.highest_nonce = 0
        #: how far behind the highest a nonce may lie: the key's setting on Kraken
        self.nonce_window_ms = 10_000
        #: requests that came with a nonce below an earlier one's, within the window or not
        self.nonces_out_of_order = 0

    def symbol_of(self, base: str, quote: str, venue: Venue) -> str:
        """The pair's key and alternative name alike."""
        return f"{base}{quote}"

    def oid(self, order: Order) -> str:
        """``OABCDE-…``: three groups."""
        number = f"{order.order_id:016d}"
        return f"O{number[:5]}-{number[5:10]}-{number[10:]}"

    def named(self, asked: Asked) -> tuple[str, str, Venue]:
        """``pair`` and ``cl_ord_id``; ``txid`` may name orders, or trades, of several pairs."""
        pair, client_id = asked.text("pair"), asked.text("cl_ord_id")
        if client_id:
            found = [self.find(client_id=client_id, hidden=True)]
        else:
            txids = asked.listed("txid")
            found = [self.find(oid=one, hidden=True) or self._of_trade(one) for one in txids]
        orders = [order for order in found if order is not None]
        pairs = dict.fromkeys(order.market.symbol for order in orders)
        client_id = orders[0].client_id if orders else client_id
        return pair or ",".join(pairs), client_id, "spot"

    def _of_trade(self, trade_id: str) -> Order | None:
        owners = (o for o in self.engine.accepted for t in o.trades if _trade_id(t) == trade_id)
        return next(owners, None)

    def authenticate(self, asked: Asked) -> None:
        """HMAC-SHA512 over the path and a hash of nonce and body; a nonce must rise."""
        if asked.given.get("API-Key") != self.settings.api_key:
            raise RefusedError("EAPI:Invalid key")
        nonce = asked.text("nonce")
        inner = hashlib.sha256(f"{nonce}{asked.body}".encode()).digest()
        secret = base64.b64decode(self.settings.secret)
        digest = hmac.new(secret, asked.path.encode() + inner, hashlib.sha512).digest()
        if not hmac.compare_digest(base64.b64encode(digest).decode(), asked.given["API-Sign"]):
            raise RefusedError("EAPI:Invalid signature")
        if int(nonce) < self.highest_nonce:
            self.nonces_out_of_order += 1
        if int(nonce) <= self.highest_nonce - self.nonce_window_ms * _per_ms(nonce):
            raise RefusedError("EAPI:Invalid nonce")
        self.highest_nonce = max(self.highest_nonce, int(nonce))
        if deadline := asked.text("deadline"):
            asked.deadline_ms = int(datetime.fromisoformat(deadline).timestamp() * 1000)
            shortest, longest = _DEADLINE_MS
            ahead_ms = asked.deadline_ms - self.now_ms()
            # One that is over is late, not malformed.
            if ahead_ms > longest or 0 < ahead_ms < shortest:
                raise RefusedError("EGeneral:Invalid arguments:deadline")

    def _allowances(self) -> Mapping[str, Allowance]:
        api, trading = TIERS[self.tier]
        return {"api": Decaying("api", *api), "pair": Decaying("pair", *trading)}

    def charge(self, asked: Asked) -> None:
        """The API counter for all but orders; placing and cancelling by the pair's own."""
        now_ms, job = asked.arrived_ms, asked.endpoint.job if asked.endpoint else ""
        if asked.endpoint is None or not asked.endpoint.signed:
            return
        if job == "create":
            self.allowances["pair"].spend(asked.params["symbol"], 1, now_ms)
        elif job == "cancel":
            found = self.find(client_id=asked.params["newClientOrderId"], hidden=True)
            age_s = (now_ms - found.accepted_ms) / 1000 if found is not None else 1e9
            cost = next((cost for limit, cost in _CANCEL_COSTS if age_s < limit), 0)
            self.allowances["pair"].spend(asked.params["symbol"], cost, now_ms)
        else:
            self.allowances["api"].spend("key", asked.endpoint.cost, now_ms)

    def throttled(self, over: OverLimitError) -> RefusedError:
        """Texts only: there are no headers."""
        word = "EOrder:Rate limit exceeded" if over.limit == "pair" else "EAPI:Rate limit exceeded"
        return RefusedError(word)

    def tell_time(self, refused: RefusedError, until_ms: int) -> None:
        """By the Unix time in the text."""
        refused.code = f"EService: Throttled: {until_ms // 1000 + 1}"

    def error_reply(self, refused: RefusedError) -> Reply:
        """HTTP 200 with ``error``."""
        body = msgspec.json.encode({"error": [refused.code]})
        return Reply(refused.status, body, headers=refused.headers)

    # ---- endpoints ----------------------------------------------------------------------------

    def ok(self, result: Any) -> Any:
        """Wrap a result."""
        return {"error": [], "result": result}

    def time(self, asked: Asked) -> Any:
        """GET /0/public/Time: whole seconds."""
        return self.ok({"unixtime": self.now_ms() // 1000, "rfc1123": ""})

    def status(self, asked: Asked) -> Any:
        """GET /0/public/SystemStatus."""
        return self.ok({"status": "online", "timestamp": ""})

    def pairs(self, asked: Asked) -> Any:
        """GET /0/public/AssetPairs."""
        return self.ok({market.symbol: _pair(market) for market in self.listed("spot")})

    def assets(self, asked: Asked) -> Any:
        """GET /0/public/Assets."""
        return self.ok({})

    def ticker(self, asked: Asked) -> Any:
        """GET /0/public/Ticker."""
        names = asked.listed("pair") or [market.symbol for market in self.listed("spot")]
        markets = [self.engine.market("spot", name) for name in names]
        return self.ok(
            {
                market.symbol: {
                    "a": [plain(market.ask), "1", "1.000"],
                    "b": [plain(market.bid), "1", "1.000"],
                    "c": [plain(market.last), "1"],
                    "v": ["1", "1"],
                    "p": [plain(market.last)] * 2,
                    "t": [1, 1],
                    "l": [plain(market.last)] * 2,
                    "h": [plain(market.last)] * 2,
                    "o": plain(market.last),
                }
                for market in markets
            }
        )

    def key_info(self, asked: Asked) -> Any:
        """POST /0/private/GetApiKeyInfo."""
        trading = ["query-open-trades", "query-closed-trades", "modify-trades", "close-trades"]
        return self.ok(
            {
                "apiKeyName": "worker",
                "apiKey": self.settings.api_key,
                "nonce": asked.text("nonce"),
                "nonceWindow": self.nonce_window_ms,
                "permissions": [
                    "query-funds",
                    *trading,
                    *(["withdraw-funds"] if self.engine.key_withdraws else []),
                ],
                "ipAllowlist": ["203.0.113.7"] if self.engine.key_is_bound else [],
            }
        )

    def wallet(self, asked: Asked) -> Any:
        """POST /0/private/BalanceEx."""
        return self.ok(
            {
                asset: {"balance": plain(held.free + held.locked), "hold_trade": plain(held.locked)}
                for asset, held in self.engine.spot.balances.items()
            }
        )

    def create(self, asked: Asked) -> Any:
        """POST /0/private/AddOrder: the reply holds a description and ``txid``."""
        market = self.engine.market("spot", asked.text("pair"))
        word = asked.text("ordertype")
        kind, limited = _TYPES[word], word.endswith("limit")
        price = asked.decimal("price2" if "-" in word else "price") if limited else ZERO
        flags = asked.text("oflags").split(",")
        tif = asked.text("timeinforce", "GTC")
        if "post" in flags:
            kind = "LIMIT_MAKER"
        order = self.order(
            asked,
            market,
            asked.text("type"),
            type=kind,
            tif=tif,
            quantity=ZERO if "viqc" in flags else asked.decimal("volume"),
            quote_quantity=asked.decimal("volume") if "viqc" in flags else ZERO,
            price=price,
            stop_price=asked.decimal("price") if "-" in word else ZERO,
        )
        order.extra = {"ordertype": word, "oflags": "fcib" if "fcib" in flags else "fciq"}
        self.submit(order)
        at = f"limit {plain(price)}" if limited else "market"
        text = f"{asked.text('type')} {asked.text('volume')} {market.symbol} @ {at}"
        return self.ok({"descr": {"order": text}, "txid": [self.oid(order)]})

    def cancel(self, asked: Asked) -> Any:
        """POST /0/private/CancelOrder."""
        order = self.find(oid=asked.text("txid"), client_id=asked.text("cl_ord_id"), hidden=True)
        if order is None or not order.is_open:
            raise self.refusal("cancel_not_found", "spot")
        self.engine.cancel(order, asked.conditions.now_ms)
        return self.ok({"count": 1})

    def open_orders(self, asked: Asked) -> Any:
        """POST /0/private/OpenOrders."""
        return self.ok({"open": self._rows(asked, is_open=True)})

    def closed_orders(self, asked: Asked) -> Any:
        """POST /0/private/ClosedOrders: 50 at a time, newest first, from ``ofs``."""
        rows = self._rows(asked, is_open=False)
        offset = int(asked.text("ofs", "0"))
        page = dict(list(rows.items())[offset : offset + 50])
        return self.ok({"closed": page, "count": len(rows)})

    def _rows(self, asked: Asked, *, is_open: bool) -> dict[str, Any]:
        start = float(asked.text("start", "0")) * 1000
        return {
            self.oid(order): self._row(order, asked)
            for order in reversed(self.visible())
            if order.is_open == is_open
            and asked.text("cl_ord_id") in {"", order.client_id}
            and order.updated_ms >= start
        }

    def query_orders(self, asked: Asked) -> Any:
        """POST /0/private/QueryOrders: up to 50 of them, by ``txid``."""
        wanted = set(asked.listed("txid"))
        found = {self.oid(o): self._row(o, asked) for o in self.visible() if self.oid(o) in wanted}
        if wanted and not found:
            raise self.refusal("not_found", "spot")
        return self.ok(found)

    def query_trades(self, asked: Asked) -> Any:
        """POST /0/private/QueryTrades: up to 20 of them, by ``txid``."""
        wanted = asked.listed("txid")
        if not wanted or len(wanted) > 20:
            raise RefusedError("EGeneral:Invalid arguments:txid")
        return self.ok(
            {
                _trade_id(trade): self._trade(order, trade)
                for order in self.visible()
                for trade in order.trades
                if _trade_id(trade) in wanted
            }
        )

    def _row(self, order: Order, asked: Asked) -> dict[str, Any]:
        fees = sum((t.commission for t in order.trades), ZERO)
        word = order.extra["ordertype"]
        stop = bool(order.stop_price)
        row: dict[str, Any] = {
            "refid": None,
            "userref": None,
            "cl_ord_id": order.client_id,
            "status": _STATES.get(order.status, "canceled"),
            "reason": "User requested" if order.status == "CANCELED" else None,
            "opentm": order.accepted_ms / 1000,
            "starttm": 0,
            "expiretm": 0,
            "descr": {
                "pair": order.market.symbol,
                "type": order.side.lower(),
                "ordertype": word,
                "price": plain(order.stop_price if stop else order.price),
                "price2": plain(order.price) if stop else "0",
                "leverage": "none",
                "order": "",
                "close": "",
            },
            "vol": plain(order.quantity),
            "vol_exec": plain(order.executed),
            "cost": plain(order.cost),
            "fee": plain(fees),
            "price": plain(order.average),
            "stopprice": plain(order.stop_price),
            "limitprice": plain(ZERO),
            "misc": "",
            "oflags": order.extra["oflags"],
        }
        if order.status not in {"NEW", "PARTIALLY_FILLED"}:
            row["closetm"] = order.updated_ms / 1000
        if asked.flag("trades") and order.trades:
            row["trades"] = [_trade_id(trade) for trade in order.trades]
        return row

    def _trade(self, order: Order, trade: Trade) -> dict[str, Any]:
        return {
            "ordertxid": self.oid(order),
            "postxid": "",
            "pair": order.market.symbol,
            "time": trade.time_ms / 1000,
            "type": order.side.lower(),
            "ordertype": order.extra["ordertype"],
            "price": plain(trade.price),
            "cost": plain(trade.price * trade.quantity),
            "fee": plain(trade.commission),
            "vol": plain(trade.quantity),
            "margin": "0",
            "misc": "",
            "maker": trade.maker,
        }

    endpoints: ClassVar = {
        "GET /0/public/Time": Endpoint(time, "clock", signed=False),
        "GET /0/public/SystemStatus": Endpoint(status, "status", signed=False),
        "GET /0/public/AssetPairs": Endpoint(pairs, "markets", signed=False),
        "GET /0/public/Assets": Endpoint(assets, "markets", signed=False),
        "GET /0/public/Ticker": Endpoint(ticker, "prices", signed=False),
        "POST /0/private/BalanceEx": Endpoint(wallet, "balance"),
        "POST /0/private/GetApiKeyInfo": Endpoint(key_info, "account"),
        "POST /0/private/AddOrder": Endpoint(create, "create", cost=0),
        "POST /0/private/CancelOrder": Endpoint(cancel, "cancel", cost=0),
        "POST /0/private/OpenOrders": Endpoint(open_orders, "look_up"),
        "POST /0/private/ClosedOrders": Endpoint(closed_orders, "look_up"),
        "POST /0/private/QueryOrders": Endpoint(query_orders, "look_up"),
        "POST /0/private/QueryTrades": Endpoint(query_trades, "trades"),
    }


def _trade_id(trade: Trade) -> str:
    number = f"{trade.trade_id:016d}"
    return f"T{number[:5]}-{number[5:10]}-{number[10:]}"


def _per_ms(nonce: str) -> int:
    """Return how many units of a nonce are a millisecond: clients count in ms, µs or ns."""
    return int(10 ** max(0, len(nonce) - 13))


def _pair(market: Market) -> dict[str, Any]:
    return {
        "altname": market.symbol,
        "wsname": f"{market.base}/{market.quote}",
        "aclass_base": "currency",
        "base": market.base,
        "aclass_quote": "currency",
        "quote": market.quote,
        "lot": "unit",
        "cost_decimals": 8,
        "pair_decimals": plain_digits(market.tick),
        "lot_decimals": plain_digits(market.step),
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.1]],
        "fees_maker": [[0, 0.1]],
        "fee_volume_currency": "ZUSD",
        "ordermin": plain(market.min_quantity or market.step),
        "costmin": plain(market.min_notional),
        "tick_size": plain(market.tick),
        "status": market.halted or "online",
    }
