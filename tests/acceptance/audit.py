"""Compares what the workers said happened with what the exchange knows happened.

The exchange's own list of accepted orders is the truth. Everything the workers wrote must follow
from it: no order twice, none unheard of, no outcome that did not happen, a book that adds up.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.acceptance.fleet import Fleet
from tests.acceptance.signals import Signal
from worker.domain.identity import client_order_id
from worker.domain.position_json import read_position
from worker.domain.signal import Direction
from worker.ledger.stored import read_book_row

ZERO = Decimal(0)
_OPEN = frozenset({"NEW", "PARTIALLY_FILLED"})
#: The quantity step of every generated market; what is left below it counts as closed.
_STEP = Decimal("0.001")
#: How much later than its expiry a signal's request may be stamped: reading two clocks.
_EXPIRY_MARGIN_MS = 250


@dataclass
class Tally:
    """What a run came to; ``breaches`` are sentences, none of which may be there."""

    signals: int = 0
    filled: int = 0
    cancelled: int = 0
    failed: int = 0
    completed: int = 0
    dead_letters: int = 0
    orders_accepted: int = 0
    duplicate_orders: int = 0
    lost: int = 0
    false_outcomes: int = 0
    unresolved_seen: int = 0
    unresolved_left: int = 0
    pending_left: int = 0
    most_positions: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The numbers, one a line."""
        return [
            f"{entry.name.replace('_', ' '):<20} {getattr(self, entry.name)}"
            for entry in fields(self)
            if entry.name not in {"codes", "breaches"}
        ]


