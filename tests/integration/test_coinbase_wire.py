"""Coinbase: refusals at once, states, product flags, whole listings, secrets, with real ccxt."""

import json
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.canned import Asked, Canned, canned_server
from tests.integration.test_venue_wire import ID, a_limit, an_order, trading
from tests.integration.venues import CREATE_ROUTES, adapter_for, stock
from worker.config.keys import Secret
from worker.domain.order import OrderState, Role, Side
from worker.domain.signal import OrderType, TimeInForce
from worker.exchanges.errors import (
    CredentialsError,
    ExchangeError,
    OrderNotFoundError,
    Outcome,
)
from worker.runtime.errors import ConfigError

D = Decimal
CREATE = CREATE_ROUTES["coinbase"]
LIST = "GET /api/v3/brokerage/orders/historical/batch"
ONE = "GET /api/v3/brokerage/orders/historical/X-1"
FILLS = "GET /api/v3/brokerage/orders/historical/fills"
PRODUCTS = "GET /api/v3/brokerage/market/products"
ROW: dict[str, Any] = {
    "order_id": "X-1",
    "client_order_id": ID,
    "product_id": "BTC-USDT",
    "side": "BUY",
    "status": "OPEN",
    "order_configuration": {"limit_limit_gtc": {"base_size": "0.0125", "limit_price": "1"}},
    "filled_size": "0",
    "average_filled_price": "0",
    "created_time": "2023-11-14T22:13:20.123Z",
    "total_fees": "0",
    "reject_reason": "REJECT_REASON_UNSPECIFIED",
    "reject_message": "",
    "cancel_message": "",
}


def pages(rows: list[Any], size: int, name: str = "orders", *, has_next: bool = True) -> Any:
    """A list in pages of ``size`` at most, whatever limit is asked for."""

    def answer(asked: Asked) -> dict[str, Any]:
        first = int(asked.query.get("cursor") or 0)
        some = rows[first : first + min(size, int(asked.query["limit"]))]
        is_more = first + len(some) < len(rows)
        told: dict[str, Any] = {name: some, "cursor": str(first + len(some)) if is_more else ""}
        return told | ({"has_next": is_more} if has_next else {})

    return answer


@pytest.mark.parametrize(
    "reply",
    [
        {"success": False, "failure_reason": "ORDER_ENTRY_DISABLED", "order_id": ""},
        {
            "success": False,
            "failure_reason": "UNKNOWN_FAILURE_REASON",
            "error_response": {"error": "INELIGIBLE_PAIR", "message": "no"},
        },
        {
            "success": False,
            "error_response": {
                "error": "UNKNOWN_FAILURE_REASON",
                "new_order_failure_reason": "UNTRADABLE_PRODUCT",
            },
        },
    ],
)
async def test_a_named_reason_ends_the_order_at_once(reply: dict[str, Any]) -> None:
    """One request, a refusal that does not pass, nothing looked up."""
    async with trading("coinbase") as (adapter, server):
        server.replies[CREATE] = reply
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(an_order(), adapter.open_window())
        assert (raised.value.outcome, raised.value.transient) == (Outcome.REFUSED, False)
        assert len(server.asked) == 1


