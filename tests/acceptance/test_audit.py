"""The audit itself: a sound run has no breach, and every kind of untruth is found.

Without this, runs that end with "no breach" would show nothing.
"""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from tests.acceptance import signals
from tests.acceptance.audit import Audit
from tests.acceptance.fleet import Fleet
from tests.acceptance.signals import Signal
from worker.domain.identity import client_order_id
from worker.domain.position import Position
from worker.domain.position_json import encode_position
from worker.domain.signal import Direction

D = Decimal
SIGNALS: dict[str, Signal] = {
    "a": signals.opening("a", signals.linear(0), expires_at=signals.now(60)),
    "b": signals.opening("b", signals.spot(1)),
    "c": signals.closing("c", signals.linear(0)),
    "d": signals.opening("d", signals.linear(0)),
    "e": signals.opening("e", signals.linear(3)),
    "f": signals.closing("f", signals.linear(4)),
}


def _id(name: str) -> str:
    return client_order_id("main", name, "exit" if name in "cf" else "entry")


def _order(name: str, side: str, *, traded: str = "1", status: str = "FILLED") -> dict[str, Any]:
    signal = SIGNALS[name]
    fee = "0.001" if ":" not in signal["symbol"] else "0"
    return {
        "market": "futures" if ":" in signal["symbol"] else "spot",
        "kind": "order",
        "order_id": ord(name),
        "client_order_id": _id(name),
        "symbol": signal["symbol"].split(":")[0].replace("/", ""),
        "side": side,
        "source": "api",
        "status": status,
        "quantity": "1",
        "executed_quantity": traded,
        "average_price": "100" if traded != "0" else "0",
        "actual_order_id": None,
        "request_timestamp": 1_000,
        "trades": [
            {"trade_id": ord(name), "time": ord(name), "quantity": traded, "commission": fee}
        ] if traded != "0" else [],
    }  # fmt: skip


def _event(name: str, kind: str, side: str = "", traded: str = "1") -> dict[str, Any]:
    return {
        "type": kind,
        "event_id": f"{name}-{kind}",
        "signal_id": name,
        "symbol": SIGNALS[name]["symbol"],
        "side": side,
        "client_order_id": _id(name),
        "terminal": kind != "OrderPlaced",
        "filled_quantity": traded,
        "average_price": "100" if traded != "0" else None,
        "code": "NO_POSITION",
    }


class Run:
    """What a sound run leaves behind, to be tampered with; speaks as far as the audit asks."""

    def __init__(self) -> None:
        self.accepted = [
            _order("a", "BUY"), _order("b", "BUY"), _order("c", "SELL"),
            _order("d", "BUY", traded="0", status="CANCELED"),
        ]  # fmt: skip
        self.orders = [
            _event("a", "OrderPlaced"),
            _event("a", "OrderFilled", "buy"),
            _event("b", "OrderFilled", "buy"),
            _event("c", "OrderFilled", "sell"),
            _event("d", "OrderCancelled", "buy", "0"),
            _event("e", "OrderFailed"),
            _event("f", "SignalCompleted"),
        ]
        self.book: Position | None = Position(
            position_id="p-b",
            exchange="binance",
            symbol=signals.spot(1),
            direction=Direction.LONG,
            quantity=D("0.999"),
            entry_quantity=D(1),
            entry_value=D(100),
            entry_coins=D("0.001"),
            entry_coin_value=D("0.1"),
            opened_at=datetime(2026, 1, 1, tzinfo=UTC),
            signal_id="b",
        )
        self.held = {"positions": {}, "spot": {"C001": {"free": "0.999", "locked": "0"}}}
        self.left = self.unresolved = 0
        self.exchange = self

    def duplicates(self) -> dict[str, Any]:
        return {}

    def balances(self) -> dict[str, Any]:
        return self.held

    def events(self, stream: str = "orders", kind: str = "") -> list[dict[str, Any]]:
        return self.orders if stream == "orders" else []

    def entries(self, stream: str) -> list[dict[str, Any]]:
        return [{"id": one["event_id"]} for one in self.orders] if stream == "orders" else []

    def pending(self) -> int:
        return self.left

    def undelivered(self) -> int:
        return 0

    def ask(self, *words: str) -> Any:
        if words[0] == "HVALS":
            return [encode_position(self.book)] if self.book else []
        return self.unresolved if words[0] == "ZCARD" else 0


