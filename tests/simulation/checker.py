"""The promises, held against the ground truth at every step of a run and once more at its end."""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from tests.simulation.steps import Inspection, SimulatedAccount, Step
from tests.simulation.story import Story
from tests.simulation.trace import Trace
from tests.simulation.venue import Accepted, Venue
from worker.domain.identity import client_order_id
from worker.domain.money import ZERO
from worker.domain.order import TERMINAL as OVER
from worker.domain.order import OrderRequest, OrderState, Role
from worker.domain.position_json import read_position
from worker.domain.signal import Direction, MalformedSignalError, decode_signal
from worker.pipeline.permissions import PERMISSION_TTL_MS

ACCOUNT: Final = "main"
TERMINAL: Final = frozenset({"OrderFilled", "OrderCancelled", "OrderFailed", "SignalCompleted"})
#: How far a worker's wall clock may be off in a run, milliseconds.
MAX_SKEW_MS: Final = 300
#: Keys that may remain once everything is finished.
_LASTING: Final = frozenset(
    {
        "signals", "orders", "positions", "system", "dead", "control", "epoch", "bell", "book",
        "exposure", "totals", "realized", "workers", "keeper", "said", "sheet",
        "throttle", "watched", "turn-token",
    }
)  # fmt: skip


#: The first parts of keys that expire.
_EXPIRING: Final = frozenset({"record", "rate", "day", "applied"})
#: Every leg that a signal's orders can have: closes of more than one order come in pieces.
LEGS: Final = (Role.ENTRY, Role.EXIT, *(f"{Role.EXIT}.{piece}" for piece in range(2, 12)))


class Entry(msgspec.Struct, kw_only=True):
    """One entry on the stream; ``signal_id`` is empty where it is no signal."""

    entry_id: str
    signal_id: str
    group: str
    fields: dict[str, bytes]
    finished: bool = False

    @property
    def data(self) -> bytes:
        """The payload."""
        return self.fields.get("data", b"")


