"""The ledger's typed calls: one method a script, values in, values out."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import msgspec

from worker.clock import Clock
from worker.domain.position import Position
from worker.domain.refusal import Code
from worker.domain.verdict import Verdict
from worker.ledger.batch import Batch
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.items import AdmitItem, CommitItem, arguments
from worker.ledger.scripts import Doorbell, Scripts
from worker.ledger.stored import Record, decode_record, read_place


class TradingState(StrEnum):
    """What the account may do."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"

    @classmethod
    def read(cls, raw: bytes) -> "TradingState":
        """Anything unknown counts as halted: in doubt nothing is sent."""
        try:
            return cls(raw.decode())
        except ValueError:
            return cls.HALTED


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One entry granted to this worker.

    ``lease_mono_ms`` is the local monotonic time at which the lease may have run out; it is taken
    before the call, so the server's own expiry is never earlier. ``overdue_ms`` is for how long an
    earlier lease on it had run out. ``data_loss_ms`` is when (Redis time, Unix milliseconds, 0 for
    never) a primary took over that may lack earlier writes: an order of an older signal may exist
    of which no record speaks, and one may still arrive until ``settled_mono_ms``. ``verdict`` is
    what a person says became of its order.
    """

    entry_id: str
    fields: dict[bytes, bytes]
    token: int
    deliveries: int
    record: Record | None
    lease_mono_ms: float
    received_mono_ms: float
    overdue_ms: int = 0
    data_loss_ms: int = 0
    settled_mono_ms: float = 0.0
    verdict: Verdict | None = None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one claim brought; ``more`` that there is some, ``tail`` after what to wait if not."""

    deliveries: list[Delivery]
    tail: bytes
    more: bool
    vanished: int


class Admitted(msgspec.Struct, frozen=True):
    """Limits reserved, record written (at Redis's ``at_ms``): to be sent after ``pause_ms``."""

    position: bytes
    pause_ms: float
    at_ms: int = 0


class Duplicate(msgspec.Struct, frozen=True):
    """The signal id is taken, by the same content or (``conflict``) by another."""

    conflict: bool


class Fenced(msgspec.Struct, frozen=True):
    """Another worker holds the entry now; this one has to forget it."""


Admission = Admitted | Duplicate | Fenced | Code


class CommitStatus(StrEnum):
    """What became of a commit."""

    COMMITTED = "committed"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FENCED = "fenced"


class Committed(msgspec.Struct, frozen=True):
    """A commit's answer, with the group's next entry if it was handed to this worker."""

    status: CommitStatus
    following: Delivery | None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The account in numbers; amounts by quote currency, ages in milliseconds.

    ``lag`` is None where the server cannot tell it (an undelivered entry was deleted).
    """

    exposure: dict[str, Decimal]
    realized: dict[str, Decimal]
    open_positions: int
    unresolved: int
    dead_letters: int
    lag: int | None
    pending: int
    oldest_pending_ms: int
    leases: int


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """The open positions by key, and the keys that a signal is changing at this moment."""

    positions: dict[str, Position]
    busy: frozenset[str]


class Election(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this worker is the account's keeper, and what the keeper has said in its term."""

    elected: bool
    said: str


class Authorization(msgspec.Struct, frozen=True):
    """The last look before sending again."""

    held: bool
    trading_state: TradingState
    pause_ms: float


#: Entries in one call, and calls under way: while the server works on one batch, the worker does on
#: the next. Half of the default concurrency, so that there are two.
MAX_BATCH: Final = 32
LANES: Final = 2
#: Token, deliveries, signal, record and overdue ms of an entry in its first delivery.
_FIRST: Final = (1, 1, b"", None, 0)
_decode_position = msgspec.json.Decoder(Position).decode
_decode_verdict = msgspec.json.Decoder(Verdict).decode


