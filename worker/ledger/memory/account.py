"""One account in the memory of a process; its workers' ledgers share it."""

from collections.abc import Mapping

from worker.domain.trading_asks import Control
from worker.domain.trading_state import TradingState
from worker.ledger.access import INPUT_STREAM, StreamEntry, split_id
from worker.ledger.memory.agenda import Agenda
from worker.ledger.memory.bell import Bell
from worker.ledger.memory.book import BookRows
from worker.ledger.memory.control import TradingControl
from worker.ledger.memory.corrections import Requests
from worker.ledger.memory.office import Office
from worker.ledger.memory.orders import OrderRows
from worker.ledger.memory.outputs import Outputs
from worker.ledger.memory.pauses import Pauses
from worker.ledger.memory.queue import Queue
from worker.ledger.memory.records import Records
from worker.ledger.memory.resting_book import RestingBook
from worker.ledger.memory.stream import Stream
from worker.ledger.memory.sums import Sums
from worker.runtime.clock import Clock, SystemClock


class MemoryAccount:
    """Everything the ledger knows of an account, each concern in an object of its own.

    The modules beside this one hold the steps that change it (``claiming``, ``admitting``,
    ``committing`` ...): plain functions that take the account first. A step never waits, so nothing
    happens between its beginning and its end, as in a script of Redis.

    Args:
        account: its id.
        clock: the account's own time, as Redis's would be; this machine's unless given.
    """

    def __init__(self, account: str = "main", *, clock: Clock | None = None) -> None:
        self.account = account
        self._clock = clock or SystemClock()
        self.bell = Bell()
        self.queue = Queue(self.bell)
        self.book = BookRows()
        self.sums = Sums()
        self.records = Records()
        self.pauses = Pauses()
        self.office = Office()
        self.outputs = Outputs()
        self.control = TradingControl()
        self.corrections = Requests()
        self.orders = OrderRows()
        self.agenda = Agenda()
        self.resting = RestingBook()

    def now_ms(self) -> int:
        """Return the account's time, Unix milliseconds."""
        return self._clock.now_ms()

    @property
    def trading_state(self) -> TradingState:
        """Return the trading state in force."""
        return self.control.state

    # -- producers and consumers ---------------------------------------------------------------

    def add(self, fields: Mapping[str, bytes]) -> str:
        """Put one entry on the signals stream (``data``; ``key`` where wanted); return its id."""
        encoded = {name.encode(): value for name, value in fields.items()}
        entry_id = self.queue.signals.append(encoded, self.now_ms())
        self.bell.wake()
        return entry_id

    def read(self, stream: str, after: str = "0-0") -> list[StreamEntry]:
        """Return the entries of a stream, by its short name, after an id."""
        return [
            StreamEntry(
                stream=stream,
                id=row.entry_id,
                fields={name.decode(errors="replace"): row.fields[name] for name in row.fields},
            )
            for row in self.stream(stream).after(split_id(after))
        ]

    def stream(self, name: str) -> Stream:
        """Return a stream by its short name."""
        return self.queue.signals if name == INPUT_STREAM else self.outputs.streams[name]

    def set_trading_state(self, state: TradingState, *, reason: str, actor: str) -> None:
        """Set the trading state at once, without an event, as a test may want to."""
        self.control.control = Control(
            trading_state=state, reason=reason, actor=actor, changed_at=""
        )
        self.bell.ring(self.now_ms())