class Checker:
    """Collects violations, a sentence each; an empty list is a run that kept every promise.

    Args:
        story: the run's input.
        venue: the ground truth.
        account: the ledger's side.
        now_ms: the true time, Unix milliseconds.
        trace: told of what is seen.
    """

    def __init__(
        self,
        story: Story,
        venue: Venue,
        account: SimulatedAccount,
        now_ms: Callable[[], int],
        trace: Trace,
    ) -> None:
        self._story = story
        self._venue = venue
        self._account = account
        self._now_ms = now_ms
        self._trace = trace
        self.violations: list[str] = []
        self.entries: dict[str, Entry] = {}
        self._groups: dict[str, list[Entry]] = {}
        self._signal_of: dict[str, str] = {}
        self._expiry_ms: dict[str, int] = {}
        self._event_ids: set[str] = set()
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._dead: dict[str, str] = {}
        self._dead_again = False
        self._state = "ACTIVE"
        self._state_since_ms = 0
        #: By signal: when its opening was first admitted.
        self._openings_ms: dict[str, int] = {}
        #: Set by a failover: what was reserved or leased before it need not be known any more.
        self.lost_writes_ms = 0
        self.accepted_under: dict[str, str] = {}

    def violate(self, sentence: str) -> None:
        """A promise is broken."""
        self._trace.note("CHECK", "VIOLATION", sentence)
        self.violations.append(sentence)

    # -- input ---------------------------------------------------------------------------------

    def produced(self, entry_id: str, fields: Mapping[str, bytes]) -> None:
        """An entry was put on the stream."""
        data = fields.get("data", b"")
        group = fields.get("key", b"").decode()
        signal_id = ""
        try:
            signal = decode_signal(data)
        except MalformedSignalError:
            group = group or f"!{entry_id}"
        else:
            signal_id = signal.signal_id
            group = group or f"{signal.exchange}:{signal.symbol}"
            for leg in LEGS:
                self._signal_of[client_order_id(ACCOUNT, signal_id, leg)] = signal_id
            age_ms = self._story.config.validation.max_signal_age_seconds * 1000
            expiry_ms = int(signal.expires_ms(signal.created_ms, age_ms))
            # Under one id the latest expiry of all contents bounds when its order may be sent.
            self._expiry_ms[signal_id] = max(expiry_ms, self._expiry_ms.get(signal_id, 0))
        entry = Entry(entry_id=entry_id, signal_id=signal_id, group=group, fields=dict(fields))
        self.entries[entry_id] = entry
        self._groups.setdefault(group, []).append(entry)

    # -- the exchange --------------------------------------------------------------------------

    def on_send(self, worker: str, request: OrderRequest) -> None:
        """A worker has decided to send an order."""
        now_ms = self._now_ms()
        signal_id = self._signal_of.get(request.client_order_id, "?")
        self._trace.note(worker, "sends", signal_id, request.side, request.quantity, request.symbol)
        if now_ms > self._expiry_ms.get(signal_id, 0) + MAX_SKEW_MS:
            self.violate(f"{worker} sends {signal_id} after its expiry")
        if self._forbidden(request) and now_ms - self._state_since_ms > PERMISSION_TTL_MS:
            self.violate(
                f"{worker} sends {signal_id} although the account is {self._state} for "
                f"{now_ms - self._state_since_ms} ms"
            )

    def _forbidden(self, request: OrderRequest) -> bool:
        return self._state == "HALTED" or (self._state == "REDUCING" and request.role is Role.ENTRY)

    def on_accept(self, order: Accepted) -> None:
        """The exchange has taken an order."""
        request, now_ms = order.request, self._now_ms()
        signal_id = self._signal_of.get(request.client_order_id, "?")
        self._trace.note("venue", "accepts", signal_id, request.side, request.quantity,
                         "from", order.worker, "#", order.exchange_order_id)  # fmt: skip
        window_ms = self._story.config.exchanges["sim"].recv_window_ms
        same = [
            other
            for other in self._venue.accepted
            if other.request.client_order_id == request.client_order_id
        ]
        if len(same) > 1:
            self.violate(f"{signal_id}: {len(same)} orders accepted for one leg")
        slack_ms = window_ms + MAX_SKEW_MS
        if now_ms > self._expiry_ms.get(signal_id, 0) + slack_ms:
            self.violate(f"{signal_id}: accepted after its expiry")
        halted_ms = now_ms - self._state_since_ms
        if self._forbidden(request) and halted_ms > PERMISSION_TTL_MS + slack_ms:
            self.violate(f"{signal_id}: accepted, {self._state} for {halted_ms} ms")
        if not self.lost_writes_ms:
            self._check_lease(order, signal_id)
            self._check_exposure_there()

    def _check_lease(self, order: Accepted, signal_id: str) -> None:
        entry_id = self._account.record_entry(signal_id)
        self.accepted_under[signal_id] = entry_id
        holder, expires_ms = self._account.holder(entry_id)
        # Nobody's: given back in doubt, and on hold for as long as the request may still land.
        if holder not in {order.worker, ""}:
            self.violate(f"{signal_id}: accepted from {order.worker}, the lease is {holder!r}'s")
        elif expires_ms <= self._account.now_ms():
            self.violate(f"{signal_id}: accepted from {order.worker} after its lease")
        entry = self.entries.get(entry_id)
        if entry is None:
            self.violate(f"{signal_id}: accepted without a record")
            return
        for earlier in self._groups[entry.group]:
            if earlier is entry:
                break
            if not earlier.finished:
                self.violate(f"{signal_id}: accepted before {earlier.entry_id} of its group ended")

    def _check_exposure_there(self) -> None:
        """Positions and open entries at the exchange itself, within the limit on positions."""
        now_s = self._venue._now_s()
        busy = {
            order.request.symbol
            for order in self._venue.accepted
            if order.request.role is Role.ENTRY and order.state(now_s) not in OVER
        }
        busy |= {symbol for symbol in self._symbols() if self._venue.net(symbol)}
        limit = self._story.config.risk.max_concurrent_positions
        if len(busy) > limit:
            self.violate(f"{len(busy)} positions at the exchange, {limit} allowed")

    def _symbols(self) -> list[str]:
        return list(dict.fromkeys(order.request.symbol for order in self._venue.accepted))

    # -- the ledger ----------------------------------------------------------------------------

    def on_step(self, step: Step, seen: Inspection | None) -> None:
        """A script has run, or what does its work in memory."""
        if step.name not in _SILENT:
            self._trace.note(step.who, step.name, step.text)
        self._look_at(step)
        if seen is None:
            return
        for entry_id in step.ended:
            self._on_ended(entry_id)
        if step.name in {"commit", "apply"}:
            self._check_rows()
        for letter_id, fields in seen.dead:
            self._on_dead(letter_id, fields)
        for _, fields in seen.orders:
            self._on_event("orders", fields)
        for _, fields in seen.positions:
            self._on_event("positions", fields)
        for _, fields in seen.system:
            self._on_event("system", fields)
        self._check_limits(seen)

    def _look_at(self, step: Step) -> None:
        """Check what was granted, admitted and set."""
        for entry_id in step.surplus:
            self._on_surplus(entry_id)
        if step.stranded and not self.lost_writes_ms:
            self.violate(f"{step.stranded} positions with a live order that nobody would look at")
        if step.name == "control":
            self._on_control(step.state)
        for signal in step.opened:
            self._on_opened(signal)

    def _on_control(self, state: str) -> None:
        if state != self._state:
            self._state, self._state_since_ms = state, self._now_ms()

    def lose_writes(self, state: str) -> list[dict[str, bytes]]:
        """The last writes are gone: start again from what Redis holds now.

        Returns:
            The entries that are no longer on the stream, for their producers to put there again.
        """
        self.lost_writes_ms = self._now_ms()
        self._event_ids.clear()
        self._events.clear()
        self._dead.clear()
        self._on_control(state)
        known, unfinished = self._account.unfinished()
        lost = [entry for entry in self.entries.values() if entry.entry_id not in known]
        for entry in lost:
            del self.entries[entry.entry_id]
            self._groups[entry.group].remove(entry)
        for entry in self.entries.values():
            entry.finished = entry.entry_id not in unfinished
        return [entry.fields for entry in lost]

    def lost_group(self) -> None:
        """Every entry will be delivered again: ended ones are found to be, dead ones die again."""
        self._dead_again = True

    def _on_surplus(self, entry_id: str) -> None:
        """The surplus of a group is no longer of that group: it only comes to its end."""
        entry, own = self.entries.get(entry_id), f"!*{entry_id}"
        if entry is not None and entry.group != own:
            self._trace.note("CHECK", entry.entry_id, "is surplus of", entry.group)
            self._groups[entry.group].remove(entry)
            entry.group, self._groups[own] = own, [entry]

    def _on_opened(self, signal: str) -> None:
        risk = self._story.config.risk
        if signal in self._openings_ms:
            return
        at_ms = self._openings_ms[signal] = self._account.now_ms()
        count = sum(at_ms - one_ms < 60_000 for one_ms in self._openings_ms.values())
        limit = 0 if self.lost_writes_ms else risk.max_orders_per_minute
        if limit and count > limit:
            self.violate(f"{count} openings admitted within 60 seconds")

    def _on_ended(self, entry_id: str) -> None:
        entry = self.entries.get(entry_id)
        if entry is None or entry.finished:
            return
        entry.finished = True
        for earlier in self._groups[entry.group]:
            if earlier is entry:
                break
            if not earlier.finished:
                self.violate(f"{entry.entry_id} ended before {earlier.entry_id} of its group")

    def _check_rows(self) -> None:
        """Every order that is open at the exchange though its entry has ended has a row."""
        if self.lost_writes_ms:
            return
        for order in self._venue.accepted:
            client_id = order.request.client_order_id
            signal_id = self._signal_of.get(client_id, "?")
            if order.state(self._venue._now_s()) in OVER:
                continue
            entry = self.entries.get(self.accepted_under.get(signal_id, ""))
            if entry is None or not entry.finished:
                continue
            if not self._account.has_order(client_id):
                self.violate(f"{signal_id}: open at the exchange, and no row of it is left")

    def _on_dead(self, entry_id: bytes, fields: Mapping[bytes, bytes]) -> None:
        subject = fields[b"entry_id"].decode()
        if subject in self._dead and not self._dead_again:
            self.violate(f"{subject}: two dead letters ({entry_id.decode()})")
        self._dead[subject] = fields[b"reason"].decode()
        if fields.get(b"data", b"") != self.entries[subject].data:
            self.violate(f"{subject}: the dead letter is not the entry")

    def _on_event(self, stream: str, fields: Mapping[bytes, bytes]) -> None:
        identity, kind = fields[b"id"].decode(), fields[b"type"].decode()
        if identity in self._event_ids:
            self.violate(f"{stream}: event {identity} written twice")
        self._event_ids.add(identity)
        signal_id = fields[b"subject"].decode()
        event = json.loads(fields[b"data"])
        self._trace.note("event", kind, signal_id, event.get("code", ""),
                         event.get("filled_quantity", ""), event.get("reason", ""))  # fmt: skip
        if stream != "orders":
            return
        before = self._events.setdefault(signal_id, [])
        if any(one["type"] in TERMINAL for one in before):
            self.violate(f"{signal_id}: {kind} after {before[-1]['type']}")
        if kind in {"OrderFilled", "OrderCancelled", "OrderPartiallyFilled"} and not before:
            self.violate(f"{signal_id}: {kind} without OrderPlaced")
        amounts = [
            Decimal(one["filled_quantity"])
            for one in (*before, event)
            if one["type"] == "OrderPartiallyFilled"
            and one["client_order_id"] == event.get("client_order_id")
        ]
        if amounts != sorted(amounts):
            self.violate(f"{signal_id}: {kind}, and less is filled than an earlier event said")
        before.append(event)
        if kind in TERMINAL:
            self._check_outcome(signal_id, event)

    def _check_lines(self) -> None:
        """No opening is turned away while there is room, and no close at all."""
        for signal_id, events in self._events.items():
            for event in events:
                if (
                    event.get("code") == "GROUP_FULL"
                    and self._story.config.worker.max_group_waiting > 3
                ):
                    self.violate(f"{signal_id}: GROUP_FULL with room for all")

    def _check_outcome(self, signal_id: str, event: Mapping[str, Any]) -> None:
        """What is reported must be what the exchange knows."""
        now_s = self._venue._now_s()
        orders = [
            order
            for order in self._venue.accepted
            if self._signal_of.get(order.request.client_order_id) == signal_id
        ]
        filled = sum((order.filled(now_s) for order in orders), ZERO)
        ended = all(order.state(now_s) in OVER for order in orders)
        kind = event["type"]
        if kind == "SignalCompleted":
            if orders:
                self.violate(f"{signal_id}: SignalCompleted, yet there is an order of it")
            return
        if kind == "OrderFailed":
            refused = all(order.state(now_s) is OrderState.REJECTED for order in orders)
            if filled or not refused:
                self.violate(f"{signal_id}: OrderFailed ({event['code']}), yet the order exists")
            return
        if not orders or not ended:
            self.violate(f"{signal_id}: {kind}, yet the order is {'open' if orders else 'unknown'}")
            return
        if Decimal(event["filled_quantity"]) != filled:
            self.violate(f"{signal_id}: {kind} {event['filled_quantity']}, {filled} traded")
        ordered = sum((order.request.quantity for order in orders), ZERO)
        if kind == "OrderFilled" and filled != ordered:
            self.violate(f"{signal_id}: OrderFilled, {filled} of {ordered}")

    def _check_limits(self, seen: Inspection) -> None:
        limit = self._story.config.risk.max_concurrent_positions
        taken = seen.open_positions + seen.opening
        if taken > limit and not self.lost_writes_ms:
            self.violate(f"{taken} positions open or reserved, {limit} allowed")
        if seen.totals < 0:
            self.violate(f"the account's exposure is {seen.totals} millionths")

    # -- the end -------------------------------------------------------------------------------

    @property
    def unfinished(self) -> list[str]:
        """Entries that have not ended."""
        return [entry.entry_id for entry in self.entries.values() if not entry.finished]

    def at_the_end(self) -> None:
        """Everything that must be true once all is quiet."""
        if self.unfinished:
            self.violate(f"never finished: {', '.join(self.unfinished)}")
            return
        left = [
            key
            for key in self._account.names()
            if key not in _LASTING
            and key.partition(":")[0] not in {"record", "rate", "day", "applied"}
        ]
        if left:
            self.violate(f"left behind: {', '.join(left)}")
        self._check_signals()
        self._check_lines()
        self._check_book()
        for order in self._venue.accepted:
            if order.filled(self._venue._now_s()) > order.request.quantity:
                self.violate(f"{order.exchange_order_id} traded more than was ordered")

    def _check_signals(self) -> None:
        by_signal: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            if entry.signal_id:
                by_signal.setdefault(entry.signal_id, []).append(entry)
            elif entry.entry_id not in self._dead:
                self.violate(f"{entry.entry_id}: no signal, and no dead letter")
        for signal_id, entries in by_signal.items():
            ends = [one for one in self._events.get(signal_id, []) if one["type"] in TERMINAL]
            dead = [self._dead.get(entry.entry_id, "") for entry in entries]
            if not ends and "deliveries_exhausted" not in dead:
                self.violate(f"{signal_id}: finished without a terminal event")
            for event in ends:
                self._check_outcome(signal_id, event)
            contents = {entry.data for entry in entries}
            if len(contents) == 1 and any(reason == "conflict" for reason in dead):
                self.violate(f"{signal_id}: a repetition was taken for a conflict")
            if len(contents) > 1 and not any(dead):
                self.violate(f"{signal_id}: used for two contents, and no dead letter")

    def _check_book(self) -> None:
        book = {}
        cost = 0
        for key, row in self._account.book().items():
            if row.reservation:
                self.violate(f"{key}: still {row.reservation} by {row.signal}")
            if not row.position:
                continue
            position = read_position(row.position)
            sign = 1 if position.direction is Direction.LONG else -1
            book[position.symbol] = sign * position.quantity
            cost += abs(int(position.cost * 10**6))
        for symbol in {*book, *self._symbols()}:
            there = self._venue.net(symbol)
            if book.get(symbol, ZERO) != there:
                self.violate(f"{symbol}: the book has {book.get(symbol, 0)}, the exchange {there}")
        exposure = self._account.exposure()
        if abs(exposure - cost) > len(book):
            self.violate(f"the account's exposure is {exposure} millionths, the book's {cost}")


_SILENT: Final = frozenset(
    {
        "announce", "elect", "heartbeat", "publish", "read_account", "read_book", "read_control",
        "read_heartbeats", "requested_corrections", "sweep", "trim_letters", "watch",
    }
)  # fmt: skip
