"""Keeps a worker's seats at the API keys that only so many workers may use at once.

Some exchanges refuse a key's requests that arrive out of order (Kraken, by their nonces), so that
two workers with one key get in each other's way. Such a key has a number of seats in Redis; a
worker without one does not start the exchange, says who has it, and takes over when it is free.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from worker.config.keys import ExchangeConfig
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.errors import LedgerError
from worker.ledger.replies import Seat
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()

#: How long a seat is held without renewal, milliseconds, and how often it is renewed or asked for.
TERM_MS: Final = 10_000
TURN_EVERY_S: Final = 1.0
_UNKNOWN: Final = "Redis has not said yet whether another worker uses this API key"


class SeatLedger(Protocol):
    """The part of the ledger that keeps seats."""

    async def take_seat(self, exchange: str, key_digest: str, seats: int, term_ms: int) -> Seat:
        """Take or keep one of the ``seats`` at an API key for ``term_ms``, 0 to give it up."""


class _Place(msgspec.Struct):
    """One exchange's key, and whether this worker may use it."""

    adapter: ExchangeAdapter
    digest: str
    free: asyncio.Event
    reason: str = _UNKNOWN


class ApiKeys:
    """A worker's seats at the keys of its exchanges, from :meth:`begin` to :meth:`stop`.

    Seats are taken in the order of the exchanges' names and no further than the first that is
    refused, so that one worker gets all of them rather than several workers some.

    Args:
        adapters: by exchange name.
        sections: their configuration, by the same names.
        account: the salt of the keys' digests.
        ledger: keeps the seats.
        clock: time.
        on_change: called when an exchange's key may be used or may not be used any more.
    """

    def __init__(
        self,
        adapters: Mapping[str, ExchangeAdapter],
        *,
        sections: Mapping[str, ExchangeConfig],
        account: str,
        ledger: SeatLedger,
        clock: Clock,
        on_change: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self.on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self._places = {
            name: _Place(adapter, key_digest(account, sections[name]), asyncio.Event())
            for name, adapter in sorted(adapters.items())
            if adapter.workers_per_key and sections[name].api_key.reveal()
        }

    @property
    def is_waiting(self) -> bool:
        """Return True while there is a key that this worker must not use."""
        return any(not place.free.is_set() for place in self._places.values())

    def reason(self, name: str) -> str:
        """Return why an exchange's key must not be used now; empty if it may be."""
        place = self._places.get(name)
        return "" if place is None or place.free.is_set() else place.reason

    async def until_free(self, name: str) -> None:
        """Wait until this worker may use an exchange's key."""
        if name in self._places:
            await self._places[name].free.wait()

    def begin(self) -> None:
        """Take the seats and keep them, beside everything else."""
        if self._places and self._task is None:
            self._task = asyncio.create_task(self._follow(), name="api keys")

    async def stop(self) -> None:
        """Give the seats up, so that another worker need not wait for their terms to end."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        for name, place in self._places.items():
            try:
                await self._ledger.take_seat(name, place.digest, place.adapter.workers_per_key, 0)
            except LedgerError as error:
                log.debug("seat_not_given_up", exchange=name, error=str(error))

    async def _follow(self) -> None:
        while True:
            await self._turn()
            await self._clock.sleep(TURN_EVERY_S)

    async def _turn(self) -> None:
        """Take or renew the seats in order; what follows one that is refused is not asked for."""
        refused = ""
        for name, place in self._places.items():
            if refused:
                self._refuse(name, place, refused)
                continue
            seats = place.adapter.workers_per_key
            try:
                seat = await self._ledger.take_seat(name, place.digest, seats, TERM_MS)
            except LedgerError as error:
                # Nobody else can take a seat either.
                log.debug("seat_not_renewed", exchange=name, error=str(error))
                return
            if seat.number < 0:
                refused = sentence(name, seat.holder, seats)
                self._refuse(name, place, refused)
                continue
            place.adapter.take_seat(seat.number)
            if not place.free.is_set():
                place.free.set()
                self.on_change(name)

    def _refuse(self, name: str, place: _Place, reason: str) -> None:
        is_news = place.free.is_set() or place.reason != reason
        place.free.clear()
        place.reason = reason
        place.adapter.lose_seat(reason)
        if is_news:
            log.warning("api_key_in_use", exchange=name, reason=reason)
            self.on_change(name)


def key_digest(account: str, section: ExchangeConfig) -> str:
    """Return what an API key is known by in Redis: it tells two keys apart, and no more."""
    key = section.api_key.reveal().encode()
    return hmac.digest(account.encode(), key, hashlib.sha256).hex()[:24]


def sentence(name: str, holder: str, seats: int) -> str:
    """Return why the API key of exchange ``name`` is refused to a worker, and what to do."""
    worker = holder.rpartition(":")[0]
    if seats > 1:
        return (
            f"exchanges.{name}.api_key is used by {seats} workers already, {worker} among them, "
            "which is the most that can share a key: give this worker a key of its own"
        )
    return (
        f"exchanges.{name}.api_key is used by worker {worker}, and the key has no nonce window: "
        "give each worker a key of its own, or give this key a nonce window at the exchange and "
        f"state it in exchanges.{name}.nonce_window; when {worker} leaves, this worker takes over"
    )
