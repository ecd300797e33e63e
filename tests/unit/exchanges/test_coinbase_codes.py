"""Coinbase's named reasons are a no; only what says nothing leaves an order open."""

import json
from typing import Any

import pytest

from worker.exchanges.ccxt.call import Call
from worker.exchanges.ccxt.outcomes import classify
from worker.exchanges.coinbase.codes import CoinbaseCodes
from worker.exchanges.errors import (
    ClockSkewError,
    CredentialsError,
    ExchangeError,
    InsufficientBalanceError,
    OrderNotFoundError,
    Outcome,
)

CODES = CoinbaseCodes()
#: ``new_order_failure_reason`` of
#: https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/create-order.
_REASONS = """
UNSUPPORTED_ORDER_CONFIGURATION INVALID_SIDE INVALID_PRODUCT_ID INVALID_SIZE_PRECISION
INVALID_PRICE_PRECISION INSUFFICIENT_FUND INVALID_LEDGER_BALANCE ORDER_ENTRY_DISABLED
INELIGIBLE_PAIR INVALID_LIMIT_PRICE_POST_ONLY INVALID_LIMIT_PRICE INVALID_NO_LIQUIDITY
INVALID_REQUEST COMMANDER_REJECTED_NEW_ORDER INSUFFICIENT_FUNDS IN_LIQUIDATION INVALID_MARGIN_TYPE
INVALID_LEVERAGE UNTRADABLE_PRODUCT INVALID_FCM_TRADING_SESSION GEOFENCING_RESTRICTION
QUOTE_SIZE_NOT_ALLOWED_FOR_BRACKET INVALID_BRACKET_PRICES MISSING_MARKET_TRADE_DATA
INVALID_BRACKET_LIMIT_PRICE INVALID_BRACKET_STOP_TRIGGER_PRICE BRACKET_LIMIT_PRICE_OUT_OF_BOUNDS
STOP_TRIGGER_PRICE_OUT_OF_BOUNDS BRACKET_ORDER_NOT_SUPPORTED FOK_DISABLED
FOK_ONLY_ALLOWED_ON_LIMIT_ORDERS POST_ONLY_NOT_ALLOWED_WITH_FOK UBO_HIGH_LEVERAGE_QUANTITY_BREACHED
END_TIME_TOO_FAR_IN_FUTURE LIMIT_PRICE_TOO_FAR_FROM_MARKET OPEN_BRACKET_ORDERS
FUTURES_AFTER_HOUR_INVALID_ORDER_TYPE FUTURES_AFTER_HOUR_INVALID_TIME_IN_FORCE
INVALID_ATTACHED_TAKE_PROFIT_PRICE ATTACHED_ORDER_SIZE_MUST_BE_NIL INVALID_SETTLEMENT_CURRENCY
DURATION_TOO_SMALL BUCKET_SIZE_SMALLER_THAN_QUOTE_MIN END_TIME_AFTER_CONTRACT_EXPIRATION
START_TIME_MUST_BE_SPECIFIED ICEBERG_ORDERS_NOT_SUPPORTED END_TIME_IS_IN_THE_PAST
GTD_ORDERS_MUST_HAVE_END_TIME PRICE_NOT_ALLOWED_FOR_MARKET_ORDERS REDUCE_ONLY_NOT_ALLOWED_ON_VENUE
DURATION_TOO_LARGE REDUCE_ONLY_NOT_ALLOWED_ON_SPOT_PRODUCTS
LIMIT_ORDER_PRICE_EXCEEDS_PRICE_BAND_ON_BUY LIMIT_ORDER_PRICE_EXCEEDS_PRICE_BAND_ON_SELL
STOP_ALREADY_TRIGGERED REPLACE_NOT_SUPPORTED ORDER_IS_PENDING_CANCEL POSITION_SIZE_INCREASE_REJECT
ASSET_BALANCE_INCREASE_REJECT TOO_MANY_PENDING_REPLACES SCALED_PARAM_INFEASIBLE
SINGLE_LEGGED_TPSL_NOT_ALLOWED FRACTIONAL_ORDERS_NOT_ALLOWED_FOR_PRODUCT
QUOTE_ORDERS_NOT_ALLOWED_FOR_PRODUCT NBBO_NOT_PROVIDED PRODUCT_TRADING_HALTED TRADING_DISABLED
CANNOT_CLOSE_ZERO_POSITION BREACHED_RISK_LIMIT STOP_LOSS_PRICE_TOO_LOW TAKE_PROFIT_PRICE_TOO_HIGH
MODIFY_POSITION_WORKFLOW_ALREADY_RUNNING RFQ_QUOTE_EXPIRED RFQ_VENUE_REJECTED
A_REASON_THAT_NOBODY_HAS_WRITTEN_DOWN_YET
"""
_PREVIEWS = """
PREVIEW_MISSING_COMMISSION_RATE PREVIEW_INVALID_SIDE PREVIEW_INVALID_ORDER_CONFIG
PREVIEW_INVALID_PRODUCT_ID PREVIEW_MISSING_PRODUCT_PRICE_BOOK PREVIEW_INSUFFICIENT_FUND
PREVIEW_INVALID_BASE_SIZE_TOO_SMALL PREVIEW_BREACHED_PRICE_LIMIT PREVIEW_RISK_PROXY_FAILURE
PREVIEW_NOT_ALLOWED_BY_MARKET_STATE PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE
PREVIEW_COMPLIANCE_PURCHASE_LIMIT_EXCEEDED PREVIEW_PRODUCT_TRADING_HALTED
"""
REASONS, PREVIEWS = _REASONS.split(), _PREVIEWS.split()
U, R = "UNKNOWN_FAILURE_REASON", "UNKNOWN_PREVIEW_FAILURE_REASON"