class Ledger:
    """Everything a worker asks of Redis.

    Args:
        scripts: how scripts are run.
        clock: whose monotonic time leases are measured in on this side.
        worker: this worker's consumer name.
        lease_ms: how long a grant lasts without renewal.
        retention_ms: how long a finished signal's record is kept.
        output_length: about how many entries an output stream keeps.
        max_waiting: how many entries may wait in groups before no more are claimed.
        crowd: the signals that are in hand now; only their number is asked for.
    """

    def __init__(
        self,
        scripts: Scripts,
        *,
        clock: Clock,
        worker: str,
        lease_ms: int = 15_000,
        retention_ms: int = 604_800_000,
        output_length: int = 1_000_000,
        max_waiting: int = 10_000,
        crowd: Sized = (),
    ) -> None:
        self._scripts = scripts
        self._clock = clock
        self.worker = worker
        self.lease_ms = lease_ms
        self._retention_ms = retention_ms
        self._output_length = output_length
        self._max_waiting = max_waiting
        self._primary = b""
        #: The last id seen of the bell's stream.
        self._bell = b"0-0"
        #: Told of every round trip that carried several signals: step, how many, seconds.
        self.on_batch: Callable[[str, int, float], None] = lambda _step, _size, _seconds: None
        self._data_loss_ms = 0
        self._settled_mono_ms = 0.0
        self.admit: Batch[AdmitItem, Admission] = Batch(
            self._admit, limit=MAX_BATCH, lanes=LANES, divisible=_is_item_error, crowd=crowd
        )
        self._authorizations: Batch[tuple[str, int, str], Authorization] = Batch(
            self._authorize, limit=MAX_BATCH, lanes=LANES, divisible=_is_item_error
        )
        self.commit: Batch[CommitItem, Committed] = Batch(
            self._commit, limit=MAX_BATCH, lanes=LANES, divisible=_is_item_error, crowd=crowd
        )

    @property
    def repeats(self) -> int:
        """How many calls had to be repeated; what their lost replies gave is in :meth:`resync`."""
        return self._scripts.repeats

    async def ensure_group(self) -> None:
        """Create the stream and its group where they are missing."""
        await self._scripts.ensure_group()

    async def claim(self, room: int, *, after: bytes | None = None, wait_ms: int = 500) -> Claim:
        """Take up to ``room`` entries that may run now.

        Args:
            room: how many.
            after: where there was nothing more: an earlier claim's ``tail``. The claim then waits
                on the server for an entry after it, or for one that was given back.
            wait_ms: for how long. Leases count from before the waiting, so they may be so much
                shorter.
        """
        sent = self._clock.monotonic_ms()
        asked = (self.worker, room, self.lease_ms, self._max_waiting, self._primary)
        if after is None:
            reply = await self._scripts.run("claim", *asked)
        else:
            doorbell = Doorbell(after, self._bell, wait_ms)
            reply, self._bell = await self._scripts.run_after(doorbell, "claim", *asked)
        taken, told, tail, more, vanished = reply
        self._learn(told)
        return Claim(
            deliveries=self._deliveries(taken, sent),
            tail=tail,
            more=bool(more),
            vanished=int(vanished),
        )

    def hang_up(self) -> None:
        """Have a waiting claim fail now."""
        self._scripts.hang_up()

    async def _admit(self, items: Sequence[AdmitItem]) -> list[Admission]:
        sent = self._clock.monotonic_ms()
        reply = await self._scripts.run_durably(
            "admit", self.worker, *arguments(items, self.worker)
        )
        self.on_batch("admit", len(items), (self._clock.monotonic_ms() - sent) / 1000)
        at_ms, rows = reply
        return [_admission(row, at_ms) for row in rows]

    async def _commit(self, items: Sequence[CommitItem]) -> list[Committed]:
        sent = self._clock.monotonic_ms()
        reply = await self._scripts.run(
            "commit",
            self.worker,
            self.lease_ms,
            self._retention_ms,
            self._output_length,
            self._primary,
            *arguments(items, self.worker),
        )
        statuses, told, handing, handed = reply
        if told:
            self._learn(told)
        self.on_batch("commit", len(items), (self._clock.monotonic_ms() - sent) / 1000)
        following = dict(zip(handing, self._deliveries(handed, sent), strict=True))
        return [
            Committed(_STATUS[status], following.get(number))
            for number, status in enumerate(statuses, 1)
        ]

    async def heartbeat(
        self, held: Iterable[tuple[str, int]], status: bytes
    ) -> tuple[set[str], TradingState, float]:
        """Renew the leases of ``held`` (entry id, token).

        Returns:
            The ids no longer held, the trading state, and the leases' new local expiry.
        """
        sent = self._clock.monotonic_ms()
        flat = [part for pair in held for part in pair]
        lost, state = await self._scripts.run(
            "heartbeat", self.worker, self.lease_ms, status, *flat
        )
        return {id_.decode() for id_ in lost}, TradingState.read(state), sent + self.lease_ms

    async def release(self, entries: Iterable[tuple[str, int, int, bool]]) -> int:
        """Give entries (id, token, hold ms, whether the delivery died) back.

        Returns:
            How many were still ours.
        """
        flat = [int(part) if isinstance(part, bool) else part for e in entries for part in e]
        return int(await self._scripts.run("release", self.worker, *flat)) if flat else 0

    async def authorize(self, entry_id: str, token: int, exchange: str) -> Authorization:
        """Look once more before an order is sent again."""
        return await self._authorizations((entry_id, token, exchange))

    async def _authorize(self, orders: Sequence[tuple[str, int, str]]) -> list[Authorization]:
        flat = [part for order in orders for part in order]
        state, rows = await self._scripts.run_durably("authorize", self.worker, *flat)
        trading = TradingState.read(state)
        return [Authorization(bool(held), trading, float(pause)) for held, pause in rows]

    async def throttle(self, exchange: str, pause_ms: int) -> int:
        """Keep every worker of the account from sending to ``exchange``; returns ms in force."""
        return int(await self._scripts.run("throttle", exchange, pause_ms))

    async def park(
        self,
        entry_id: str,
        token: int,
        signal_id: str,
        retry_ms: int,
        event: tuple[str, str, str],
    ) -> bool:
        """Leave an unresolved order to the keeper, saying so once with ``event``."""
        return bool(
            await self._scripts.run(
                "park",
                self.worker,
                entry_id,
                token,
                signal_id,
                retry_ms,
                self._output_length,
                *event,
            )
        )

    async def adopt(self, count: int) -> list[Delivery]:
        """Take up to ``count`` unresolved orders that are due."""
        sent = self._clock.monotonic_ms()
        rows, told, verdicts = await self._scripts.run(
            "adopt", self.worker, self.lease_ms, count, self._primary
        )
        self._learn(told)
        said = dict(zip(verdicts[::2], map(_decode_verdict, verdicts[1::2]), strict=True))
        return [
            msgspec.structs.replace(delivery, verdict=said.get(delivery.entry_id.encode()))
            for delivery in self._deliveries(rows, sent)
        ]

    async def resync(self, known: Iterable[str]) -> list[Delivery]:
        """Find what is leased to this worker although no reply ever said so."""
        sent = self._clock.monotonic_ms()
        rows, told = await self._scripts.run(
            "resync", self.worker, self.lease_ms, self._primary, *known
        )
        self._learn(told)
        return self._deliveries(rows, sent)

    async def elect(self, term_ms: int, say: str = "") -> Election:
        """Become or remain the account's keeper for ``term_ms``, and let others know ``say``."""
        elected, said = await self._scripts.run("elect", self.worker, term_ms, say)
        return Election(elected=bool(elected), said=said.decode())

    async def resign(self) -> None:
        """Be the account's keeper no more."""
        await self._scripts.run("elect", self.worker, 0, "")

    async def sweep(self, signal_retention_ms: int) -> tuple[int, int, int]:
        """Keep house; returns orphans registered, entries trimmed, consumers removed."""
        orphans, trimmed, removed = await self._scripts.run(
            "sweep", self.lease_ms, signal_retention_ms
        )
        return int(orphans), int(trimmed), int(removed)

    async def leave(self) -> int:
        """Sign off; returns how many entries this consumer still owns."""
        return int(await self._scripts.run("leave", self.worker))

    async def set_trading_state(
        self, state: TradingState, *, reason: str, actor: str, at: str, event: tuple[str, bytes]
    ) -> TradingState:
        """Change what the account may do; returns what it was."""
        before = await self._scripts.run(
            "control", state.value, reason, actor, at, *event, self._output_length
        )
        return TradingState.read(before)

    async def account(self) -> Account:
        """The account in numbers."""
        (
            _,
            exposure,
            realized,
            count,
            unresolved,
            dead,
            lag,
            pending,
            oldest,
            leases,
        ) = await self._scripts.run("account")
        return Account(
            exposure=_amounts(exposure),
            realized=_amounts(realized),
            open_positions=int(count),
            unresolved=int(unresolved),
            dead_letters=int(dead),
            lag=int(lag) if int(lag) >= 0 else None,
            pending=int(pending),
            oldest_pending_ms=int(oldest),
            leases=int(leases),
        )

    async def book(self) -> Book:
        """The open positions."""
        rows = await self._scripts.run("book")
        return read_book(dict(zip(rows[::2], rows[1::2], strict=True)))

    async def announce(self, event: tuple[str, str, str]) -> None:
        """Write one event (type, id, JSON) to the system stream."""
        await self._scripts.run("announce", *event, self._output_length)

    def _learn(self, told: Sequence[Any]) -> None:
        """Note which primary answered, and since when it may lack writes."""
        since, settled_in, self._primary = told
        self._data_loss_ms = since
        self._settled_mono_ms = self._clock.monotonic_ms() + settled_in

    def _deliveries(self, rows: Sequence[Any], sent: float) -> list[Delivery]:
        """What a reply granted, to a question asked at ``sent`` (local monotonic).

        Of each entry its id, then what ``delivery`` in ``prelude.lua`` says of it.
        """
        lease_mono_ms = sent + self.lease_ms
        # Others' leases are reckoned from the reply: the call may have taken long.
        received_mono_ms = self._clock.monotonic_ms()
        told = [_told(delivery) for delivery in rows[1::2]]
        return [
            Delivery(
                entry_id=entry_id.decode(),
                fields=fields,
                token=token,
                deliveries=deliveries,
                record=_record(signal_id.decode(), record) if signal_id else None,
                lease_mono_ms=lease_mono_ms,
                received_mono_ms=received_mono_ms,
                overdue_ms=overdue,
                data_loss_ms=self._data_loss_ms,
                settled_mono_ms=self._settled_mono_ms,
            )
            for entry_id, (token, deliveries, signal_id, record, overdue, fields) in zip(
                rows[::2], told, strict=True
            )
        ]


