"""Bad signals: each ends where its sender can see why, and the worker goes on trading."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance import signals
from tests.acceptance.audit import Audit
from tests.acceptance.fleet import Fleet
from tests.acceptance.signals import Signal

SYMBOL = signals.linear(0)

Spoil = Callable[[Signal], Signal | str | bytes]


def _with(**fields: Any) -> Spoil:
    return lambda good: good | fields


def _without(name: str) -> Spoil:
    return lambda good: {key: value for key, value in good.items() if key != name}


def _raw(old: str, new: str) -> Spoil:
    """JSON that Python's own encoder would not write."""
    return lambda good: json.dumps(good | {"metadata": None}).replace(old, new)


#: What is not a signal at all: name, how it is spoilt, the field and the rule its error must name.
UNREADABLE: list[tuple[str, Spoil, tuple[str, ...]]] = [
    ("not JSON", lambda _: "{broken", ("data: ", "not a JSON object")),
    ("not an object", lambda _: "[1, 2]", ("data: ", "object")),
    ("not UTF-8", lambda _: b'{"signal_id": "\xff\xfe"}', ("data: ", "not a JSON object")),
    ("empty", lambda _: "", ("data: ", "not a JSON object")),
    ("unknown field", _with(stop_los="55"), ("stop_los: ", "did you mean stop_loss?")),
    ("NaN price", _with(entry_price="NaN"), ("entry_price: ", "not a finite decimal")),
    ("bare NaN", _raw('"quantity": "1"', '"quantity": NaN'), ("data: ", "not a JSON object")),
    ("infinite", _with(take_profit="Infinity"), ("take_profit: ", "not a finite decimal")),
    ("negative", _with(quantity="-1"), ("quantity: ", "greater than 0")),
    ("absurd", _with(quantity="1e400"), ("quantity: ", "outside 1e-18..1e18")),
    ("naive time", _with(created_at="2026-01-01T00:00:00"), ("created_at: ", "with its zone")),
    ("no time", _with(created_at="yesterday"), ("created_at: ", "date and time")),
    ("wrong type", _with(strength="strong"), ("strength: ", '"strong" is not a number')),
    ("out of range", _with(strength=1.5), ("strength: ", "from 0 to 1")),
    ("wrong word", _with(direction="up"), ("direction: ", '"up" is not one of')),
    ("bad id", _with(signal_id="a b"), ("signal_id: ", "1 to 64 letters")),
    ("no id", _without("signal_id"), ("signal_id: ", "missing")),
    ("metadata of 5 KiB", _with(metadata={"x": "y" * 5_120}), ("metadata: ", "4096 allowed")),
    ("68 kB", lambda good: json.dumps(good) + " " * 68_000, ("data: ", "65536")),
]
#: What is a signal and may not trade: name, how it is spoilt, code, what its reason must name.
REFUSED: list[tuple[str, Spoil, str, tuple[str, ...]]] = [
    ("no direction", _without("direction"), "MISSING_FIELD", ("direction: ", "required")),
    ("no strength", _without("strength"), "MISSING_FIELD", ("strength: ", "required")),
    ("limit without price", _with(order_type="limit"), "MISSING_FIELD", ("entry_price: ",)),
    ("wrong-side stop", _with(stop_loss="999999"), "STOP_LOSS_WRONG_SIDE",
     ("stop_loss: 999999 must be below the price",)),
    ("wrong-side target", _with(take_profit="0.01"), "TAKE_PROFIT_WRONG_SIDE",
     ("take_profit: 0.01 must be above the price",)),
    ("unknown symbol", _with(symbol="NOPE/USDT"), "UNKNOWN_SYMBOL",
     ("symbol: ", "lists no market 'NOPE/USDT'")),
    ("unknown exchange", _with(exchange="mtgox"), "UNKNOWN_EXCHANGE",
     ("exchange: 'mtgox'", "validation.valid_exchanges")),
    ("expired", lambda good: good | {"created_at": signals.now(-3_600)}, "SIGNAL_EXPIRED",
     ("expires_at: ", "expired at")),
    ("expired by its own word", lambda good: good | {"expires_at": signals.now(-1)},
     "SIGNAL_EXPIRED", ("expires_at: ",)),
    ("from the future", lambda good: good | {"created_at": signals.now(600)},
     "SIGNAL_FROM_FUTURE", ("created_at: ", "ahead of")),
    ("too weak", _with(confluence_score=1), "CONFLUENCE_TOO_LOW",
     ("confluence_score: 1 ", "validation.min_confluence_score")),
    ("price far off", _with(entry_price="1"), "PRICE_DEVIATION",
     ("entry_price: ", "validation.max_price_deviation_pct")),
    ("too small", _with(quantity="0.0001"), "QUANTITY_OUT_OF_RANGE",
     ("quantity: ", "the market's minimum")),
    ("too large", _with(quantity="8000000"), "POSITION_TOO_LARGE",
     ("quantity ", "risk.max_position_size_pct")),
    ("both sizes", _with(size_pct="1"), "FIELD_NOT_ALLOWED", ("size_pct: ", "not both")),
    ("short on spot", _with(direction="short", symbol=signals.spot(0)), "SHORT_NOT_SUPPORTED",
     ("direction: ", "cannot be sold short")),
    ("stop without type", _with(stop_price="1"), "FIELD_NOT_ALLOWED", ("stop_price: ",)),
    ("nothing to close", lambda good: signals.closing(good["signal_id"], good["symbol"]),
     "NO_POSITION", ("symbol: no position",)),
]  # fmt: skip


