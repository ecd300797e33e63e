"""Coinbase Advanced Trade, spot.

Documents followed: https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/ with
``orders`` (create-order, cancel-orders, list-orders, list-fills, get-order), ``products``,
``accounts``, ``public`` and ``fees``, https://docs.cdp.coinbase.com/coinbase-app/authentication
(a JWT signed with ES256 for each request, good for two minutes) and
https://docs.cdp.coinbase.com/coinbase-business/advanced-trade-apis/guides/rest-api-rate-limits.
A create with a known ``client_order_id`` returns the first order. Requests have no deadline.
"""

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.exchange_simulator.allowances import Allowance, OverLimitError, Windowed
from tests.exchange_simulator.coinbase_rows import fill_row, iso, order_row, product_row
from tests.exchange_simulator.dialect import Asked, Dialect, Endpoint, page
from tests.exchange_simulator.errors import Reply
from tests.exchange_simulator.markets import Venue
from tests.exchange_simulator.orders import Order, plain
from tests.exchange_simulator.refusals import RefusedError

_HOST: Final = "api.coinbase.com"

#: Configurations of orders: the core's type, its time in force.
_CONFIGURATIONS: Final = {
    "market_market_ioc": ("MARKET", "IOC"),
    "sor_limit_ioc": ("LIMIT", "IOC"),
    "limit_limit_gtc": ("LIMIT", "GTC"),
    "limit_limit_fok": ("LIMIT", "FOK"),
    "stop_limit_stop_limit_gtc": ("STOP_LOSS_LIMIT", "GTC"),
}
#: Reasons that stand in ``preview_failure_reason`` beside an unknown ``error``.
_OF_THE_PREVIEW: Final = "PREVIEW_"