@pytest.mark.parametrize("reply", [{"success": False}, {"success": True}, {}])
async def test_a_reply_without_order_and_reason_leaves_it_open(reply: dict[str, Any]) -> None:
    """Neither yes nor no."""
    async with trading("coinbase") as (adapter, server):
        server.replies[CREATE] = reply
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(an_order(), adapter.open_window())
        assert raised.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("request_", "configuration"),
    [
        (an_order(), {"market_market_ioc": {"base_size": "0.0125"}}),
        (an_order(side=Side.SELL), {"market_market_ioc": {"base_size": "0.0125"}}),
        (
            a_limit(time_in_force=TimeInForce.FOK),
            {"limit_limit_fok": {"base_size": "0.0125", "limit_price": "60000.17"}},
        ),
        (
            a_limit(time_in_force=None),
            {
                "limit_limit_gtc": {
                    "base_size": "0.0125",
                    "limit_price": "60000.17",
                    "post_only": False,
                }
            },
        ),
        (
            a_limit(
                side=Side.SELL,
                role=Role.STOP_LOSS,
                order_type=OrderType.STOP_LIMIT,
                stop_price=D(61000),
                time_in_force=None,
            ),
            {
                "stop_limit_stop_limit_gtc": {
                    "base_size": "0.0125",
                    "limit_price": "60000.17",
                    "stop_price": "61000",
                    "stop_direction": "STOP_DIRECTION_STOP_DOWN",
                }
            },
        ),
    ],
)
async def test_the_whole_body_of_an_order(request_: Any, configuration: dict[str, Any]) -> None:
    """Nothing of ccxt's own parameters goes along."""
    async with trading("coinbase") as (adapter, server):
        await adapter.place_order(request_, adapter.open_window())
        assert json.loads(server.requests(CREATE)[0].body) == {
            "client_order_id": ID,
            "product_id": "BTC-USDT",
            "side": request_.side.value.upper(),
            "order_configuration": configuration,
        }


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        ("PENDING", "0", OrderState.ACTIVE),
        ("OPEN", "0.01", OrderState.PARTIALLY_FILLED),
        ("QUEUED", "0", OrderState.ACTIVE),
        ("CANCEL_QUEUED", "0.01", OrderState.PARTIALLY_FILLED),
        ("EDIT_QUEUED", "0", OrderState.ACTIVE),
        ("FILLED", "0.0125", OrderState.FILLED),
        ("CANCELLED", "0.01", OrderState.CANCELLED),
        ("EXPIRED", "0", OrderState.EXPIRED),
        ("FAILED", "0", OrderState.REJECTED),
    ],
)
async def test_every_documented_state(status: str, filled: str, state: OrderState) -> None:
    """By the exchange's id, from the list, and among open orders."""
    told = ROW | {"status": status, "filled_size": filled, "average_filled_price": "60000"}
    async with trading("coinbase") as (adapter, server):
        server.replies |= {ONE: {"order": told}, LIST: pages([told], 250)}
        for exchange_id in ("X-1", ""):
            report = await adapter.get_order(an_order(), exchange_id)
            assert (report.state, report.filled_quantity) == (state, D(filled))
        (report,) = await adapter.get_open_orders()
        assert report.state is state


@pytest.mark.parametrize("status", ["UNKNOWN_ORDER_STATUS", "", "NEW_STATE"])
async def test_a_state_that_nobody_knows_says_nothing(status: str) -> None:
    """Neither that it is open nor that it is over."""
    async with trading("coinbase") as (adapter, server):
        server.replies |= {ONE: {"order": ROW | {"status": status}}}
        with pytest.raises(ExchangeError) as raised:
            await adapter.get_order(an_order(), "X-1")
        assert raised.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (
            {"status": "FAILED", "reject_reason": "HOLD_FAILURE", "reject_message": "no hold"},
            "HOLD_FAILURE: no hold",
        ),
        ({"status": "FAILED", "reject_message": "post only"}, "post only"),
        ({"status": "FAILED", "cancel_message": "x"}, ""),
        (
            {"status": "CANCELLED", "cancel_message": "User requested cancel"},
            "User requested cancel",
        ),
    ],
)
async def test_why_an_order_ended_is_told(told: dict[str, str], reason: str) -> None:
    """Without the word for "no reason"."""
    async with trading("coinbase") as (adapter, server):
        server.replies[ONE] = {"order": ROW | told}
        assert (await adapter.get_order(an_order(), "X-1")).reason == reason


# ---- listings -------------------------------------------------------------------------------


def others(count: int) -> list[dict[str, Any]]:
    return [ROW | {"order_id": f"O-{n}", "client_order_id": f"{n:032x}"} for n in range(1, count)]


