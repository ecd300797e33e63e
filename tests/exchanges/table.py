"""The tables of docs/exchanges.md, made from the adapters' capabilities and the cards."""

import textwrap
from collections.abc import Iterator

from tests.exchanges.deck import CARDS
from tests.exchanges.seats import PENDING, Seat, seats
from tests.exchanges.venues import VENUES
from worker.domain.market import MarketKind
from worker.exchanges.discovery import exchange_folders

_NAMES = {MarketKind.SPOT: "spot", MarketKind.LINEAR: "linear"}


def capability_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row an exchange: its markets, its transports, how many cards it passes."""
    folders = exchange_folders()
    for name, venue in VENUES.items():
        mine = [seat for seat in seats() if seat.venue is venue]
        passed = sum(not seat.cannot and not seat.pending for seat in mine)
        possible = sum(not seat.cannot for seat in mine)
        yield (
            folders[name].title,
            f"`{name}`",
            ", ".join(_NAMES[kind] for kind in venue.kinds),
            "REST, WebSocket" if folders[name].websocket_orders else "REST",
            f"{passed} of {possible}",
        )


def card_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row a card: its id, its sentence, and what holds on each exchange."""
    by_card: dict[str, dict[str, list[Seat]]] = {}
    for seat in seats():
        by_card.setdefault(seat.card.id, {}).setdefault(seat.venue.name, []).append(seat)
    for card in CARDS:
        cells = (_cell(by_card[card.id].get(name, [])) for name in VENUES)
        yield (card.id, card.sentence, *cells)


def card_header() -> tuple[str, ...]:
    """Return the titles of the cards' table."""
    folders = exchange_folders()
    return ("card", "what must hold", *(folders[name].title for name in VENUES))


def reasons() -> str:
    """Return a list of what exchanges cannot do, quoting them, and of what is not passed yet."""
    folders, bullets = exchange_folders(), []
    for card in CARDS:
        for where, quote in card.cannot.items():
            name, _, kind = where.partition("-")
            market = f", {kind}" if kind else ""
            bullets.append(f"- {card.id} on {folders[name].title}{market}: {quote}.")
    for card_id, (reason, places) in PENDING.items():
        bullets.append(f"- {card_id} not yet ({', '.join(places)}): {reason}.")
    return "\n".join(
        textwrap.fill(
            bullet,
            width=100,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for bullet in bullets
    )


def _cell(mine: list[Seat]) -> str:
    """Return a word for one exchange, or a word for each of its kinds where they differ."""
    words = {_NAMES[seat.kind]: _word(seat) for seat in mine}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return ", ".join(f"{kind} {word}" for kind, word in words.items())


def _word(seat: Seat) -> str:
    if seat.cannot:
        return "cannot"
    return "not yet" if seat.pending else "yes"
