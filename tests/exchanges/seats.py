"""Every card on every exchange, and what an adapter still lacks."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from tests.exchange_simulator.simulator import Simulator
from tests.exchanges.card import Card
from tests.exchanges.deck import CARDS
from tests.exchanges.venues import VENUES, Venue
from worker.domain.market import MarketKind

_EVERYWHERE: Final = ("binance", "bybit", "okx", "kraken", "coinbase")
#: Cards that are not passed yet: the reason, and where. Each is run all the same and must fail;
#: once it passes, it has to go from here.
PENDING: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {}


class Seat(NamedTuple):
    """A card on one kind of market of one exchange."""

    venue: Venue
    kind: MarketKind
    card: Card

    @property
    def name(self) -> str:
        """For the test's id."""
        return f"{self.venue.name}-{self.kind}-{self.card.id}"

    @property
    def cannot(self) -> str:
        """The exchange's document on why it cannot do this; empty where it can."""
        cannot, name = self.card.cannot, self.venue.name
        return cannot.get(name) or cannot.get(f"{name}-{self.kind}", "")

    @property
    def pending(self) -> str:
        """What the adapter lacks; empty where it must pass."""
        reason, where = PENDING.get(self.card.id, ("", ()))
        return reason if {self.venue.name, f"{self.venue.name}-{self.kind}"} & {*where} else ""


def seats() -> Iterator[Seat]:
    """Return every card of every exchange, exchange by exchange."""
    for venue in VENUES.values():
        for kind in venue.kinds:
            for card in CARDS:
                if kind in card.kinds:
                    yield Seat(venue, kind, card)


def list_markets(simulator: Simulator, venue: Venue) -> None:
    """List the markets of every card on a simulator."""
    simulator.set_balances({"BNB": "1000"})
    for card in CARDS:
        card.list_markets(simulator, venue)
