"""One account in memory, with the simulation's clock; what is lost on the way is lost as ever."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final
from unittest import mock

from tests.simulation.steps import QUIET, Inspection, Mutation, OnStep, Step
from worker.domain.trading_asks import Control
from worker.domain.trading_state import TradingState
from worker.ledger.memory import steps
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.grants import Grant
from worker.ledger.memory.operator import change_control
from worker.ledger.memory.stream import StreamRow, text_of_order
from worker.ledger.replies import Admitted, CommitStatus
from worker.ledger.stored import BookRow, Reservation
from worker.ledger.wire import Argument
from worker.runtime.clock import SystemClock

_STREAMS: Final = ("orders", "positions", "dead", "system")


class MemoryPlace:
    """Keeps every run's account in this process."""

    def account(
        self, now_ms: Callable[[], int], *, mutation: Mutation | None = None
    ) -> "SimulatedMemory":
        """An empty account.

        Raises:
            ValueError: a mutation is given, which only scripts can have.
        """
        if mutation:
            raise ValueError("an account in memory runs no scripts")
        return SimulatedMemory(now_ms)


class _Clock(SystemClock):
    """The account's time: the simulation's."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Virtual."""
        return self._now_ms()


class SimulatedMemory:
    """An account in memory; a :class:`~tests.simulation.steps.SimulatedAccount`.

    Args:
        now_ms: its clock.
    """

    #: Nothing is replicated, and no operator can remove the group.
    impossible: frozenset[str] = frozenset({"replica_stops", "failover", "lose_group"})

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self.memory = MemoryAccount(clock=_Clock(now_ms))
        self.on_step: OnStep = lambda _step, _inspection: None
        self._seen = dict.fromkeys(_STREAMS, (0, 0))

    def run(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        """Run the step that is the only argument."""
        step: Any = arguments[0]
        reply = step()
        seen = None if name in QUIET else self._inspected()
        self.on_step(_step(name, step, reply), seen)
        return reply

    def way(self, scripts: Callable[..., Any]) -> AbstractContextManager[Any]:
        """Let workers that are put together meanwhile reach it through ``scripts``."""
        return mock.patch.object(steps, "DirectSteps", scripts)

    def _inspected(self) -> Inspection:
        new = {name: self._new(name) for name in _STREAMS}
        rows = self.memory.book.rows.values()
        tail, bell = self.tails()
        return Inspection(
            orders=new["orders"],
            positions=new["positions"],
            dead=new["dead"],
            system=new["system"],
            open_positions=sum(bool(row.position) for row in rows),
            opening=sum(
                row.reservation is Reservation.OPENING
                or (row.reservation is Reservation.RESTING and not row.position)
                for row in rows
            ),
            totals=self.exposure(),
            bell=bell,
            tail=tail,
        )

    def _new(self, name: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        rows: list[StreamRow] = self.memory.stream(name).after(self._seen[name])
        if rows:
            self._seen[name] = rows[-1].order
        return [(row.entry_id.encode(), dict(row.fields)) for row in rows]

    # -- people and producers ------------------------------------------------------------------

    def ensure_group(self) -> None:
        """It is always there."""

    def destroy_group(self) -> None:
        """Cannot happen."""
        raise AssertionError("an account in memory has no group to lose")

    def add(self, fields: Mapping[str, bytes]) -> str:
        """Put one entry on the signals stream; returns its id."""
        return self.memory.add(fields)

    def set_state(self, state: str, identity: str) -> None:
        """Set the trading state, as an operator does."""
        asks = f'[{{"asker":"operator","state":"{state}","at":"{identity}"}}]'.encode()
        control = Control(
            trading_state=TradingState(state), reason="test", actor="operator", changed_at=""
        )
        data = f'{{"trading_state":"{state}"}}'
        event = ("system", "TradingStateChanged", f"state-{identity}-{state}", data)
        before = self.memory.control.asks
        step: Any = partial(change_control, self.memory, before, asks, control, event)
        self.run("control", (step,))

    def trading_state(self) -> str:
        """The trading state in force."""
        return self.memory.trading_state.value

    # -- looking -------------------------------------------------------------------------------

    def tails(self) -> tuple[bytes, bytes]:
        """The last ids of the signals stream and of the bell."""
        last = self.memory.queue.signals.last, self.memory.bell.last
        return text_of_order(last[0]).encode(), text_of_order(last[1]).encode()

    def holder(self, entry_id: str) -> tuple[str, int]:
        """Which worker holds an entry, and until when."""
        entry = self.memory.queue.entries.get(entry_id)
        return entry.worker if entry else "", self.memory.queue.leases.get(entry_id, 0)

    def live(self) -> int:
        """How many positions have a live order."""
        return len(self.memory.orders.positions())

    def has_order(self, client_order_id: str) -> bool:
        """Whether there is a row of a live order."""
        return client_order_id in self.memory.orders.rows

    def unfinished(self) -> tuple[set[str], set[str]]:
        """The ids on the signals stream, and those of them that are not acknowledged."""
        queue = self.memory.queue
        known = {row.entry_id for row in queue.signals.rows()}
        new = {row.entry_id for row in queue.signals.after(queue.delivered)}
        return known, new | set(queue.entries)

    def record_entry(self, signal_id: str) -> str:
        """The entry under which a signal was admitted."""
        record = self.memory.records.find(signal_id, self.now_ms())
        return record.entry if record else ""

    def book(self) -> dict[str, BookRow]:
        """The rows of the book."""
        return dict(self.memory.book.rows)

    def exposure(self) -> int:
        """The account's exposure in all currencies, millionths."""
        return sum(self.memory.sums.exposure.values())

    def names(self) -> list[str]:
        """What is kept of entries and requests, which must come to an end."""
        queue = self.memory.queue
        kept: dict[str, Any] = {
            "entries": queue.entries,
            "groups": queue._tails,
            "leases": queue.leases,
            "lines": queue._lines,
            "released": queue._released,
            "unresolved": queue.unresolved,
            "verdicts": queue.verdicts,
            "corrections": self.memory.corrections.asked,
            "orders": self.memory.orders.rows,
            "exchange-ids": self.memory.orders.exchange_ids,
            "live": self.memory.orders.positions(),
            "agenda": self.memory.agenda.due,
            "turns": self.memory.agenda.turns,
        }
        return [name for name, one in kept.items() if one]

    def snapshot(self) -> dict[bytes, bytes]:
        """Cannot be taken."""
        raise AssertionError("an account in memory has no replica")

    def fail_over(self, snapshot: Mapping[bytes, bytes]) -> None:
        """Cannot happen."""
        raise AssertionError("an account in memory has no replica")


def _step(name: str, step: Any, reply: Any) -> Step:
    """What one step did."""
    arguments = step.args[1:] if isinstance(step, partial) else ()
    is_worker = bool(arguments) and isinstance(arguments[0], str) and name not in {"throttle"}
    who = arguments[0] if is_worker and name not in {"decide"} else "operator"
    if name == "claim":
        turns = [turn.turn_id for turn in reply.turns]
        text = f"room {arguments[2]} -> {_granted(reply.granted)} {turns}"
        return Step(name=name, who=who, text=text, surplus=_surplus(reply.granted))
    if name in {"adopt", "resync"}:
        granted = reply[0] if name == "resync" else reply
        return Step(name=name, who=who, text=f"-> {_granted(granted)}", surplus=_surplus(granted))
    if name == "sweep":
        return Step(name=name, who="keeper", text=str(reply), stranded=reply.stranded)
    if name == "admit":
        pairs = list(zip(arguments[1], reply, strict=True))
        return Step(
            name=name,
            who=who,
            text=", ".join(f"{item.signal} -> {_answer(one)}" for item, one in pairs),
            opened=tuple(
                item.signal
                for item, one in pairs
                if isinstance(one, Admitted) and item.action == "open"
            ),
        )
    if name == "commit":
        pairs = list(zip(arguments[2], reply, strict=True))
        handed = _granted([one.following for one in reply if one.following])
        return Step(
            name=name,
            who=who,
            text=f"{[(item.entry, str(one.status)) for item, one in pairs]}, handed on {handed}",
            ended=tuple(
                item.entry
                for item, one in pairs
                if one.status in {CommitStatus.COMMITTED, CommitStatus.DUPLICATE}
            ),
        )
    if name == "control":
        return Step(name=name, who=who, text=str(reply), state=arguments[2].trading_state.value)
    shown = " ".join(str(part)[:48] for part in arguments[1:8])
    return Step(name=name, who=who, text=f"{shown} -> {_plain(reply)}")


def _answer(answer: Any) -> str:
    return "admitted" if isinstance(answer, Admitted) else str(answer)


def _plain(reply: Any) -> str:
    """A reply whose text is the same in every process."""
    return str(sorted(reply) if isinstance(reply, set) else reply)


def _granted(grants: list[Grant]) -> list[tuple[str, int, int]]:
    return [(one.entry_id, one.token, one.deliveries) for one in grants]


def _surplus(grants: list[Grant]) -> tuple[str, ...]:
    return tuple(one.entry_id for one in grants if one.is_surplus)
