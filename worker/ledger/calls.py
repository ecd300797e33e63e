"""The ledger's typed calls: one method for each script, values in, values out."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from worker.domain.sheet import Sheet
from worker.domain.trading_state import TradingState
from worker.ledger.budgets import Budgets
from worker.ledger.items import (
    AdmitItem,
    CommitItem,
    admission_arguments,
    outcome_arguments,
)
from worker.ledger.layouts import (
    AdmissionsReply,
    AuthorizationRow,
    AuthorizationsReply,
    Authorize,
    ClaimReply,
    CommittedReply,
    ElectionReply,
    Epoch,
    GrantedReply,
    HeartbeatReply,
    Held,
    LettersTrimmedReply,
    Released,
    SeatReply,
    SweptReply,
    read_row,
)
from worker.ledger.ports import SWEPT_AT_ONCE
from worker.ledger.replies import (
    STATUS_OF,
    Account,
    Admission,
    Authorization,
    Book,
    Claim,
    Committed,
    Delivery,
    Election,
    Heartbeat,
    Seat,
    Swept,
    read_account,
    read_admission,
    read_book,
    read_deliveries,
    read_oversize,
)
from worker.ledger.scripts import Doorbell, Scripts
from worker.ledger.turns import ApplyItem, Turn, read_turns
from worker.ledger.words import Status
from worker.runtime.clock import Clock


class RedisLedger:
    """A worker's calls to Redis; a :class:`~worker.ledger.ports.Ledger`.

    Args:
        scripts: runs the scripts.
        clock: its monotonic time measures leases on this side.
        worker: this worker's consumer name.
        lease_ms: how long a grant lasts without renewal.
        retention_ms: how long a finished signal's record is kept.
        output_length: about how many entries an output stream keeps.
        on_batch: called after every round trip with several signals: step, how many, seconds.
        max_waiting: how many entries may wait in groups before openings that would have to end.
        max_group_waiting: the same of one group; and how many others than openings may wait in it.
        budgets: this worker's budgets of requests, which are shared by name.
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
        max_group_waiting: int = 100,
        budgets: Budgets | None = None,
        on_batch: Callable[[str, int, float], None] = lambda _step, _size, _seconds: None,
    ) -> None:
        self._scripts = scripts
        self._clock = clock
        self.worker = worker
        self.lease_ms = lease_ms
        self._output_length = output_length
        # Written once: the wire writes a number anew in each call.
        lease = str(lease_ms)
        self._claim_terms = (lease, str(max_waiting), str(max_group_waiting))
        self._commit_terms = (worker, lease, str(retention_ms), str(output_length))
        self._max_waiting = max_waiting
        self._max_group_waiting = max_group_waiting
        self._budgets = budgets
        self._primary = b""
        #: The last id seen of the bell's stream.
        self._bell = b"0-0"
        self._on_batch = on_batch
        self._data_loss_ms = 0
        self._settled_mono_ms = 0.0

    @property
    def lost_replies(self) -> int:
        """Return how many replies were lost; :meth:`resync` finds the entries they granted."""
        return self._scripts.lost_replies

    async def ensure_group(self) -> None:
        """Create the stream and its group where they are missing."""
        await self._scripts.ensure_group()

    async def claim(
        self, room: int, *, turns: int = 0, after: bytes | None = None, wait_ms: int = 500
    ) -> Claim:
        """Take up to ``room`` entries and ``turns`` turns that may run now.

        Args:
            room: how many entries.
            turns: how many turns.
            after: an earlier claim's ``tail``, where that had nothing more. The claim then waits
                on the server for an entry after it, or for one that was given back.
            wait_ms: for how long. A lease is measured from before the wait, so up to ``wait_ms``
                of it may already be gone.
        """
        sent = self._clock.monotonic_ms()
        asked = (self.worker, room, *self._claim_terms, self._primary, turns)
        if after is None:
            reply = await self._scripts.run("claim", *asked)
        else:
            doorbell = Doorbell(after, self._bell, wait_ms)
            reply, self._bell = await self._scripts.run_after(doorbell, "claim", *asked)
        received = self._clock.monotonic_ms()
        claimed = read_row(ClaimReply, reply)
        self._learn(claimed.epoch, received)
        self._learn_holds(claimed.holds)
        return Claim(
            deliveries=self._deliveries(claimed.deliveries, sent, received),
            tail=claimed.tail,
            more=bool(claimed.more),
            vanished=int(claimed.vanished),
            oversize=read_oversize(claimed.oversize) if claimed.oversize else [],
            turns=self._turns(claimed.turns, sent, received) if claimed.turns else [],
        )

    def hang_up(self) -> None:
        """Make a waiting claim fail now."""
        self._scripts.hang_up()

    async def admit(self, items: Sequence[AdmitItem]) -> list[Admission]:
        """Reserve limits and write records, each item wholly or not at all; an answer for each."""
        sent = self._clock.monotonic_ms()
        reply = await self._scripts.run_durably(
            "admit", self.worker, *admission_arguments(items, self.worker)
        )
        self._on_batch("admit", len(items), (self._clock.monotonic_ms() - sent) / 1000)
        at_ms, rows = read_row(AdmissionsReply, reply)
        return [read_admission(row, at_ms) for row in rows]

    async def commit(self, items: Sequence[CommitItem]) -> list[Committed]:
        """Write outcomes, and take the next entries of their groups.

        Returns:
            An answer for each, up to one whose events cannot be written; the first of them raises.
        """
        sent = self._clock.monotonic_ms()
        reply = await self._scripts.run(
            "commit",
            *self._commit_terms,
            self._primary,
            *outcome_arguments(items, self.worker),
        )
        received = self._clock.monotonic_ms()
        statuses, epoch, handing, handed, holds = read_row(CommittedReply, reply)
        self._learn_holds(holds)
        if epoch:
            self._learn(epoch, received)
        self._on_batch("commit", len(items), (received - sent) / 1000)
        following = dict(zip(handing, self._deliveries(handed, sent, received), strict=True))
        return [
            Committed(STATUS_OF[status], following.get(number))
            for number, status in enumerate(statuses, 1)
        ]

    async def heartbeat(self, held: Iterable[tuple[str, int]], status: bytes) -> Heartbeat:
        """Renew the leases of ``held`` (:class:`Held`) and announce ``status`` (JSON)."""
        sent = self._clock.monotonic_ms()
        flat = [part for entry in held for part in Held(*entry)]
        names = self._budgets.names() if self._budgets is not None else ()
        reply = read_row(
            HeartbeatReply,
            await self._scripts.run(
                "heartbeat", self.worker, self.lease_ms, status, " ".join(names), *flat
            ),
        )
        self._learn_holds(reply.holds)
        if self._budgets is not None and names:
            pairs = zip(reply.shares[::2], reply.shares[1::2], strict=True)
            self._budgets.learn_shares(dict(zip(names, pairs, strict=True)))
        return Heartbeat(
            lost={entry_id.decode() for entry_id in reply.lost},
            trading_state=TradingState.read(reply.trading_state),
            lease_mono_ms=sent + self.lease_ms,
        )

    async def release(self, entries: Iterable[tuple[str, int, int, bool]]) -> int:
        """Give entries (:class:`Released`) back.

        Returns:
            How many were still held.
        """
        flat = [int(part) if isinstance(part, bool) else part
                for entry in entries for part in Released(*entry)]  # fmt: skip
        return int(await self._scripts.run("release", self.worker, *flat)) if flat else 0

    async def authorize(self, entry_id: str, token: int, exchange: str) -> Authorization:
        """Look once more before an order is sent."""
        asked = Authorize(entry_id, token, exchange)
        reply = await self._scripts.run_durably("authorize", self.worker, *asked)
        state, (row,) = read_row(AuthorizationsReply, reply)
        held, pause_ms = read_row(AuthorizationRow, row)
        return Authorization(bool(held), TradingState.read(state), float(pause_ms))

    async def throttle(self, exchange: str, pause_ms: int) -> int:
        """Keep every worker of the account from sending to ``exchange``; return the ms in force."""
        return int(await self._scripts.run("throttle", exchange, pause_ms))

    async def park(
        self,
        entry_id: str,
        token: int,
        signal_id: str,
        retry_ms: int,
        event: tuple[str, str, str],
    ) -> bool:
        """Leave an unresolved order to the keeper, and write ``event`` (type, id, JSON) once.

        Args:
            entry_id: the entry, which stays unacknowledged.
            token: under which it is held.
            signal_id: its signal.
            retry_ms: after how long the keeper asks the exchange.
            event: about the order.

        Returns:
            Whether the order is parked; False if the entry is no longer held.
        """
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
        """Take up to ``count`` unresolved orders that are due for a look-up."""
        sent = self._clock.monotonic_ms()
        reply = await self._scripts.run("adopt", self.worker, self.lease_ms, count, self._primary)
        return [one for one in self._granted(reply, sent)[0] if isinstance(one, Delivery)]

    async def resync(self, known: Iterable[str]) -> list[Delivery | Turn]:
        """Return what is leased to this worker although no reply that arrived said so."""
        ids = list(known)
        found: list[Delivery | Turn] = []
        more = True
        while more:
            sent = self._clock.monotonic_ms()
            reply = await self._scripts.run(
                "resync", self.worker, self.lease_ms, self._primary, *ids
            )
            part, more = self._granted(reply, sent)
            ids += [one.entry_id for one in part]
            found += part
        return found

    async def apply(self, item: ApplyItem) -> Status:
        """Write what a turn has found out: COMMITTED, FENCED, or CHANGED where the book is."""
        reply = await self._scripts.run("apply", self.worker, *item.arguments(self._output_length))
        return Status(reply.decode())

    async def elect(self, term_ms: int, readiness_note: str = "") -> Election:
        """Become or remain the account's keeper for ``term_ms``, and leave others a note."""
        reply = await self._scripts.run("elect", self.worker, term_ms, readiness_note)
        elected, note = read_row(ElectionReply, reply)
        return Election(elected=bool(elected), readiness_note=note.decode())

    async def resign(self) -> None:
        """Give up being the account's keeper."""
        await self._scripts.run("elect", self.worker, 0, "")

    async def take_seat(self, exchange: str, key_digest: str, seats: int, term_ms: int) -> Seat:
        """Take or keep one of the ``seats`` at an API key for ``term_ms``, 0 to give it up."""
        holder = f"{self.worker}:{exchange}"
        reply = await self._scripts.run("seat", holder, key_digest, seats, term_ms)
        number, held_by = read_row(SeatReply, reply)
        return Seat(int(number), held_by.decode())

    async def sweep(
        self, signal_retention_ms: int, start: bytes = b"-", count: int = SWEPT_AT_ONCE
    ) -> Swept:
        """Register orphaned entries, trim the signals stream, remove consumers that are gone.

        Args:
            signal_retention_ms: how long a signal stays on its stream.
            start: where to look for orphans: the ``next`` of an earlier sweep, or the beginning.
            count: how many pending entries to look at.
        """
        reply = await self._scripts.run("sweep", self.lease_ms, signal_retention_ms, start, count)
        swept = read_row(SweptReply, reply)
        return Swept(
            swept.orphans,
            swept.trimmed,
            swept.consumers_removed,
            swept.stranded,
            read_oversize(swept.oversize),
            swept.next,
        )

    async def trim_letters(self, max_letters: int, max_bytes: int) -> LettersTrimmedReply:
        """Remove the oldest dead letters beyond these bounds, a portion a call."""
        reply = await self._scripts.run("trim_letters", max_letters, max_bytes)
        return read_row(LettersTrimmedReply, reply)

    async def leave(self) -> int:
        """Sign off; return how many entries this consumer still owns."""
        return int(await self._scripts.run("leave", self.worker))

    async def account(self) -> Account:
        """Return the account in numbers."""
        reply = await self._scripts.run("read_account")
        most, most_in_group = self._max_waiting, self._max_group_waiting
        return read_account(reply, max_waiting=most, max_group_waiting=most_in_group)

    async def book(self) -> Book:
        """Return the open positions and which are reserved."""
        rows = await self._scripts.run("read_book")
        return read_book(dict(zip(rows[::2], rows[1::2], strict=True)))

    async def publish(self, sheet: Sheet, lifetime_ms: int) -> bool:
        """Publish the keeper's sheet; False if this worker is not the keeper."""
        text = msgspec.json.encode(sheet)
        return bool(await self._scripts.run("publish", self.worker, text, lifetime_ms))

    async def announce(self, event: tuple[str, str, str]) -> None:
        """Write one event (type, id, JSON) to the system stream."""
        await self._scripts.run("announce", *event, self._output_length)

    def _learn_holds(self, flat: Sequence[Any]) -> None:
        """Pass on which budgets are held, and for how long."""
        if flat and self._budgets is not None:
            pairs = zip(flat[::2], flat[1::2], strict=True)
            self._budgets.learn_holds({name.decode(): float(ms) for name, ms in pairs})

    def _learn(self, row: Any, received: float) -> None:
        """Note which primary answered at ``received``, and since when it may lack writes."""
        epoch = read_row(Epoch, row)
        self._primary = epoch.primary
        self._data_loss_ms = epoch.since_ms
        self._settled_mono_ms = received + epoch.settled_in_ms

    def _granted(self, reply: Any, sent: float) -> tuple[list[Delivery | Turn], bool]:
        """Return what a reply granted, and whether there is more."""
        received = self._clock.monotonic_ms()
        rows, turns, epoch, more = read_row(GrantedReply, reply)
        self._learn(epoch, received)
        found: list[Delivery | Turn] = [*self._deliveries(rows, sent, received)]
        found += self._turns(turns, sent, received)
        return found, bool(more)

    def _turns(self, rows: Sequence[Any], sent: float, received: float) -> list[Turn]:
        """Return the turns that a reply granted: to a call made at ``sent``."""
        return read_turns(rows, lease_mono_ms=sent + self.lease_ms, received_mono_ms=received)

    def _deliveries(self, rows: Sequence[Any], sent: float, received: float) -> list[Delivery]:
        """Return what a reply granted: to a call made at ``sent``, by local monotonic time."""
        if not rows:
            return []
        return read_deliveries(
            rows,
            lease_mono_ms=sent + self.lease_ms,
            # Others' leases are reckoned from the reply: the call may have taken long.
            received_mono_ms=received,
            data_loss_ms=self._data_loss_ms,
            settled_mono_ms=self._settled_mono_ms,
        )