@pytest.mark.parametrize("has_next", [True, False])
async def test_a_look_up_goes_through_all_pages_of_the_product(has_next: bool) -> None:
    """However short the exchange makes them; absence takes the last one."""
    async with trading("coinbase") as (adapter, server):
        server.replies[LIST] = pages([*others(24), ROW], 10, has_next=has_next)
        assert (await adapter.get_order(an_order())).exchange_order_id == "X-1"
        assert len(server.asked) == 3
        assert {asked.query["product_ids"] for asked in server.asked} == {"BTC-USDT"}
        assert all("product_id" not in asked.query for asked in server.asked)
        server.asked.clear()
        server.replies[LIST] = pages([ROW, *others(24)], 10, has_next=has_next)
        await adapter.get_order(an_order())
        assert len(server.asked) == 1  # found: the rest need not be read
        server.asked.clear()
        server.replies[LIST] = pages(others(31), 10, has_next=has_next)
        with pytest.raises(OrderNotFoundError):
            await adapter.get_order(an_order())
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"orders": None},
        {"orders": {"X-1": ROW}},
        {"orders": ["X-1"], "has_next": False},
        {"orders": [{}], "has_next": False},
        {"orders": [ROW | {"client_order_id": ""}], "has_next": False},
        {"orders": [{k: v for k, v in ROW.items() if k != "client_order_id"}], "has_next": False},
        {"orders": [ROW | {"client_order_id": None, "product_id": ""}], "has_next": False},
        {"orders": others(3), "has_next": True, "cursor": ""},
        {"orders": others(3), "has_next": True, "cursor": "same"},
    ],
)
async def test_a_listing_that_was_not_understood_proves_nothing(reply: Any) -> None:
    """No list, a row without our id's place, or more pages that cannot be had."""
    async with trading("coinbase") as (adapter, server):
        server.replies[LIST] = reply
        with pytest.raises(ExchangeError) as raised:
            await adapter.get_order(an_order())
        assert not isinstance(raised.value, OrderNotFoundError)
        assert raised.value.outcome is Outcome.UNKNOWN


async def test_open_orders_come_from_all_pages() -> None:
    """Of one product if asked."""
    async with trading("coinbase") as (adapter, server):
        server.replies[LIST] = pages(others(26), 10)
        assert len(await adapter.get_open_orders("BTC/USDT")) == 25
        assert {asked.query["product_ids"] for asked in server.asked} == {"BTC-USDT"}
        assert {asked.query["order_status"] for asked in server.asked} == {"OPEN"}
        server.asked.clear()
        assert len(await adapter.get_open_orders()) == 25
        assert all("product_ids" not in asked.query for asked in server.asked)


async def test_fills_come_from_all_pages() -> None:
    """Also where a page is shorter than was asked for."""
    fills = [
        {
            "entry_id": f"E-{n}",
            "trade_id": f"T-{n}",
            "order_id": "X-1",
            "trade_time": "2023-11-14T22:13:20.123Z",
            "price": "60000",
            "size": "0.0005",
            "commission": "0.1",
            "product_id": "BTC-USDT",
            "side": "BUY",
        }
        for n in range(23)
    ]
    async with trading("coinbase") as (adapter, server):
        server.replies |= {ONE: {"order": ROW}, FILLS: pages(fills, 10, "fills", has_next=False)}
        report = await adapter.get_order(an_order(), "X-1")
        assert len(await adapter.get_trades(an_order(), report)) == 23


# ---- products -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "active", "limit_only", "word"),
    [
        ({"cancel_only": True}, False, False, "cancel_only"),
        ({"view_only": True}, False, False, "view_only"),
        ({"post_only": True}, False, False, "post_only"),
        ({"trading_disabled": True}, False, False, "disabled"),
        ({"is_disabled": True}, False, False, "disabled"),
        ({"status": "delisted"}, False, False, "delisted"),
        ({"limit_only": True}, True, True, "limit_only"),
        ({"auction_mode": True}, True, True, "auction_mode"),
        ({"limit_only": True, "cancel_only": True}, False, False, "cancel_only"),
        ({"limit_only": False, "view_only": False, "status": ""}, True, False, ""),
    ],
)
async def test_a_products_flags_count(
    flags: dict[str, Any], active: bool, limit_only: bool, word: str
) -> None:
    """At the start and when the list is read again; what it does not take is not sent."""
    async with trading("coinbase") as (adapter, server):
        before: Any = server.replies[PRODUCTS]
        listed = {"products": [before["products"][0] | flags], "num_products": 1}
        server.replies |= {PRODUCTS: listed, PRODUCTS.replace("market/", ""): listed}
        await adapter.refresh_markets()
        again = adapter_for("coinbase", server.url)
        await again.start()
        for one in (adapter, again):
            info = one.get_symbol_info("BTC/USDT")
            assert info is not None
            assert (info.active, info.limit_only) == (active, limit_only)
            assert word in info.restriction
            assert bool(info.restriction) is bool(word)
        server.asked.clear()
        if limit_only:
            with pytest.raises(ExchangeError, match=word) as raised:
                await adapter.place_order(an_order(), adapter.open_window())
            assert raised.value.outcome is Outcome.REFUSED
            assert server.asked == []
            await adapter.place_order(a_limit(), adapter.open_window())
        await again.close()


