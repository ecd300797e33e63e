"""The protocols of an account's ledger, whatever keeps it.

``calls.py`` keeps it in Redis, ``memory/`` in the memory of one process. ``tests/contract`` holds
both to the same sentences.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, Protocol

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
from worker.ledger.resting import Asked, Markets, RestingOrder, SeenPrice
from worker.ledger.resting_layouts import RestingRow
from worker.ledger.turns import ApplyItem, Turn
from worker.ledger.words import Status

#: How many pending entries one sweep looks at.
SWEPT_AT_ONCE: Final = 1_000


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

    async def claim(
        self, room: int, *, turns: int = 0, after: bytes | None = None, wait_ms: int = 500
    ) -> Claim:
        """Take up to ``room`` entries and ``turns`` turns that may run now.

        Args:
            room: how many entries.
            turns: how many turns.
            after: an earlier claim's ``tail``, where that had nothing more. The claim then waits
                for an entry after it, or for one that was given back.
            wait_ms: for how long. A lease is measured from before the wait, so up to ``wait_ms``
                of it may already be gone.
        """

    def hang_up(self) -> None:
        """Make a waiting claim fail now."""

    async def heartbeat(self, held: Iterable[tuple[str, int]], status: bytes) -> Heartbeat:
        """Renew leases and announce ``status`` (JSON).

        Args:
            held: entries and turns, each with its token.
            status: of this worker.
        """

    async def release(self, entries: Iterable[tuple[str, int, int, bool]]) -> int:
        """Give entries and turns (:class:`~worker.ledger.layouts.Released`) back.

        Returns:
            How many were still held.
        """

    async def resync(self, known: Iterable[str]) -> list[Delivery | Turn]:
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
        """Write outcomes, and take the next entries of their groups.

        Returns:
            An answer for each, up to one whose events cannot be written; the first of them raises.
        """

    async def apply(self, item: ApplyItem) -> Status:
        """Write what a turn has found out: COMMITTED, FENCED, or CHANGED where the book is."""

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

    async def sweep(
        self, signal_retention_ms: int, start: bytes = b"-", count: int = SWEPT_AT_ONCE
    ) -> Swept:
        """Register orphaned entries, trim the signals stream, remove consumers that are gone.

        Args:
            signal_retention_ms: how long a signal stays on its stream.
            start: where to look for orphans: the ``next`` of an earlier sweep, or the beginning.
            count: how many pending entries to look at.
        """

    async def trim_letters(self, max_letters: int, max_bytes: int) -> LettersTrimmedReply:
        """Remove the oldest dead letters beyond these bounds, a portion a call."""

    async def leave(self) -> int:
        """Sign off; return how many entries this consumer still owns."""


class RestingCalls(Protocol):
    """The orders that rest at an account's simulated exchanges."""

    async def ask(
        self,
        asked: Asked,
        market: tuple[str, str],
        client_order_id: str,
        *,
        row: RestingRow | None = None,
        prices: Sequence[SeenPrice] = (),
    ) -> RestingOrder:
        """Look at an order, let it rest if none is known by its id, or cancel it.

        Args:
            asked: what to do.
            market: exchange and symbol.
            client_order_id: the order's.
            row: the order that is to rest; the time in it is ignored.
            prices: of the market, the oldest first, which the ledger has not seen; they come first.
        """

    async def send_prices(
        self, last: int, seen: Iterable[tuple[str, str, Sequence[SeenPrice]]]
    ) -> Markets:
        """Send prices of markets where orders rest, and learn where others do.

        Args:
            last: the number that the call before returned, 0 at first.
            seen: exchange, symbol and prices, the oldest first.
        """

    async def list(self, exchange: str, symbol: str = "") -> tuple[list[RestingRow], int]:
        """List the orders that are open at a simulated exchange; and the ledger's time, Unix ms."""


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