def _told(delivery: Any) -> tuple[int, int, bytes, bytes | None, int, dict[bytes, bytes]]:
    """Token, deliveries, signal, record, overdue ms and fields, of one delivery in a reply."""
    if type(delivery) is bytes:
        return (*_FIRST, {b"data": delivery})
    about, fields = _FIRST, delivery
    if type(delivery[0]) is int:
        *about, fields = delivery
    return (*about, dict(zip(fields[::2], fields[1::2], strict=True)))


def read_book(rows: Mapping[bytes, bytes]) -> Book:
    """The hash ``book`` as it is stored."""
    places = {key.decode(): read_place(raw) for key, raw in rows.items()}
    return Book(
        positions={
            key: _decode_position(place.position) for key, place in places.items() if place.position
        },
        busy=frozenset(key for key, place in places.items() if place.busy),
    )


def _record(signal_id: str, raw: bytes | None) -> Record:
    """The record of a signal that was admitted; an empty one where it has been lost."""
    return decode_record(raw) if raw else Record(entry="", signal=signal_id, state="")


def _admission(row: Any, at_ms: int) -> Admission:
    """One order's answer, given at ``at_ms``: a status, with what there is to say of it."""
    if row == b"admitted":
        return Admitted(b"", 0.0, at_ms)
    if row[:1] == b"{":  # the position, with nothing more to say
        return Admitted(row, 0.0, at_ms)
    status, *rest = row if isinstance(row, list) else [row]
    if status == b"admitted":
        return Admitted(rest[0], float(rest[1]), rest[2])
    if status == b"refused":
        return Code[rest[0].decode()]
    if status == b"fenced":
        return Fenced()
    return Duplicate(conflict=status == b"conflict")


def _amounts(rows: Sequence[bytes]) -> dict[str, Decimal]:
    """Amounts by currency from a flat list of currency and millionths."""
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return {currency.decode(): Decimal(int(amount)) / 1_000_000 for currency, amount in pairs}


def _is_item_error(error: Exception) -> bool:
    """Whether one item may have spoilt the batch: the script failed, or what it was sent."""
    return not isinstance(error, LedgerUnavailableError)


_STATUS: Final[Mapping[bytes, CommitStatus]] = {
    status.value.encode(): status for status in CommitStatus
}