# ---- credentials ----------------------------------------------------------------------------

CLOUD_KEY = "organizations/o/apiKeys/k"


def pem(key: Any, form: PrivateFormat = PrivateFormat.TraditionalOpenSSL) -> str:
    return str(key.private_bytes(Encoding.PEM, form, NoEncryption()).decode())


EC = pem(ec.generate_private_key(ec.SECP256R1()))
#: Secrets that cannot sign, by what is wrong with them: the API key, and the secret.
USELESS = {
    "no_pem": (CLOUD_KEY, "no pem at all"),
    "half": (CLOUD_KEY, EC[:60]),
    "mistyped": (CLOUD_KEY, EC.replace("BEGIN EC", "BEGIN EX")),
    "only_the_first_line": ("k", "-----BEGIN EC PRIVATE KEY-----"),
    "another_curve": (CLOUD_KEY, pem(ec.generate_private_key(ec.SECP384R1()))),
    "rsa": (CLOUD_KEY, pem(rsa.generate_private_key(65537, 2048))),
    "short_ed25519": ("k", "c2hvcnQ="),
    "no_base64": ("k", "!" * 88),
}
#: The same key as it may be copied.
GOOD = {
    "lines": EC,
    "escaped": EC.replace("\n", "\\n"),
    "stripped": EC.strip(),
    "one_line": EC.replace("\n", ""),
    "pkcs8": pem(ec.generate_private_key(ec.SECP256R1()), PrivateFormat.PKCS8),
}


@pytest.mark.parametrize("fault", USELESS)
async def test_a_secret_that_cannot_sign_says_so_before_anything_is_sent(fault: str) -> None:
    """Which key of the configuration, what is wrong, and nothing of the secret itself."""
    api_key, secret = USELESS[fault]
    async with canned_server() as server:
        stock(server, "coinbase")
        adapter = adapter_for(
            "coinbase", server.url, api_key=Secret(api_key), secret=Secret(secret)
        )
        with pytest.raises(ConfigError, match=r"exchanges\.coinbase\.secret") as raised:
            await adapter.start()
        assert "private key" in str(raised.value)
        assert secret.split("KEY-----")[-1] in {"", "\n"} or secret not in str(raised.value)
        assert server.asked == []


@pytest.mark.parametrize("form", GOOD)
async def test_a_key_files_secret_signs_as_it_is(form: str) -> None:
    """With line breaks or with what stands for them in the file."""
    async with canned_server() as server:
        stock(server, "coinbase")
        adapter = adapter_for(
            "coinbase", server.url, api_key=Secret(CLOUD_KEY), secret=Secret(GOOD[form])
        )
        assert adapter.advice == ()
        await adapter.start()
        assert server.asked[-1].headers["Authorization"].startswith("Bearer ")
        await adapter.close()


async def test_a_refused_old_key_is_told_with_its_reason() -> None:
    """It may work for a stand-in; where it is refused, the sentence says what to do."""
    async with canned_server() as server:
        stock(server, "coinbase")
        adapter = adapter_for("coinbase", server.url)
        (advice,) = adapter.advice
        assert "PEM" in advice
        await adapter.start()
        await adapter.close()
        for reply in (Canned("Unauthorized", 401), Canned({"error": "Unauthorized"}, 401)):
            server.replies["GET /api/v3/brokerage/accounts"] = reply
            server.replies["GET /api/v3/brokerage/transaction_summary"] = reply
            with pytest.raises(CredentialsError, match="PEM"):
                await adapter.start()