def answered(reply: Any, status: int = 200, *, creating: bool = True) -> ExchangeError:
    """What a reply means for a request that left."""
    call = Call("create_order", creating=creating, requests=1, sent=1, status=status)
    call.body = json.dumps(reply).encode()
    return classify(RuntimeError(), "coinbase", CODES, call)


def unsuccessful(**told: str) -> dict[str, Any]:
    return {"success": False, "failure_reason": U, "order_id": "", "error_response": told}


@pytest.mark.parametrize("reason", REASONS)
def test_a_named_reason_is_a_no_wherever_it_stands(reason: str) -> None:
    """Whatever the deprecated fields beside it say; and never one that may pass by itself."""
    replies = [
        unsuccessful(error=reason, message="text", new_order_failure_reason=reason),
        unsuccessful(error=U, new_order_failure_reason=reason, preview_failure_reason=R),
        unsuccessful(error=reason, message="", error_details="", preview_failure_reason=R),
        {"success": False, "failure_reason": reason, "order_id": ""},
        {"success": False, "failure_reason": reason, "error_response": {}},
    ]
    for reply in replies:
        found = answered(reply)
        assert (found.outcome, found.transient, found.code) == (Outcome.REFUSED, False, reason)


@pytest.mark.parametrize("reason", PREVIEWS)
def test_a_preview_reason_counts_where_the_orders_own_is_unknown(reason: str) -> None:
    """And not where the order has its own."""
    reply = unsuccessful(error=U, new_order_failure_reason=U, preview_failure_reason=reason)
    found = answered(reply)
    assert (found.outcome, found.transient, found.code) == (Outcome.REFUSED, False, reason)
    own = unsuccessful(error="INVALID_SIDE", preview_failure_reason=reason)
    assert answered(own).code == "INVALID_SIDE"


@pytest.mark.parametrize(
    "reply",
    [
        unsuccessful(error=U, message="?", preview_failure_reason=R),
        unsuccessful(new_order_failure_reason=U),
        unsuccessful(),
        {"success": False},
        {"success": False, "failure_reason": U},
        unsuccessful(error="INTERNAL"),
        unsuccessful(error="DUPLICATE_CLIENT_ORDER_ID"),
        {"error": "UNAVAILABLE"},
        {"code": 14, "message": "down"},
        {"code": 2, "message": "?"},
    ],
)
def test_no_reason_leaves_it_open(reply: dict[str, Any]) -> None:
    """And so does an id that is taken: the first order is there."""
    assert answered(reply).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("reason", REASONS[:3] + PREVIEWS[:3])
def test_an_outage_outweighs_the_reason(reason: str) -> None:
    """Any 5XX leaves it open."""
    assert answered(unsuccessful(error=reason), 503).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ({"error": "unauthorized"}, 401),
        ({"error": "Unauthorized", "message": "no"}, 401),
        ({"error": "A_NEW_NAME"}, 401),
        ({"message": "Unauthorized"}, 401),
        ({}, 401),
        ([], 401),
        ({"code": 16, "message": "no"}, 401),
        ({"code": 401, "message": "no"}, 401),
        ({"errors": [{"id": "authentication_error", "message": "invalid api key"}]}, 401),
        ({"error": "PERMISSION_DENIED"}, 403),
        ({"code": 7, "message": "no"}, 403),
    ],
)
def test_json_with_401_is_about_the_credentials(reply: Any, status: int) -> None:
    """Whatever it says, in any of the forms."""
    found = answered(reply, status)
    assert isinstance(found, CredentialsError)
    assert found.outcome is Outcome.REFUSED


def test_what_is_said_for_people_is_told_whole() -> None:
    """The message and the details, each once."""
    reply = unsuccessful(error="INVALID_SIDE", message="Bad.", error_details="The side is bad.")
    assert str(answered(reply)) == "coinbase create_order: INVALID_SIDE: Bad.: The side is bad."
    same = unsuccessful(error="INVALID_SIDE", message="Bad.", error_details="Bad.")
    assert str(answered(same)) == "coinbase create_order: INVALID_SIDE: Bad."


def test_funds_late_stamps_and_missing_orders_are_told_apart() -> None:
    """By name or by text."""
    assert isinstance(answered(unsuccessful(error="INSUFFICIENT_FUNDS")), InsufficientBalanceError)
    late = {"errors": [{"id": "authentication_error", "message": "request timestamp expired"}]}
    assert isinstance(answered(late, 401), ClockSkewError)
    gone = {"error": "unknown", "error_details": "order with this orderID was not found"}
    assert isinstance(answered(gone, 404, creating=False), OrderNotFoundError)


@pytest.mark.parametrize(
    ("reason", "error", "outcome"),
    [
        ("UNKNOWN_CANCEL_ORDER", OrderNotFoundError, Outcome.REFUSED),
        ("DUPLICATE_CANCEL_REQUEST", OrderNotFoundError, Outcome.REFUSED),
        ("INVALID_CANCEL_REQUEST", ExchangeError, Outcome.REFUSED),
        ("COMMANDER_REJECTED_CANCEL_ORDER", ExchangeError, Outcome.REFUSED),
        ("UNKNOWN_CANCEL_FAILURE_REASON", ExchangeError, Outcome.UNKNOWN),
    ],
)
def test_reasons_of_a_cancellation(
    reason: str, error: type[ExchangeError], outcome: Outcome
) -> None:
    """A row that succeeded has a failure reason too, which says nothing."""
    row = {"success": False, "failure_reason": reason, "order_id": "X-1"}
    found = answered({"results": [row]}, creating=False)
    assert isinstance(found, error)
    assert found.outcome is outcome
    assert CODES.extract({"results": [row | {"success": True}]}) == ("", "")