class _Exchange:
    """The exchange's side of a run: its list of orders is called as the events' stream is."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def orders(self) -> list[dict[str, Any]]:
        return self._run.accepted

    def duplicates(self) -> dict[str, Any]:
        return self._run.duplicates()

    def balances(self) -> dict[str, Any]:
        return self._run.balances()


def _breaches(run: Run) -> list[str]:
    run.exchange = cast("Run", _Exchange(run))
    return Audit(cast("Fleet", run), SIGNALS).run(max_positions=2).breaches


def test_a_sound_run_has_no_breach() -> None:
    """Filled, closed, cancelled or failed or completed without a fill: all of it is true."""
    assert _breaches(Run()) == []


def _same_id(run: Run) -> None:
    run.accepted.append({**copy.deepcopy(run.accepted[3]), "order_id": 1})


def _another_id(run: Run) -> None:
    run.accepted.append({**copy.deepcopy(run.accepted[3]), "client_order_id": "f" * 32})


def _untold(run: Run) -> None:
    del run.orders[-2]


def _told_twice(run: Run) -> None:
    run.orders.append({**run.orders[-2], "event_id": "other"})


def _written_twice(run: Run) -> None:
    run.orders.insert(0, run.orders[0])


def _failed_yet_traded(run: Run) -> None:
    run.accepted.append(_order("e", "BUY"))


def _failed_yet_open(run: Run) -> None:
    run.accepted.append(_order("e", "BUY", traded="0", status="NEW"))


def _completed_yet_ordered(run: Run) -> None:
    run.accepted.append(_order("f", "SELL"))


def _cancelled_yet_traded(run: Run) -> None:
    run.accepted[3] = _order("d", "BUY", traded="0.5", status="CANCELED")


def _filled_yet_absent(run: Run) -> None:
    del run.accepted[2]


def _filled_in_part(run: Run) -> None:
    run.accepted[0]["quantity"] = "2"


def _wrong_price(run: Run) -> None:
    run.orders[1]["average_price"] = "100.1"


def _wrong_side(run: Run) -> None:
    run.orders[3]["side"] = "buy"


def _book_too_large(run: Run) -> None:
    assert run.book is not None
    run.book = msgspec.structs.replace(run.book, quantity=D(1))


def _unknown_position(run: Run) -> None:
    run.held["positions"] = {"C007USDT": {"amount": "-1"}}


def _out_of_order(run: Run) -> None:
    run.accepted[0], run.accepted[2] = run.accepted[2], run.accepted[0]


def _too_late(run: Run) -> None:
    run.accepted[0]["request_timestamp"] = 9_999_999_999_999


def _pending(run: Run) -> None:
    run.left = 1


def _unresolved(run: Run) -> None:
    run.unresolved = 1


def _too_many_positions(run: Run) -> None:
    for number in (8, 9):
        extra = copy.deepcopy(run.accepted[0])
        run.accepted.append({**extra, "symbol": f"C00{number}USDT"})


@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (_same_id, "2 orders of d"),
        (_another_id, "an order that no signal asked for"),
        (_untold, "signal e has no terminal event"),
        (_told_twice, "signal e has 2 terminal events"),
        (_written_twice, "was written 2 times"),
        (_failed_yet_traded, "failed, yet 1 traded"),
        (_failed_yet_open, "failed, yet it is open"),
        (_completed_yet_ordered, "completed without an order, yet there is one"),
        (_cancelled_yet_traded, "told 0, traded 0.5"),
        (_filled_yet_absent, "no such order at the exchange"),
        (_filled_in_part, "filled only in part"),
        (_wrong_price, "told an average of 100.1"),
        (_wrong_side, "another side"),
        (_book_too_large, "C001/USDT: book 1, exchange 0.999"),
        (_unknown_position, "C007/USDT:USDT: book 0, exchange -1"),
        (_out_of_order, "was accepted after"),
        (_too_late, "a expired at"),
        (_pending, "1 entries are pending"),
        (_unresolved, "1 orders are unresolved"),
        (_too_many_positions, "positions at a time, allowed are 2"),
    ],
)
def test_every_untruth_is_a_breach(tamper: Callable[[Run], None], sentence: str) -> None:
    """One thing wrong in an otherwise sound run: the audit names it."""
    run = Run()
    tamper(run)
    breaches = _breaches(run)
    assert any(sentence in breach for breach in breaches), breaches