@pytest.mark.slow
def test_each_bad_signal_is_accounted_for_and_the_next_good_one_trades(fleet: Fleet) -> None:
    """A dead letter or an ``OrderFailed`` names field and rule; a good signal follows each.

    Bad and good ones are of one message group, so each good one shows that the bad one before it
    neither stopped the worker nor kept its symbol. Dead letters keep the bytes as they came.
    """
    fleet.start().until_ready()
    made: dict[str, Signal] = {}
    written: list[bytes] = []

    def good(number: int) -> None:
        name = f"g{number:03d}"
        make = signals.closing if number % 2 else signals.opening
        made[name] = make(name, SYMBOL)
        fleet.push(data=json.dumps(made[name]), key="one")

    def spoilt(name: str, spoil: Spoil) -> bytes:
        bad = spoil(signals.opening(name, signals.linear(1)))
        if isinstance(bad, dict):
            bad = json.dumps(bad)
        data = bad if isinstance(bad, bytes) else bad.encode()
        fleet.push(data=data, key="one")
        return data

    good(0)
    for number, (_, spoil, _) in enumerate(UNREADABLE, start=1):
        written.append(spoilt(f"u{number}", spoil))
        good(number)
    fleet.push(nonsense="no data at all", key="one")
    fleet.push(type="SomethingElse", data="{}", key="one")
    for number, (_, refused, _, _) in enumerate(REFUSED, start=len(UNREADABLE) + 1):
        spoilt(f"r{number}", refused)
        good(number)

    refusals = {f"r{number}": row for number, row in enumerate(REFUSED, start=len(UNREADABLE) + 1)}
    ends = fleet.until_ended([*made, *refusals])
    assert {ends[name]["type"] for name in made} == {"OrderFilled"}
    for name, (what, _, code, phrases) in refusals.items():
        end = ends[name]
        assert (end["type"], end.get("code")) == ("OrderFailed", code), (what, end)
        assert all(phrase in end["reason"] for phrase in phrases), (what, end["reason"])
        assert end["reason"].startswith(phrases[0].split(" ")[0]), (what, end["reason"])

    letters = fleet.until_dead(len(UNREADABLE) + 2)
    assert len(letters) == len(UNREADABLE) + 2
    raw = [fields for _, fields in fleet.ask("XRANGE", "{main}:dead", "-", "+")]
    for (what, _, phrases), letter, fields, data in zip(
        UNREADABLE, letters, raw, written, strict=False
    ):
        assert letter["reason"] == "malformed", (what, letter)
        assert all(phrase in letter["error"] for phrase in phrases), (what, letter["error"])
        assert fields[b"data"] == data, what
    assert [letter["error"] for letter in letters[-2:]] == [
        "data: the entry has no such field",
        "type: 'SomethingElse' is not 'TradingSignalGenerated'",
    ]
    fleet.until_quiet()
    tally = Audit(fleet, made | {name: {"action": "open"} for name in refusals}).run()
    assert tally.breaches == []
    assert tally.orders_accepted == len(made)