class Audit:
    """One look at everything, once all is quiet.

    Args:
        fleet: whose streams, book and exchange.
        signals: everything submitted that is a signal, by its id, in stream order.
    """

    def __init__(self, fleet: Fleet, signals: Mapping[str, Signal]) -> None:
        self._fleet = fleet
        self._signals = signals
        self._accepted = fleet.exchange.orders()
        self._by_place = {(o["market"], o["kind"], o["order_id"]): o for o in self._accepted}
        self._orders: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for order in self._accepted:
            if order["source"] == "api":
                self._orders[order["client_order_id"]].append(order)
        self._events = fleet.events()
        self.tally = Tally(signals=len(signals))

    def run(self, *, max_positions: int | None = None) -> Tally:
        """Compare everything; the tally's ``breaches`` say what is wrong."""
        self._check_orders()
        self._check_outcomes()
        self._check_sequence()
        self._check_book()
        self._check_end()
        self.tally.most_positions = self._most_positions()
        if max_positions is not None and self.tally.most_positions > max_positions:
            self._breach(
                f"{self.tally.most_positions} positions at a time, allowed are {max_positions}"
            )
        return self.tally

    def _breach(self, sentence: str) -> None:
        self.tally.breaches.append(sentence)

    def _legs(self) -> dict[str, str]:
        """The signal of each client order id that may exist."""
        return {
            client_order_id("main", name, "exit" if one.get("action") == "close" else "entry"): name
            for name, one in self._signals.items()
        }

    def _check_orders(self) -> None:
        """At most one order a signal leg, none that no signal asked for, none past its expiry."""
        legs = self._legs()
        self.tally.orders_accepted = sum(map(len, self._orders.values()))
        for client_id, orders in self._orders.items():
            if len(orders) > 1:
                self.tally.duplicate_orders += len(orders) - 1
                self._breach(f"{len(orders)} orders of {legs.get(client_id)} ({client_id})")
            if client_id not in legs:
                self._breach(f"an order that no signal asked for: {orders[0]}")
                continue
            expiry_ms = _expiry_ms(self._signals[legs[client_id]])
            for order in orders:
                if order["request_timestamp"] > expiry_ms + _EXPIRY_MARGIN_MS:
                    self._breach(f"{legs[client_id]} expired at {expiry_ms} and was sent: {order}")
        if self._fleet.exchange.duplicates():
            self._breach(f"the exchange lists duplicates: {self._fleet.exchange.duplicates()}")
        named = Counter(e["client_order_id"] for e in self._events if e["type"] == "OrderPlaced")
        for client_id, times in named.items():
            if times > 1:
                self._breach(f"{times} OrderPlaced events of {client_id}")

    def _check_outcomes(self) -> None:
        """Exactly one terminal event a signal, and it tells the truth."""
        ends: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self._events:
            if event.get("terminal") is True:
                ends[event["signal_id"]].append(event)
        repeated = Counter(entry["id"] for entry in self._fleet.entries("orders"))
        for event_id, times in repeated.items():
            if times > 1:
                self._breach(f"event {event_id} was written {times} times")
        for name in ends.keys() - self._signals.keys():
            self._breach(f"events about an unknown signal {name}")
        for name, one in self._signals.items():
            if not ends[name]:
                self.tally.lost += 1
                self._breach(f"signal {name} has no terminal event")
                continue
            if len(ends[name]) > 1:
                self._breach(f"signal {name} has {len(ends[name])} terminal events: {ends[name]}")
            leg = "exit" if one.get("action") == "close" else "entry"
            orders = self._orders[client_order_id("main", name, leg)]
            problem = self._compare(ends[name][0], orders)
            if problem:
                self.tally.false_outcomes += 1
                self._breach(f"{name}: {problem}; event {ends[name][0]}, exchange {orders}")

    def _compare(self, event: dict[str, Any], orders: list[dict[str, Any]]) -> str:
        """What is untrue about a terminal event; empty if nothing is."""
        traded = sum((self._executed(order) for order in orders), ZERO)
        if event["type"] == "SignalCompleted":
            self.tally.completed += 1
            return "completed without an order, yet there is one" if orders else ""
        if event["type"] == "OrderFailed":
            return self._compare_failed(event, orders, traded)
        told = Decimal(event["filled_quantity"])
        if not orders:
            return "no such order at the exchange"
        if told != traded:
            return f"told {told}, traded {traded}"
        if any(map(self._is_open, orders)):
            return "ended, yet it is open"
        if traded and not _near(Decimal(event["average_price"]), self._average(orders[0])):
            return f"told an average of {event['average_price']}, was {self._average(orders[0])}"
        if orders[0]["symbol"] != event["symbol"].split(":")[0].replace("/", ""):
            return f"another symbol: {orders[0]['symbol']}"
        if orders[0]["side"].lower() != event["side"]:
            return f"another side: {orders[0]['side']}"
        if event["type"] == "OrderFilled":
            self.tally.filled += 1
            return "" if traded == Decimal(orders[0]["quantity"]) else "filled only in part"
        self.tally.cancelled += 1
        return ""

    def _compare_failed(
        self, event: dict[str, Any], orders: list[dict[str, Any]], traded: Decimal
    ) -> str:
        self.tally.failed += 1
        self.tally.codes[event["code"]] += 1
        if traded:
            return f"failed, yet {traded} traded"
        return "failed, yet it is open" if any(map(self._is_open, orders)) else ""

    def _working(self, order: dict[str, Any]) -> dict[str, Any]:
        """The order itself, or the one that a conditional order placed."""
        if order["kind"] == "algo" and order["actual_order_id"]:
            return self._by_place["futures", "order", order["actual_order_id"]]
        return order

    def _executed(self, order: dict[str, Any]) -> Decimal:
        return Decimal(self._working(order)["executed_quantity"])

    def _average(self, order: dict[str, Any]) -> Decimal:
        return Decimal(self._working(order)["average_price"])

    def _is_open(self, order: dict[str, Any]) -> bool:
        return order["status"] in _OPEN or self._working(order)["status"] in _OPEN

    def _check_sequence(self) -> None:
        """Orders of one symbol were accepted in the order of their signals on the stream."""
        rank = {name: number for number, name in enumerate(self._signals)}
        legs = self._legs()
        last: dict[tuple[str, str], str] = {}
        for order in self._accepted:
            name = legs.get(order["client_order_id"])
            if name is None:
                continue
            place = order["market"], order["symbol"]
            if place in last and rank[last[place]] >= rank[name]:
                self._breach(f"{place}: {name} was accepted after {last[place]}")
            last[place] = name

    def _check_book(self) -> None:
        """The book's positions are the exchange's."""
        rows = [read_book_row(raw) for raw in self._fleet.ask("HVALS", "{main}:book")]
        if any(row.reservation for row in rows):
            self._breach("the book has reservations")
        book = {
            position.symbol: position
            for position in (read_position(row.position) for row in rows if row.position)
        }
        held = self._fleet.exchange.balances()
        amounts = {
            f"{symbol.removesuffix('USDT')}/USDT:USDT": Decimal(one["amount"])
            for symbol, one in held["positions"].items()
        }
        for asset, one in held["spot"].items():
            if asset != "USDT":
                amounts[f"{asset}/USDT"] = Decimal(one["free"]) + Decimal(one["locked"])
        closes = Counter(
            event["symbol"] for event in self._fleet.events("positions", "PositionClosed")
        )
        for symbol in book.keys() | amounts.keys():
            position = book.get(symbol)
            ours = position.quantity if position else ZERO
            if position and position.direction is Direction.SHORT:
                ours = -ours
            dust = ZERO if ":" in symbol else _STEP * closes[symbol]
            if not 0 <= abs(amounts.get(symbol, ZERO) - ours) <= dust:
                self._breach(f"{symbol}: book {ours}, exchange {amounts.get(symbol, ZERO)}")
        for name in ("leases", "unresolved"):
            if self._fleet.ask("EXISTS", f"{{main}}:{name}"):
                self._breach(f"{name} is not empty")

    def _check_end(self) -> None:
        """Nothing is left pending, unseen or unresolved."""
        self.tally.dead_letters = len(self._fleet.entries("dead"))
        self.tally.pending_left = self._fleet.pending() + self._fleet.undelivered()
        if self.tally.pending_left:
            self._breach(f"{self.tally.pending_left} entries are pending")
        errors = self._fleet.events("system", "SystemError")
        self.tally.unresolved_seen = sum(one["code"] == "ORDER_UNRESOLVED" for one in errors)
        self.tally.unresolved_left = int(self._fleet.ask("ZCARD", "{main}:unresolved"))
        if self.tally.unresolved_left:
            self._breach(f"{self.tally.unresolved_left} orders are unresolved")

    def _most_positions(self) -> int:
        """How many positions were open at a time, by the exchange's own trades."""
        trades = sorted(
            (
                (trade["time"], trade["trade_id"], (order["market"], order["symbol"]), order, trade)
                for order in self._accepted
                for trade in order["trades"]
            ),
            key=lambda row: row[:2],
        )
        held: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        most = 0
        for _, _, place, order, trade in trades:
            amount = Decimal(trade["quantity"])
            if order["side"] == "BUY":
                fee = Decimal(trade["commission"])
                held[place] += amount - (fee if place[0] == "spot" else ZERO)
            else:
                held[place] -= amount
            if abs(held[place]) < _STEP:
                held[place] = ZERO
            most = max(most, sum(1 for left in held.values() if left))
        return most


def _json(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(raw)
    return found


def _expiry_ms(signal: Signal) -> float:
    """When a signal expires, Unix milliseconds; a time no test reaches where it does not say."""
    stated = signal.get("expires_at")
    return datetime.fromisoformat(stated).timestamp() * 1000 if stated else float("inf")


def _near(a: Decimal, b: Decimal) -> bool:
    """Equal but for the last of many digits of a division."""
    return abs(a - b) <= Decimal("1e-12") * max(abs(a), abs(b))
