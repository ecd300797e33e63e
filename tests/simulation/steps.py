"""One step of an account, as the checker sees it, whatever keeps the account."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from worker.ledger.memory.account import MemoryAccount
from worker.ledger.stored import BookRow
from worker.ledger.wire import Argument

#: A change to the text of a script or library, for showing that a safeguard matters: by its name
#: (``commit``, ``lib/fence``) the old text and the new one.
Mutation = Mapping[str, tuple[str, str]]

#: Steps that change nothing the invariants look at.
QUIET = frozenset(
    {
        "authorize", "elect", "heartbeat", "publish", "read_account", "read_book",
        "read_control", "read_heartbeats", "requested_corrections", "throttle", "watch",
    }
)  # fmt: skip


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What a step left behind; the streams hold only what is new."""

    orders: list[tuple[bytes, dict[bytes, bytes]]]
    positions: list[tuple[bytes, dict[bytes, bytes]]]
    dead: list[tuple[bytes, dict[bytes, bytes]]]
    system: list[tuple[bytes, dict[bytes, bytes]]]
    open_positions: int
    opening: int
    totals: int
    bell: bytes
    tail: bytes


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One script, or what does its work in memory.

    ``text`` is it in a few words; ``surplus`` are the entries granted for which their group has no
    room, ``opened`` the signals admitted to open a position, ``ended`` the entries acknowledged,
    ``stranded`` how many positions nobody would have looked at, ``state`` the trading state that
    was set.
    """

    name: str
    who: str
    text: str
    surplus: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    stranded: int = 0
    state: str = ""


OnStep = Callable[[Step, Inspection | None], None]


class SimulatedAccount(Protocol):
    """The account of one run.

    Attributes:
        now_ms: its clock.
        on_step: told of every step.
        memory: the account itself where it is in memory.
        impossible: happenings of a story that cannot happen to it.
    """

    now_ms: Callable[[], int]
    on_step: OnStep

    @property
    def memory(self) -> MemoryAccount | None:
        """The account itself where it is in memory."""

    @property
    def impossible(self) -> frozenset[str]:
        """Happenings of a story that cannot happen to it."""

    def run(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        """Run one step now; raises LedgerError."""

    def way(self, scripts: Callable[..., Any]) -> AbstractContextManager[Any]:
        """Let workers that are put together meanwhile reach it through ``scripts``."""

    def ensure_group(self) -> None:
        """Create the stream and its group."""

    def destroy_group(self) -> None:
        """Lose the consumer group, as an operator's mistake would."""

    def add(self, fields: Mapping[str, bytes]) -> str:
        """Put one entry on the signals stream; returns its id."""

    def set_state(self, state: str, identity: str) -> None:
        """Set the trading state with an event, as an operator does."""

    def trading_state(self) -> str:
        """The trading state in force."""

    def tails(self) -> tuple[bytes, bytes]:
        """The last ids of the signals stream and of the bell."""

    def holder(self, entry_id: str) -> tuple[str, int]:
        """Which worker holds an entry, and until when (the account's time)."""

    def live(self) -> int:
        """How many positions have a live order."""

    def has_order(self, client_order_id: str) -> bool:
        """Whether there is a row of a live order."""

    def unfinished(self) -> tuple[set[str], set[str]]:
        """The ids on the signals stream, and those of them that are not acknowledged."""

    def record_entry(self, signal_id: str) -> str:
        """The entry under which a signal was admitted."""

    def book(self) -> dict[str, BookRow]:
        """The rows of the book."""

    def exposure(self) -> int:
        """The account's exposure in all currencies, millionths."""

    def names(self) -> list[str]:
        """Of all keys, without the account's prefix."""

    def snapshot(self) -> dict[bytes, bytes]:
        """Everything, as a replica has it that will receive nothing more."""

    def fail_over(self, snapshot: Mapping[bytes, bytes]) -> None:
        """A replica that has only ``snapshot`` takes over."""


class Place(Protocol):
    """Where accounts are kept; every run gets an empty one."""

    def account(
        self, now_ms: Callable[[], int], *, mutation: Mutation | None = None
    ) -> SimulatedAccount:
        """An empty account.

        Args:
            now_ms: its clock.
            mutation: a change to a script.
        """


def status_of(row: Any) -> bytes:
    """The status of an item in a script's reply."""
    if isinstance(row, list):
        return bytes(row[0])
    return b"admitted" if row.startswith(b"{") else bytes(row)


def reply_text(reply: Any) -> str:
    """A reply, or a part of one, without the ``b`` of bytes."""
    return repr(reply).replace("b'", "'")
