"""One worker's ledger over an account in memory."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec

from worker.domain.sheet import Sheet
from worker.ledger.budgets import Budgets
from worker.ledger.items import AdmitItem, CommitItem
from worker.ledger.layouts import Held, LettersTrimmedReply, Released
from worker.ledger.memory import admitting, claiming, committing, fleet, keeping, turning
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.grants import Grant
from worker.ledger.memory.steps import DirectSteps, Steps
from worker.ledger.memory.turning import TurnGrant
from worker.ledger.ports import SWEPT_AT_ONCE
from worker.ledger.replies import (
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
    read_verdict,
)
from worker.ledger.scripts import Doorbell
from worker.ledger.turns import ApplyItem, Turn
from worker.ledger.words import Status
from worker.runtime.clock import Clock


class MemoryLedger:
    """A worker's calls to an account in memory; a :class:`~worker.ledger.ports.Ledger`.

    Args:
        account: shared by all workers of the account.
        clock: its monotonic time measures leases on this side.
        worker: this worker's consumer name.
        lease_ms: how long a grant lasts without renewal.
        retention_ms: how long a finished signal's record is kept.
        output_length: how many entries an output stream keeps.
        on_batch: called after every call with several signals: step, how many, seconds.
        max_waiting: how many entries may wait in groups before openings that would have to end.
        max_group_waiting: the same of one group; and how many others than openings may wait in it.
        budgets: this worker's budgets of requests, which are shared by name.
        steps: runs the steps; at once unless given.
    """

    def __init__(
        self,
        account: MemoryAccount,
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
        steps: Steps | None = None,
    ) -> None:
        self._account = account
        self._clock = clock
        self.worker = worker
        self.lease_ms = lease_ms
        self._terms = committing.Terms(lease_ms, retention_ms, output_length)
        self._claim_terms = claiming.ClaimTerms(lease_ms, max_waiting, max_group_waiting)
        self._max_waiting = max_waiting
        self._max_group_waiting = max_group_waiting
        self._budgets = budgets
        self._on_batch = on_batch
        self._steps: Steps = steps or DirectSteps(account, clock)
        #: The last id seen of the bell's stream.
        self._bell = b"0-0"

    @property
    def lost_replies(self) -> int:
        """Return how many answers were lost; :meth:`resync` finds the entries they granted."""
        return self._steps.lost_replies

    # -- entries -------------------------------------------------------------------------------

    async def ensure_group(self) -> None:
        """Do nothing: an account in memory cannot lose its group."""

    async def claim(
        self, room: int, *, turns: int = 0, after: bytes | None = None, wait_ms: int = 500
    ) -> Claim:
        """Take up to ``room`` entries and ``turns`` turns.

        With ``after``, wait up to ``wait_ms`` for news first.
        """
        sent = self._clock.monotonic_ms()
        step = partial(claiming.claim, self._account, self.worker, self._claim_terms, room, turns)
        if after is None:
            claimed = await self._steps.run("claim", step)
        else:
            doorbell = Doorbell(after, self._bell, wait_ms)
            claimed, self._bell = await self._steps.run_after(doorbell, "claim", step)
        self._learn_holds()
        return Claim(
            deliveries=self._deliveries(claimed.granted, sent),
            tail=claimed.tail,
            more=claimed.more,
            vanished=claimed.vanished,
            oversize=claimed.oversize,
            turns=[self._turn(one, sent) for one in claimed.turns],
        )

    def hang_up(self) -> None:
        """Make a waiting claim fail now."""
        self._steps.hang_up()

    async def heartbeat(self, held: Iterable[tuple[str, int]], status: bytes) -> Heartbeat:
        """Renew the leases of ``held`` and announce ``status`` (JSON)."""
        sent = self._clock.monotonic_ms()
        names = tuple(self._budgets.names()) if self._budgets is not None else ()
        beat = await self._steps.run(
            "heartbeat",
            partial(
                fleet.heartbeat,
                self._account,
                self.worker,
                self.lease_ms,
                [Held(*one) for one in held],
                status,
                names,
            ),
        )
        self._learn_holds()
        if self._budgets is not None and names:
            self._budgets.learn_shares(beat.shares)
        return Heartbeat(
            lost=beat.lost,
            trading_state=beat.trading_state,
            lease_mono_ms=sent + self.lease_ms,
        )

    async def release(self, entries: Iterable[tuple[str, int, int, bool]]) -> int:
        """Give entries back; return how many were still held."""
        given = [Released(*one) for one in entries]
        if not given:
            return 0
        step = partial(claiming.release, self._account, self.worker, given)
        return await self._steps.run("release", step)

    async def resync(self, known: Iterable[str]) -> list[Delivery | Turn]:
        """Return what is leased to this worker although no answer that arrived said so."""
        sent = self._clock.monotonic_ms()
        step = partial(claiming.resync, self._account, self.worker, self.lease_ms, frozenset(known))
        entries, turns = await self._steps.run("resync", step)
        found: list[Delivery | Turn] = [*self._deliveries(entries, sent)]
        return found + [self._turn(one, sent) for one in turns]

    async def park(
        self,
        entry_id: str,
        token: int,
        signal_id: str,
        retry_ms: int,
        event: tuple[str, str, str],
    ) -> bool:
        """Leave an unresolved order to the keeper, and write ``event`` once."""
        step = partial(
            admitting.park,
            self._account,
            self.worker,
            entry_id,
            token,
            signal_id,
            retry_ms,
            event,
        )
        return await self._steps.run("park", step)

    async def adopt(self, count: int) -> list[Delivery]:
        """Take up to ``count`` unresolved orders that are due for a look-up."""
        sent = self._clock.monotonic_ms()
        step = partial(claiming.adopt, self._account, self.worker, self.lease_ms, count)
        return self._deliveries(await self._steps.run("adopt", step), sent)

    # -- orders --------------------------------------------------------------------------------

    async def admit(self, items: Sequence[AdmitItem]) -> list[Admission]:
        """Reserve limits and write records, each item wholly or not at all."""
        sent = self._clock.monotonic_ms()
        step = partial(admitting.admit, self._account, self.worker, tuple(items))
        answers = await self._steps.run("admit", step)
        self._on_batch("admit", len(items), (self._clock.monotonic_ms() - sent) / 1000)
        return answers

    async def authorize(self, entry_id: str, token: int, exchange: str) -> Authorization:
        """Look once more before an order is sent."""
        step = partial(admitting.authorize, self._account, self.worker, entry_id, token, exchange)
        return await self._steps.run("authorize", step)

    async def commit(self, items: Sequence[CommitItem]) -> list[Committed]:
        """Write outcomes, and take the next entries of their groups."""
        sent = self._clock.monotonic_ms()
        step = partial(committing.commit, self._account, self.worker, self._terms, tuple(items))
        answers = await self._steps.run("commit", step)
        self._learn_holds()
        self._on_batch("commit", len(items), (self._clock.monotonic_ms() - sent) / 1000)
        return [
            Committed(one.status, self._delivery(one.following, sent) if one.following else None)
            for one in answers
        ]

    async def apply(self, item: ApplyItem) -> Status:
        """Write what a turn has found out: COMMITTED, FENCED, or CHANGED where the book is."""
        length = self._terms.output_length
        step = partial(turning.apply, self._account, self.worker, item, length)
        return await self._steps.run("apply", step)

    # -- the account ---------------------------------------------------------------------------

    async def account(self) -> Account:
        """Return the account in numbers."""
        step = partial(
            keeping.read_account,
            self._account,
            max_waiting=self._max_waiting,
            max_group_waiting=self._max_group_waiting,
        )
        return await self._steps.run("read_account", step)

    async def book(self) -> Book:
        """Return the open positions and which are reserved."""
        return await self._steps.run("read_book", partial(keeping.read_book, self._account))

    async def throttle(self, exchange: str, pause_ms: int) -> int:
        """Keep every worker from sending to ``exchange``; return the ms in force."""
        step = partial(fleet.throttle, self._account, exchange, pause_ms)
        return await self._steps.run("throttle", step)

    async def announce(self, event: tuple[str, str, str]) -> None:
        """Write one event (type, id, JSON) to the system stream, once."""
        step = partial(keeping.announce, self._account, event, self._terms.output_length)
        await self._steps.run("announce", step)

    # -- the fleet -----------------------------------------------------------------------------

    async def elect(self, term_ms: int, readiness_note: str = "") -> Election:
        """Become or remain the account's keeper for ``term_ms``, and leave others a note."""
        step = partial(fleet.elect, self._account, self.worker, term_ms, readiness_note)
        return await self._steps.run("elect", step)

    async def resign(self) -> None:
        """Give up being the account's keeper."""
        await self.elect(0)

    async def publish(self, sheet: Sheet, lifetime_ms: int) -> bool:
        """Publish the keeper's sheet; False if this worker is not the keeper."""
        text = msgspec.json.encode(sheet)
        step = partial(fleet.publish, self._account, self.worker, text, lifetime_ms)
        return await self._steps.run("publish", step)

    async def take_seat(self, exchange: str, key_digest: str, seats: int, term_ms: int) -> Seat:
        """Take or keep one of the ``seats`` at an API key for ``term_ms``, 0 to give it up."""
        holder = f"{self.worker}:{exchange}"
        step = partial(fleet.take_seat, self._account, holder, key_digest, seats, term_ms)
        return await self._steps.run("seat", step)

    async def sweep(
        self, signal_retention_ms: int, start: bytes = b"-", count: int = SWEPT_AT_ONCE
    ) -> Swept:
        """Trim the signals stream, forget workers that are gone; there are no orphans to find."""
        step = partial(keeping.sweep, self._account, signal_retention_ms)
        return await self._steps.run("sweep", step)

    async def trim_letters(self, max_letters: int, max_bytes: int) -> LettersTrimmedReply:
        """Remove the oldest dead letters beyond these bounds."""
        step = partial(keeping.trim_letters, self._account, max_letters, max_bytes)
        return await self._steps.run("trim_letters", step)

    async def leave(self) -> int:
        """Sign off; return how many entries this consumer still owns."""
        return await self._steps.run("leave", partial(fleet.leave, self._account, self.worker))

    # -- this side -----------------------------------------------------------------------------

    def _learn_holds(self) -> None:
        """Pass on which budgets are held, and for how long."""
        holds = self._account.pauses.all_left(self._account.now_ms())
        if holds and self._budgets is not None:
            self._budgets.learn_holds(holds)

    def _deliveries(self, grants: Iterable[Grant], sent: float) -> list[Delivery]:
        return [self._delivery(grant, sent) for grant in grants]

    def _turn(self, grant: TurnGrant, sent: float) -> Turn:
        """Return a turn that was granted to a call made at ``sent``."""
        return Turn(
            entry_id=grant.turn_id,
            token=grant.token,
            deliveries=grant.deliveries,
            overdue_ms=grant.overdue_ms,
            lease_mono_ms=sent + self.lease_ms,
            received_mono_ms=self._clock.monotonic_ms(),
            book=grant.book,
            orders=grant.orders,
        )

    def _delivery(self, grant: Grant, sent: float) -> Delivery:
        """Return what was granted to a call made at ``sent``, by local monotonic time."""
        return Delivery(
            entry_id=grant.entry_id,
            fields=dict(grant.fields),
            token=grant.token,
            deliveries=grant.deliveries,
            record=grant.record,
            lease_mono_ms=sent + self.lease_ms,
            # Others' leases are reckoned from the reply: the call may have taken long.
            received_mono_ms=self._clock.monotonic_ms(),
            overdue_ms=grant.overdue_ms,
            verdict=read_verdict(grant.verdict) if grant.verdict is not None else None,
            is_surplus=grant.is_surplus,
        )
