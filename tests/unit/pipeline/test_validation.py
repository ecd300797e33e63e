"""Validation: just inside each rule passes, just outside is refused with its code and field."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tests.unit.parts import (
    PERPETUAL,
    SPOT,
    START,
    D,
    arrival,
    signal,
)
from worker.config.keys import ValidationConfig
from worker.domain.refusal import Code, Stage
from worker.pipeline.flow import Arrival, Failed, ValidSignal
from worker.pipeline.validation import ValidationHandler

CLOSED = msgspec.structs.replace(SPOT, active=False)
EXACT_EXPIRY = (START + timedelta(milliseconds=1)).isoformat()
LIMIT: dict[str, Any] = {"order_type": "limit", "entry_price": "100"}
STOP: dict[str, Any] = {"order_type": "stop", "stop_price": "100"}
STOP_LIMIT: dict[str, Any] = {"order_type": "stop_limit", "stop_price": "100", "entry_price": "100"}
CLOSE: dict[str, Any] = {
    "action": "close",
    "direction": None,
    "strength": None,
    "confluence_score": None,
}
SHORT: dict[str, Any] = {"direction": "short", "symbol": PERPETUAL.symbol}


def judge(
    fields: dict[str, Any],
    *,
    info: Any = SPOT,
    price: str | None = "100",
    is_quoted: bool = True,
) -> ValidSignal | Failed:
    handler = ValidationHandler(
        ValidationConfig(min_signal_strength=0.5, min_confluence_score=3.0),
        exchanges=["paper", "other"],
        max_size_pct=D(5),
    )
    if fields.get("symbol") == PERPETUAL.symbol and info is SPOT:
        info = PERPETUAL
    case: Arrival = arrival(signal(**fields), info=info, price=price, is_quoted=is_quoted)
    return handler.check(case)


PASSES: dict[str, dict[str, Any]] = {
    "a plain market order": {},
    "a strength at the minimum": {"strength": 0.5},
    "a confluence at the minimum": {"confluence_score": 3.0},
    "a millisecond before its expiry": {"expires_at": EXACT_EXPIRY},
    "a life of a day": {"expires_at": (START + timedelta(days=1)).isoformat()},
    "a clock five seconds ahead": {"created_at": (START + timedelta(seconds=5)).isoformat()},
    "30 s old less a millisecond": {
        "created_at": (START - timedelta(milliseconds=29_999)).isoformat()
    },
    "an old one in the last moment of a day's life": {
        "created_at": (START - timedelta(days=1, milliseconds=-1)).isoformat(),
        "expires_at": EXACT_EXPIRY,
    },
    "a clock ahead, and a day's life from then": {
        "created_at": (START + timedelta(seconds=5)).isoformat(),
        "expires_at": (START + timedelta(days=1, seconds=5)).isoformat(),
    },
    "a price 5% off": {"entry_price": "105"},
    "a price 5% off below": {"entry_price": "95"},
    "a size at the cap": {"size_pct": "5"},
    "the smallest quantity": {"quantity": "0.0001"},
    "the largest quantity": {"quantity": "1000"},
    "a limit order": LIMIT,
    "a limit for this moment": LIMIT | {"time_in_force": "IOC"},
    "a limit until a time": LIMIT | {"time_in_force": "GTD", "good_till": EXACT_EXPIRY},
    "a stop until a time": STOP | {"time_in_force": "GTD", "good_till": "2030-01-01T00:00:00Z"},
    "a stop until cancelled": STOP | {"time_in_force": "GTC"},
    "a limit that only makes": LIMIT | {"post_only": True},
    "a limit that only makes, until a time": LIMIT
    | {"post_only": True, "time_in_force": "GTD", "good_till": EXACT_EXPIRY},
    "a stop order": STOP,
    "a stop-limit": STOP_LIMIT,
    "a stop-limit until cancelled": STOP_LIMIT | {"time_in_force": "GTC"},
    "a stop just below": {"stop_loss": "99.99"},
    "a target just above": {"take_profit": "100.01"},
    "a short perpetual": SHORT | {"stop_loss": "100.01", "take_profit": "99.99"},
    "a close": CLOSE,
    "a close without strength at all": CLOSE | {"quantity": "1"},
    "a limit that rests, its target below the market": LIMIT
    | {"entry_price": "96", "stop_loss": "95", "take_profit": "99"},
    "a trigger the market has reached": STOP,
    "a close's trigger anywhere": CLOSE | STOP | {"stop_price": "1"},
    "protection around a trigger": STOP | {"stop_price": "104", "stop_loss": "101"},
}


@pytest.mark.parametrize("fields", PASSES.values(), ids=PASSES)
def test_just_inside_passes(fields: dict[str, Any]) -> None:
    """The limit itself is allowed."""
    assert isinstance(judge(fields), ValidSignal)


REFUSED: dict[str, tuple[Code, str, dict[str, Any]]] = {
    "expired in a year no other zone has": (
        Code.SIGNAL_EXPIRED,
        "expires_at",
        {"expires_at": "0001-01-01T00:00:00+05:00"},
    ),
    "made in a year no other zone has": (
        Code.SIGNAL_EXPIRED,
        "expires_at",
        {"created_at": "0001-01-01T00:00:00+05:00"},
    ),
    "expired this moment": (Code.SIGNAL_EXPIRED, "expires_at", {"expires_at": START.isoformat()}),
    "expired before it was made": (
        Code.SIGNAL_EXPIRED,
        "expires_at",
        {"expires_at": "2020-01-01T00:00:00Z"},
    ),
    "expired by age": (
        Code.SIGNAL_EXPIRED,
        "expires_at",
        {"created_at": (START - timedelta(seconds=30)).isoformat()},
    ),
    "from a clock too far ahead": (
        Code.SIGNAL_FROM_FUTURE,
        "created_at",
        {"created_at": (START + timedelta(milliseconds=5_001)).isoformat()},
    ),
    "from the end of time": (
        Code.SIGNAL_FROM_FUTURE,
        "created_at",
        {"created_at": "9999-12-31T23:59:59Z"},
    ),
    "a life of over a day": (
        Code.LIFETIME_TOO_LONG,
        "expires_at",
        {"expires_at": (START + timedelta(days=1, milliseconds=1)).isoformat()},
    ),
    "an expiry at the end of time": (
        Code.LIFETIME_TOO_LONG,
        "expires_at",
        {"expires_at": "9999-12-31T23:59:59Z"},
    ),
    "an old one that lives on": (
        Code.LIFETIME_TOO_LONG,
        "expires_at",
        {"created_at": "2020-01-01T00:00:00Z", "expires_at": EXACT_EXPIRY},
    ),
    "a close that outlives everybody": (
        Code.LIFETIME_TOO_LONG,
        "expires_at",
        CLOSE | {"expires_at": "3026-01-01T00:00:00Z"},
    ),
    "no direction": (Code.MISSING_FIELD, "direction", {"direction": None}),
    "no strength": (Code.MISSING_FIELD, "strength", {"strength": None}),
    "no confluence": (Code.MISSING_FIELD, "confluence_score", {"confluence_score": None}),
    "a limit without a price": (Code.MISSING_FIELD, "entry_price", {"order_type": "limit"}),
    "a stop without a trigger": (Code.MISSING_FIELD, "stop_price", {"order_type": "stop"}),
    "a stop-limit without a price": (
        Code.MISSING_FIELD,
        "entry_price",
        {"order_type": "stop_limit", "stop_price": "100"},
    ),
    "a limit close without a price": (
        Code.MISSING_FIELD,
        "entry_price",
        CLOSE | {"order_type": "limit"},
    ),
    "a market order with a trigger": (Code.FIELD_NOT_ALLOWED, "stop_price", {"stop_price": "100"}),
    "a limit with a trigger": (
        Code.FIELD_NOT_ALLOWED,
        "stop_price",
        LIMIT | {"stop_price": "100"},
    ),
    "an immediate stop": (Code.FIELD_NOT_ALLOWED, "time_in_force", STOP | {"time_in_force": "IOC"}),
    "an all-or-nothing stop-limit": (
        Code.FIELD_NOT_ALLOWED,
        "time_in_force",
        STOP_LIMIT | {"time_in_force": "FOK"},
    ),
    "until a time that is not said": (
        Code.MISSING_FIELD,
        "good_till",
        LIMIT | {"time_in_force": "GTD"},
    ),
    "until cancelled, and a time": (
        Code.FIELD_NOT_ALLOWED,
        "good_till",
        LIMIT | {"time_in_force": "GTC", "good_till": EXACT_EXPIRY},
    ),
    "a time for a default time in force": (
        Code.FIELD_NOT_ALLOWED,
        "good_till",
        STOP | {"good_till": EXACT_EXPIRY},
    ),
    "a market order until a time": (
        Code.FIELD_NOT_ALLOWED,
        "time_in_force",
        {"time_in_force": "GTD", "good_till": EXACT_EXPIRY},
    ),
    "a close until a time": (
        Code.FIELD_NOT_ALLOWED,
        "time_in_force",
        CLOSE | LIMIT | {"time_in_force": "GTD", "good_till": EXACT_EXPIRY},
    ),
    "until a time that has come": (
        Code.SIGNAL_EXPIRED,
        "good_till",
        LIMIT | {"time_in_force": "GTD", "good_till": START.isoformat()},
    ),
    "a market order that only makes": (Code.FIELD_NOT_ALLOWED, "post_only", {"post_only": True}),
    "a stop that only makes": (Code.FIELD_NOT_ALLOWED, "post_only", STOP | {"post_only": True}),
    "a stop-limit that only makes": (
        Code.FIELD_NOT_ALLOWED,
        "post_only",
        STOP_LIMIT | {"post_only": True},
    ),
    "an immediate one that only makes": (
        Code.FIELD_NOT_ALLOWED,
        "post_only",
        LIMIT | {"post_only": True, "time_in_force": "IOC"},
    ),
    "two sizes": (Code.FIELD_NOT_ALLOWED, "size_pct", {"quantity": "1", "size_pct": "1"}),
    "a strength under the minimum": (Code.STRENGTH_TOO_LOW, "strength", {"strength": 0.49}),
    "a confluence under the minimum": (
        Code.CONFLUENCE_TOO_LOW,
        "confluence_score",
        {"confluence_score": 2.99},
    ),
    "a size over the cap": (Code.SIZE_OUT_OF_RANGE, "size_pct", {"size_pct": "5.01"}),
    "an exchange nobody configured": (
        Code.UNKNOWN_EXCHANGE,
        "exchange",
        {"exchange": "mtgox"},
    ),
    "a price over 5% off": (Code.PRICE_DEVIATION, "entry_price", {"entry_price": "105.01"}),
    "a price over 5% off below": (Code.PRICE_DEVIATION, "entry_price", {"entry_price": "94.99"}),
    "too small a quantity": (Code.QUANTITY_OUT_OF_RANGE, "quantity", {"quantity": "0.00009"}),
    "too large a quantity": (Code.QUANTITY_OUT_OF_RANGE, "quantity", {"quantity": "1000.0001"}),
    "a short spot": (Code.SHORT_NOT_SUPPORTED, "direction", {"direction": "short"}),
    "a stop at the price": (Code.STOP_LOSS_WRONG_SIDE, "stop_loss", {"stop_loss": "100"}),
    "a stop above a long": (Code.STOP_LOSS_WRONG_SIDE, "stop_loss", {"stop_loss": "101"}),
    "a stop below a short": (
        Code.STOP_LOSS_WRONG_SIDE,
        "stop_loss",
        SHORT | {"stop_loss": "99"},
    ),
    "a target at the price": (Code.TAKE_PROFIT_WRONG_SIDE, "take_profit", {"take_profit": "100"}),
    "a target below a long": (Code.TAKE_PROFIT_WRONG_SIDE, "take_profit", {"take_profit": "99"}),
    "a target above a short": (
        Code.TAKE_PROFIT_WRONG_SIDE,
        "take_profit",
        SHORT | {"take_profit": "101"},
    ),
    "a stop above where the market would fill": (
        Code.STOP_LOSS_WRONG_SIDE,
        "stop_loss",
        {"entry_price": "104.9", "stop_loss": "103"},
    ),
    "a target below where the market would fill": (
        Code.TAKE_PROFIT_WRONG_SIDE,
        "take_profit",
        {"entry_price": "96", "take_profit": "99"},
    ),
    "a stop above where a limit would fill": (
        Code.STOP_LOSS_WRONG_SIDE,
        "stop_loss",
        LIMIT | {"entry_price": "104", "stop_loss": "103"},
    ),
    "a trigger the market has passed": (
        Code.STOP_PRICE_PASSED,
        "stop_price",
        STOP | {"stop_price": "99.99"},
    ),
    "a short's trigger the market has passed": (
        Code.STOP_PRICE_PASSED,
        "stop_price",
        SHORT | STOP | {"stop_price": "100.01"},
    ),
    "a close by a share of the balance": (
        Code.FIELD_NOT_ALLOWED,
        "size_pct",
        CLOSE | {"size_pct": "2"},
    ),
    "a stop beyond its own trigger": (
        Code.STOP_LOSS_WRONG_SIDE,
        "stop_loss",
        STOP | {"stop_price": "98", "stop_loss": "99"},
    ),
}


@pytest.mark.parametrize(("code", "field", "fields"), REFUSED.values(), ids=REFUSED)
def test_just_outside_is_refused(code: Code, field: str, fields: dict[str, Any]) -> None:
    """With the rule's code, and a sentence that begins with the field at fault."""
    ended = judge(fields)
    assert isinstance(ended, Failed)
    assert ended.refusal.code is code
    assert ended.refusal.stage is Stage.VALIDATION
    assert ended.refusal.reason.startswith(f"{field}: ")
    assert ended.refusal.attempts == 0
    assert ended.order is None