class Coinbase(Dialect):
    """Coinbase. ``settings.secret`` is the key's private half, of which the public one is taken."""

    name = "coinbase"
    fee_in = "quote"
    words: ClassVar = {
        "unknown_symbol": ("INVALID_PRODUCT_ID", "Invalid product_id", 200),
        "malformed": ("INVALID_SIZE_PRECISION", "Invalid size", 200),
        "insufficient": ("INSUFFICIENT_FUND", "Insufficient balance in source account", 200),
        "too_small": ("PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL", "", 200),
        "quantity": ("PREVIEW_INVALID_BASE_SIZE_TOO_SMALL", "", 200),
        "price": ("INVALID_PRICE_PRECISION", "Too many decimals in limit price", 200),
        "triggered": ("PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE", "", 200),
        "post_only": ("INVALID_LIMIT_PRICE_POST_ONLY", "Limit price crosses the book", 200),
        "closed": ("PREVIEW_PRODUCT_DISABLED", "", 200),
        "duplicate": ("DUPLICATE_CLIENT_ORDER_ID", "", 200),
        "cancel_not_found": ("UNKNOWN_CANCEL_ORDER", "", 200),
        "not_found": ("NOT_FOUND", "order not found", 404),
        "late": ("unauthorized", "Unauthorized", 401),
        "throttled": ("rate_limit_exceeded", "Too many requests", 429),
        "outage": ("INTERNAL", "Internal error", 500),
    }

    def reset(self) -> None:
        """Read the key."""
        super().reset()
        key = load_pem_private_key(self.settings.secret.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the secret is no EC key")
        self._public = key.public_key()

    def symbol_of(self, base: str, quote: str, venue: Venue) -> str:
        """``BTC-USDT``."""
        return f"{base}-{quote}"

    def oid(self, order: Order) -> str:
        """A UUID."""
        return f"c01bba5e-0000-4000-8000-{order.order_id:012d}"

    def named(self, asked: Asked) -> tuple[str, str, Venue]:
        """``product_id`` and ``client_order_id``; an order may be named by its id instead."""
        symbol, client_id = asked.text("product_id"), asked.text("client_order_id")
        oids = asked.listed("order_ids") or asked.listed("order_id")
        if oids and not client_id and (order := self.find(oid=oids[0], hidden=True)):
            return order.market.symbol, order.client_id, "spot"
        return symbol or ",".join(asked.listed("product_ids")), client_id, "spot"

    def authenticate(self, asked: Asked) -> None:
        """The token names the key, this method and path, and is signed with the key."""
        token = asked.given.get("Authorization", "").removeprefix("Bearer ")
        unauthorized = RefusedError("unauthorized", "Unauthorized", 401)
        if token.count(".") != 2:
            raise unauthorized
        head, claims, signature = (_unbase64(part) for part in token.split("."))
        kid, said = json.loads(head), json.loads(claims)
        raw = encode_dss_signature(
            int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        )
        try:
            signed = token.rpartition(".")[0].encode()
            self._public.verify(raw, signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise unauthorized from None
        now_s = self.now_ms() / 1000
        if (kid["kid"], said["sub"]) != (self.settings.api_key,) * 2 or kid["alg"] != "ES256":
            raise unauthorized
        if said["uri"] != f"{asked.method} {_HOST}{asked.path}":
            raise unauthorized
        if not said["nbf"] - 30 <= now_s <= said["exp"]:
            raise unauthorized

    def _allowances(self) -> Mapping[str, Allowance]:
        return {"private": Windowed("private", 30, 1_000), "public": Windowed("public", 10, 1_000)}

    def charge(self, asked: Asked) -> None:
        """30 private requests a second of a key, 10 public ones of an IP."""
        name = "private" if asked.endpoint is not None and asked.endpoint.signed else "public"
        self.allowances[name].spend("", 1, asked.arrived_ms)

    def throttled(self, over: OverLimitError) -> RefusedError:
        """HTTP 429."""
        return self.refusal("throttled", "spot")

    def error_reply(self, refused: RefusedError) -> Reply:
        """HTTP 200 with ``success: false`` for an order, an error document for the rest."""
        code = str(refused.code)
        body: dict[str, Any]
        if refused.status == 429:
            body = {"errors": [{"id": code, "message": refused.msg}]}
        elif refused.status != 200:
            body = {"error": code, "error_details": refused.msg, "message": refused.msg}
        else:
            is_preview = code.startswith(_OF_THE_PREVIEW)
            body = {
                "success": False,
                "failure_reason": "UNKNOWN_FAILURE_REASON",
                "order_id": "",
                "error_response": {
                    "error": "UNKNOWN_FAILURE_REASON" if is_preview else code,
                    "message": refused.msg,
                    "error_details": "",
                    "preview_failure_reason": code
                    if is_preview
                    else "UNKNOWN_PREVIEW_FAILURE_REASON",
                    "new_order_failure_reason": "UNKNOWN_FAILURE_REASON" if is_preview else code,
                },
            }
        return Reply(refused.status, msgspec.json.encode(body), headers=refused.headers)

    # ---- endpoints ----------------------------------------------------------------------------

    def time(self, asked: Asked) -> Any:
        """GET /api/v3/brokerage/time."""
        now = self.now_ms()
        return {"iso": iso(now), "epochSeconds": str(now // 1000), "epochMillis": str(now)}

    def products(self, asked: Asked) -> Any:
        """GET …/products and …/market/products."""
        futures = asked.text("product_type") == "FUTURE"
        rows = [] if futures else [product_row(market) for market in self.listed("spot")]
        return {"products": rows, "num_products": len(rows)}

    def product(self, asked: Asked) -> Any:
        """GET …/products/{product_id}."""
        return product_row(self.engine.market("spot", asked.text("product_id")))

    def ticker(self, asked: Asked) -> Any:
        """GET …/products/{product_id}/ticker: the last trades, the best bid and ask."""
        market = self.engine.market("spot", asked.text("product_id"))
        trade = {
            "trade_id": "1",
            "product_id": market.symbol,
            "price": plain(market.last),
            "size": "1",
            "time": iso(self.now_ms()),
            "side": "BUY",
        }
        return {
            "trades": [trade],
            "best_bid": plain(market.bid),
            "best_ask": plain(market.ask),
        }

    def best_bid_ask(self, asked: Asked) -> Any:
        """GET …/best_bid_ask."""
        wanted = asked.listed("product_ids")
        return {
            "pricebooks": [
                {
                    "product_id": market.symbol,
                    "bids": [{"price": plain(market.bid), "size": "1000"}],
                    "asks": [{"price": plain(market.ask), "size": "1000"}],
                    "time": iso(self.now_ms()),
                }
                for market in self.listed("spot")
                if not wanted or market.symbol in wanted
            ]
        }

    def fees(self, asked: Asked) -> Any:
        """GET …/transaction_summary."""
        return {"fee_tier": {"taker_fee_rate": "0.001", "maker_fee_rate": "0.001"}}

    def permissions(self, asked: Asked) -> Any:
        """GET …/key_permissions."""
        return {
            "can_view": True,
            "can_trade": True,
            "can_transfer": self.engine.key_withdraws,
            "portfolio_uuid": "p",
        }

    def accounts(self, asked: Asked) -> Any:
        """GET …/accounts: 49 at a time unless asked for more, 250 at most."""
        rows = [
            {
                "uuid": f"a-{asset}",
                "name": f"{asset} Wallet",
                "currency": asset,
                "type": "ACCOUNT_TYPE_CRYPTO",
                "active": True,
                "ready": True,
                "available_balance": {"value": plain(held.free), "currency": asset},
                "hold": {"value": plain(held.locked), "currency": asset},
            }
            for asset, held in self.engine.spot.balances.items()
        ]
        shown, cursor = page(rows, asked, 49, 250)
        return {
            "accounts": shown,
            "has_next": bool(cursor),
            "cursor": cursor,
            "size": len(shown),
        }

    def create(self, asked: Asked) -> Any:
        """POST …/orders: a known client id returns the first order."""
        given = asked.fields["order_configuration"]
        ((word, configuration),) = given.items()
        order = self.find(client_id=asked.text("client_order_id") or "-", hidden=True)
        if order is None:
            order = self._ordered(asked, word, configuration)
            order.extra = {"configuration": {word: configuration}}
            self.submit(order)
        return {
            "success": True,
            "failure_reason": "UNKNOWN_FAILURE_REASON",
            "order_id": self.oid(order),
            "success_response": {
                "order_id": self.oid(order),
                "product_id": order.market.symbol,
                "side": order.side,
                "client_order_id": order.client_id,
            },
            "order_configuration": given,
        }

    def _ordered(self, asked: Asked, word: str, given: Mapping[str, str]) -> Order:
        if word not in _CONFIGURATIONS:
            raise RefusedError("UNSUPPORTED_ORDER_CONFIGURATION")
        market = self.engine.market("spot", asked.text("product_id"))
        kind, tif = _CONFIGURATIONS[word]
        if str(given.get("post_only")).lower() == "true":
            kind = "LIMIT_MAKER"
        if kind.startswith("STOP"):
            rising = given["stop_direction"] == "STOP_DIRECTION_STOP_UP"
            kind = kind if rising == (asked.text("side") == "BUY") else "TAKE_PROFIT_LIMIT"
        return self.order(
            asked,
            market,
            asked.text("side"),
            type=kind,
            tif=tif,
            quantity=Decimal(given.get("base_size") or 0),
            quote_quantity=Decimal(given.get("quote_size") or 0),
            price=Decimal(given.get("limit_price") or 0),
            stop_price=Decimal(given.get("stop_price") or 0),
        )

    def cancel(self, asked: Asked) -> Any:
        """POST …/orders/batch_cancel: HTTP 200, each order by itself."""
        results = []
        for oid in asked.listed("order_ids"):
            order = self.find(oid=oid, hidden=True)
            done = order is not None and order.is_open
            if order is not None and done:
                self.engine.cancel(order, asked.conditions.now_ms)
            reason = "UNKNOWN_CANCEL_FAILURE_REASON" if done else "UNKNOWN_CANCEL_ORDER"
            results.append({"success": done, "failure_reason": reason, "order_id": oid})
        return {"results": results}

    def list_orders(self, asked: Asked) -> Any:
        """GET …/orders/historical/batch, newest first; ``product_id`` is no parameter of it."""
        products, oids = asked.listed("product_ids"), asked.listed("order_ids")
        states = asked.listed("order_status")
        since = asked.text("start_date")
        since_ms = datetime.fromisoformat(since).timestamp() * 1000 if since else 0
        rows = [
            row
            for order in reversed(self.visible())
            if (not products or order.market.symbol in products)
            and (not oids or self.oid(order) in oids)
            and order.accepted_ms >= since_ms
            and ((row := order_row(self, order))["status"] in states or not states)
        ]
        shown, cursor = page(rows, asked, 1_000, 1_000)
        return {"orders": shown, "sequence": "0", "has_next": bool(cursor), "cursor": cursor}

    def get_order(self, asked: Asked) -> Any:
        """GET …/orders/historical/{order_id}."""
        order = self.find(oid=asked.text("order_id"))
        if order is None:
            raise self.refusal("not_found", "spot")
        return {"order": order_row(self, order)}

    def fills(self, asked: Asked) -> Any:
        """GET …/orders/historical/fills, newest first."""
        oids, products = asked.listed("order_ids"), asked.listed("product_ids")
        rows = [
            fill_row(self, order, trade)
            for order in reversed(self.visible())
            if (not oids or self.oid(order) in oids)
            and (not products or order.market.symbol in products)
            for trade in reversed(order.trades)
        ]
        shown, cursor = page(rows, asked, 100, 100)
        return {"fills": shown, "cursor": cursor}

    def nothing(self, asked: Asked) -> Any:
        """GET /v2/currencies: not needed."""
        return {"data": []}

    _ROOT: ClassVar = "/api/v3/brokerage"
    endpoints: ClassVar = {
        f"GET {_ROOT}/time": Endpoint(time, "clock", signed=False),
        f"GET {_ROOT}/market/products": Endpoint(products, "markets", signed=False),
        f"GET {_ROOT}/products": Endpoint(products, "markets"),
        f"GET {_ROOT}/market/products/{{product_id}}/ticker": Endpoint(
            ticker, "prices", signed=False
        ),
        f"GET {_ROOT}/products/{{product_id}}/ticker": Endpoint(ticker, "prices"),
        f"GET {_ROOT}/market/products/{{product_id}}": Endpoint(product, "markets", signed=False),
        f"GET {_ROOT}/products/{{product_id}}": Endpoint(product, "markets"),
        f"GET {_ROOT}/best_bid_ask": Endpoint(best_bid_ask, "prices"),
        f"GET {_ROOT}/transaction_summary": Endpoint(fees, "fees"),
        f"GET {_ROOT}/key_permissions": Endpoint(permissions, "account"),
        f"GET {_ROOT}/accounts": Endpoint(accounts, "balance"),
        f"POST {_ROOT}/orders": Endpoint(create, "create"),
        f"POST {_ROOT}/orders/batch_cancel": Endpoint(cancel, "cancel"),
        f"GET {_ROOT}/orders/historical/batch": Endpoint(list_orders, "look_up"),
        f"GET {_ROOT}/orders/historical/fills": Endpoint(fills, "trades"),
        f"GET {_ROOT}/orders/historical/{{order_id}}": Endpoint(get_order, "look_up"),
        "GET /v2/currencies": Endpoint(nothing, "markets", signed=False),
        "GET /v2/currencies/crypto": Endpoint(nothing, "markets", signed=False),
    }


def _unbase64(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
