"""Paper trading wholly in memory, for tests of programs that send signals and read events.

>>> import asyncio
>>> from worker.client import new_signal
>>> from worker.testing import paper_trading
>>> async def buy() -> str:
...     signal = new_signal(
...         "breakout-1",
...         "binance",
...         "BTC/USDT",
...         direction="long",
...         strength=0.8,
...         confluence_score=7,
...         entry_price="65000",
...     )
...     async with paper_trading() as trading:
...         await trading.send(signal)
...         return (await trading.ended("breakout-1")).type
>>> asyncio.run(buy())
'OrderFilled'

The workers, the limits, the messages and the simulated exchange are the real ones; only Redis is
replaced, by :class:`~worker.ledger.memory.account.MemoryAccount`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from worker.assembly.worker import Worker
from worker.client import MalformedSignalError, ReceivedEvent, Signal, received
from worker.config.keys import Config
from worker.domain.event import TERMINAL_EVENTS
from worker.domain.money import use_exact_arithmetic
from worker.domain.signal_encoding import encode_signals
from worker.ledger.access import DEAD_STREAM, OUTPUT_STREAMS, StreamEntry
from worker.ledger.limits import why_too_large
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.replies import Book
from worker.runtime.cancellation import cancel_all
from worker.runtime.errors import ConfigError

__all__ = ["PaperTrading", "paper_trading"]

_TERMINAL: Final = frozenset(kind.__name__ for kind in TERMINAL_EVENTS)


class PaperTrading:
    """An account in memory and the workers that trade it.

    Args:
        account: the account.
        workers: at least one.

    Attributes:
        account: everything the ledger keeps, to look at or to set up.
    """

    def __init__(self, account: MemoryAccount, workers: Sequence[Worker]) -> None:
        self.account = account
        self._workers = workers
        self._running: list[asyncio.Task[None]] = []

    async def send(self, signal: Signal | Mapping[str, Any], *, key: str | None = None) -> str:
        """Put one signal on the stream; as :meth:`worker.client.AsyncSignalProducer.send`.

        Args:
            signal: from :func:`worker.client.new_signal`, or the fields of the contract by name.
            key: message group; by default exchange and symbol.

        Returns:
            The entry's id.

        Raises:
            MalformedSignalError: a field breaks its rule; nothing was sent.
        """
        (data,) = encode_signals([signal])
        entry = {"data": data} if key is None else {"data": data, "key": key.encode()}
        if problem := why_too_large(entry):
            raise MalformedSignalError(problem)
        return self.account.add(entry)

    def events(self, *streams: str, signal_id: str | None = None) -> list[ReceivedEvent]:
        """Return the events of some streams so far, of all output streams unless named.

        Args:
            streams: of ``orders``, ``positions``, ``system``.
            signal_id: only those about this signal.
        """
        names = streams or OUTPUT_STREAMS
        entries = [one for name in names for one in self.account.read(name)]
        # Those of one moment in the order of the streams, as whoever tails them sees them.
        entries.sort(key=lambda entry: entry.order[0])
        events = map(received, entries)
        return [one for one in events if signal_id is None or one.signal_id == signal_id]

    def dead_letters(self) -> list[StreamEntry]:
        """Return the dead letters so far."""
        return self.account.read(DEAD_STREAM)

    async def book(self) -> Book:
        """Return the open positions by position key."""
        return await self._workers[0].ledger.book()

    async def ended(self, signal_id: str, *, timeout_s: float = 10.0) -> ReceivedEvent:
        """Wait until a signal has ended; return its terminal event.

        Raises:
            TimeoutError: it has not ended in that time; names its events, and the errors of dead
                letters.
            ExceptionGroup: a worker failed.
        """
        told = self.account.outputs.listeners.listen()
        waiting = asyncio.ensure_future(self._terminal(signal_id, told))
        try:
            await asyncio.wait(
                {waiting, *self._running},
                timeout=timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if waiting.done():
                return waiting.result()
        finally:
            self.account.outputs.listeners.forget(told)
            await cancel_all([waiting])
        for task in self._running:
            if task.done():
                task.result()
        kinds = [one.type for one in self.events(signal_id=signal_id)]
        letters = [letter.text("error") for letter in self.dead_letters()]
        raise TimeoutError(
            f"{signal_id} has not ended in {timeout_s:g} s; its events: {kinds}; "
            f"dead letters: {letters}"
        )

    async def _terminal(self, signal_id: str, told: asyncio.Event) -> ReceivedEvent:
        while True:
            told.clear()
            for event in self.events("orders", signal_id=signal_id):
                if event.type in _TERMINAL and event.data.get("terminal") is True:
                    return event
            await told.wait()

    def start(self) -> None:
        """Let the workers work."""
        self._running = [asyncio.ensure_future(worker.trade()) for worker in self._workers]

    async def stop(self) -> None:
        """Let the workers finish what is in hand, and close them.

        Raises:
            ExceptionGroup: a worker failed.
        """
        for worker in self._workers:
            worker.engine.stop()
        try:
            await asyncio.gather(*self._running)
        finally:
            await cancel_all(self._running)
            for worker in self._workers:
                await worker.close()


@asynccontextmanager
async def paper_trading(
    config: Config | None = None, *, workers: int = 1
) -> AsyncIterator[PaperTrading]:
    """Trade an account in memory, with the simulated exchange.

    Args:
        config: any configuration in paper mode; the defaults unless given: six exchanges, markets
            at the prices that signals state. What it says of Redis, HTTP and tracing is not used.
        workers: how many workers share the account.

    Raises:
        ConfigError: the configuration is not one for paper mode.
        ExceptionGroup: a worker failed.
    """
    config = config or Config()
    if config.mode != "paper":
        raise ConfigError("mode", "only paper mode can be traded in memory")
    use_exact_arithmetic()
    config = msgspec.structs.replace(config, tracing=Config().tracing)
    account = MemoryAccount(config.account)
    trading = PaperTrading(
        account, [Worker(config, account=account) for _ in range(max(workers, 1))]
    )
    trading.start()
    try:
        yield trading
    finally:
        await trading.stop()