@pytest.mark.parametrize(
    ("market", "code"),
    [
        ({"info": None}, Code.UNKNOWN_SYMBOL),
        ({"info": CLOSED}, Code.MARKET_CLOSED),
        ({"price": None}, Code.NO_REFERENCE_PRICE),
    ],
)
def test_a_market_must_exist_trade_and_have_a_price(market: dict[str, Any], code: Code) -> None:
    """Each absence has its own code and names the symbol field."""
    ended = judge({}, **market)
    assert isinstance(ended, Failed)
    assert ended.refusal.code is code
    assert ended.refusal.reason.startswith("symbol: ")


@pytest.mark.parametrize("action", [{}, CLOSE])
def test_a_market_that_takes_only_limit_orders_takes_no_others(action: dict[str, Any]) -> None:
    """Neither to open nor to close; the sentence has the exchange's mode in it."""
    limited = msgspec.structs.replace(SPOT, limit_only=True, restriction="it is in limit_only mode")
    for kind in ({}, STOP | {"stop_price": "103"}):
        ended = judge(action | kind, info=limited)
        assert isinstance(ended, Failed)
        assert ended.refusal.code is Code.MARKET_CLOSED
        assert ended.refusal.reason.startswith("order_type: ")
        assert "limit_only mode" in ended.refusal.reason
    assert isinstance(judge(action | LIMIT | {"entry_price": "100"}, info=limited), ValidSignal)


