"""The protocols of an account's ledger, whatever keeps it.

``calls.py`` keeps it in Redis, ``memory/`` in the memory of one process. ``tests/contract`` holds
both to the same sentences.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from worker.domain.event_text import EventText
from worker.domain.position import Position
from worker.domain.position_key import PositionKey
from worker.domain.sheet import Sheet
from worker.domain.trading_asks import Ask, Control
from worker.ledger.inspection import StoredPosition
from worker.ledger.items import AdmitItem, CommitItem
from worker.ledger.layouts import LettersTrimmedReply
from worker.ledger.operator_calls import Corrected
from worker.ledger.published import Heartbeat as PublishedHeartbeat
from worker.ledger.published import StoredControl
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
)


class Budgets(Protocol):
    """The budgets of requests of one worker, as far as workers share them."""

    def names(self) -> Sequence[str]:
        """Return the names of the budgets, without spaces."""

    def learn_shares(self, shares: Mapping[str, tuple[int, int]]) -> None:
        """Take how many live workers use each budget, and this one's number among them."""

    def learn_holds(self, holds: Mapping[str, float]) -> None:
        """Take for how many milliseconds an exchange wants no request of a budget."""


class Ledger(Protocol):
    """An account's ledger as one worker uses it.

    Every method raises :class:`~worker.ledger.errors.LedgerError` when the ledger cannot serve.
    After a :class:`~worker.ledger.errors.LedgerUnavailableError` it is unknown whether the call
    took effect; it may be made again with the same arguments.
    """

    @property
    def worker(self) -> str:
        """Return this worker's consumer name."""

    @property
    def lease_ms(self) -> int:
        """Return how long a grant lasts without renewal."""

    @property
    def lost_replies(self) -> int:
        """Return how many replies were lost; :meth:`resync` finds the entries they granted."""

    # -- entries -------------------------------------------------------------------------------

    async def ensure_group(self) -> None:
        """Create the stream and its group where they are missing."""

    async def claim(self, room: int, *, after: bytes | None = None, wait_ms: int = 500) -> Claim:
        """Take up to ``room`` entries that may run now.

        Args:
            room: how many.
            after: an earlier claim's ``tail``, where that had nothing more. The claim then waits
                for an entry after it, or for one that was given back.
            wait_ms: for how long. A lease is measured from before the wait, so up to ``wait_ms``
                of it may already be gone.
        """

    def hang_up(self) -> None:
        """Make a waiting claim fail now."""

    async def heartbeat(self, held: Iterable[tuple[str, int]], status: bytes) -> Heartbeat:
        """Renew the leases of ``held`` (entries and tokens) and announce ``status`` (JSON)."""

    async def release(self, entries: Iterable[tuple[str, int, int, bool]]) -> int:
        """Give entries (:class:`~worker.ledger.layouts.Released`) back.

        Returns:
            How many were still held.
        """

    async def resync(self, known: Iterable[str]) -> list[Delivery]:
        """Return what is leased to this worker although no reply that arrived said so."""

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

    async def adopt(self, count: int) -> list[Delivery]:
        """Take up to ``count`` unresolved orders that are due for a look-up."""

    # -- orders --------------------------------------------------------------------------------

    async def admit(self, items: Sequence[AdmitItem]) -> list[Admission]:
        """Reserve limits and write records, each item wholly or not at all; an answer for each."""

    async def authorize(self, entry_id: str, token: int, exchange: str) -> Authorization:
        """Look once more before an order is sent."""

    async def commit(self, items: Sequence[CommitItem]) -> list[Committed]:
        """Write outcomes, and take the next entries of their groups; an answer for each."""

    # -- the account ---------------------------------------------------------------------------

    async def account(self) -> Account:
        """Return the account in numbers."""

    async def book(self) -> Book:
        """Return the open positions and which are reserved."""

    async def throttle(self, exchange: str, pause_ms: int) -> int:
        """Keep every worker of the account from sending to ``exchange``; return the ms in force."""

    async def announce(self, event: tuple[str, str, str]) -> None:
        """Write one event (type, id, JSON) to the system stream, once."""

    # -- the fleet -----------------------------------------------------------------------------

    async def elect(self, term_ms: int, readiness_note: str = "") -> Election:
        """Become or remain the account's keeper for ``term_ms``, and leave others a note."""

    async def resign(self) -> None:
        """Give up being the account's keeper."""

    async def publish(self, sheet: Sheet, lifetime_ms: int) -> bool:
        """Publish the keeper's sheet; False if this worker is not the keeper."""

    async def take_seat(self, exchange: str, key_digest: str, seats: int, term_ms: int) -> Seat:
        """Take or keep one of the ``seats`` at an API key for ``term_ms``, 0 to give it up."""

    async def sweep(self, signal_retention_ms: int) -> Swept:
        """Register orphaned entries, trim the signals stream, remove consumers that are gone."""

    async def trim_letters(self, max_letters: int, max_bytes: int) -> LettersTrimmedReply:
        """Remove the oldest dead letters beyond these bounds, a portion a call."""

    async def leave(self) -> int:
        """Sign off; return how many entries this consumer still owns."""


class CorrectionCalls(Protocol):
    """The corrections of the book that people ask for, as the keeper carries them out."""

    async def requested_corrections(self) -> dict[str, bytes]:
        """Return some of the corrections that operators ask for, JSON by request id."""

    async def refuse_correction(self, request: str, answer: bytes) -> None:
        """Answer a request that is not carried out."""

    async def held(self, key: PositionKey) -> StoredPosition | None:
        """Return one position of the book; None if the account holds none under ``key``."""

    async def correct(
        self,
        before: StoredPosition,
        after: Position,
        realized: Decimal,
        *,
        quote: str,
        event: EventText,
        audit: EventText,
        request: str = "",
        answer: bytes = b"",
        valid_until_ms: int = 0,
    ) -> Corrected:
        """Replace a position in the book, or remove it where ``after`` holds nothing.

        Args:
            before: as it was read; the book must still hold exactly that.
            after: as it is to be.
            realized: profit of the correction, quote units.
            quote: the currency exposure and profit count in.
            event: about the position.
            audit: about the correction, for the stream ``system``.
            request: the id of the request that this answers; empty if nobody requested it.
            answer: to the request, JSON.
            valid_until_ms: until when the request may be carried out, the ledger's time.
        """


class TradingCalls(Protocol):
    """The trading state and the requests for it, read and changed."""

    @property
    def account(self) -> str:
        """Return the account's id."""

    async def read_control(self) -> StoredControl:
        """Read the trading state, ``ACTIVE`` where none was ever set, and who asks for it."""

    async def read_heartbeats(self) -> tuple[int, dict[str, PublishedHeartbeat]]:
        """Read the ledger's time (Unix ms) and every worker's last heartbeat, by name."""

    async def change_control(
        self, before: bytes, asks: Sequence[Ask], control: Control, event: EventText
    ) -> bool:
        """Store who asks for which trading state, and the state in force, with ``event``.

        Args:
            before: the requests as they were read (:class:`StoredControl`).
            asks: the requests as they are to be.
            control: the state that follows from them.
            event: about the change.

        Returns:
            False if somebody else has changed them since; nothing was written then.
        """
