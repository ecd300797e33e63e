"""The ledger's typed calls: one method a script, values in, values out."""

from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, Final

from worker.domain.trading_state import TradingState
from worker.ledger.batch import Batch
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.items import AdmitItem, CommitItem, arguments
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
    read_account,
    read_admission,
    read_book,
    read_delivery,
    read_record,
    read_verdict,
)
from worker.ledger.scripts import Doorbell, Scripts
from worker.runtime.clock import Clock

#: Entries in one call, and calls under way: while the server works on one batch, the worker does on
#: the next. Half of the default concurrency, so that there are two.
MAX_BATCH: Final = 32
LANES: Final = 2


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
        on_batch: told of every round trip that carried several signals: step, how many, seconds.
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
        on_batch: Callable[[str, int, float], None] = lambda _step, _size, _seconds: None,
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
        self._on_batch = on_batch
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
        self._on_batch("admit", len(items), (self._clock.monotonic_ms() - sent) / 1000)
        at_ms, rows = reply
        return [read_admission(row, at_ms) for row in rows]

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
        self._on_batch("commit", len(items), (self._clock.monotonic_ms() - sent) / 1000)
        following = dict(zip(handing, self._deliveries(handed, sent), strict=True))
        return [
            Committed(STATUS_OF[status], following.get(number))
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
        """Look once more before an order is sent."""
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
        rows, told = await self._scripts.run(
            "adopt", self.worker, self.lease_ms, count, self._primary
        )
        self._learn(told)
        return self._deliveries(rows, sent)

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
        return read_account(await self._scripts.run("account"))

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
        told = [read_delivery(delivery) for delivery in rows[1::2]]
        return [
            Delivery(
                entry_id=entry_id.decode(),
                fields=fields,
                token=token,
                deliveries=deliveries,
                record=read_record(signal_id.decode(), record) if signal_id else None,
                lease_mono_ms=lease_mono_ms,
                received_mono_ms=received_mono_ms,
                overdue_ms=overdue,
                data_loss_ms=self._data_loss_ms,
                settled_mono_ms=self._settled_mono_ms,
                verdict=read_verdict(verdict) if verdict is not None else None,
            )
            for entry_id, (token, deliveries, signal_id, record, overdue, verdict, fields) in zip(
                rows[::2], told, strict=True
            )
        ]


def _is_item_error(error: Exception) -> bool:
    """Whether one item may have spoilt the batch: the script failed, or what it was sent."""
    return not isinstance(error, LedgerUnavailableError)