def test_why_a_market_does_not_trade_is_said_where_it_is_known() -> None:
    """In the exchange's words."""
    closed = msgspec.structs.replace(CLOSED, restriction="it is in cancel_only mode")
    for action in ({}, CLOSE, LIMIT | {"entry_price": "100"}):
        ended = judge(action, info=closed)
        assert isinstance(ended, Failed)
        assert ended.refusal.code is Code.MARKET_CLOSED
        assert ended.refusal.reason.endswith(" does not trade now: it is in cancel_only mode")


def test_a_close_does_not_fail_for_want_of_a_price() -> None:
    """Getting out matters more than knowing the slippage."""
    assert isinstance(judge(CLOSE, price=None), ValidSignal)


@pytest.mark.parametrize(
    ("fields", "reference"),
    [
        ({}, "100"),
        ({"entry_price": "101"}, "101"),
        (LIMIT | {"entry_price": "99"}, "99"),
        (CLOSE | {"entry_price": "250"}, "250"),
        (CLOSE, "100"),
        (STOP | {"stop_price": "103"}, "103"),  # a stop trades at its trigger
        (STOP | {"stop_price": "103", "entry_price": "102"}, "102"),
        (CLOSE | STOP | {"stop_price": "97"}, "97"),
    ],
)
def test_the_reference_is_the_signals_price_or_the_markets(
    fields: dict[str, Any], reference: str
) -> None:
    """It is what size and slippage are measured by."""
    valid = judge(fields)
    assert isinstance(valid, ValidSignal)
    assert valid.reference == D(reference)


def test_no_trigger_is_judged_by_a_price_that_a_signal_stated() -> None:
    """A simulated market stands where the signal says: for a stop-limit at its limit."""
    fields = STOP_LIMIT | {"entry_price": "100.5"}
    for is_quoted in (False, True):
        ended = judge(fields, price="100.5", is_quoted=is_quoted)
        assert isinstance(ended, ValidSignal) is not is_quoted


def test_the_first_broken_rule_is_the_one_told() -> None:
    """Time before form before quality: one sentence, not a list."""
    worst = {"expires_at": START.isoformat(), "strength": None, "exchange": "mtgox"}
    ended = judge(worst, info=None)
    assert isinstance(ended, Failed)
    assert ended.refusal.code is Code.SIGNAL_EXPIRED
