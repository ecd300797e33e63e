"""Profit and loss of an account, realised and not, and the holdings of its wallets."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from worker.domain.market import quote_currency
from worker.domain.money import rounded_text
from worker.domain.position import Position
from worker.domain.sheet import Sheet, WalletRow
from worker.domain.signal import LONG
from worker.ledger.inspection import Snapshot
from worker.ledger.replies import Book
from worker.runtime.clock import utc


class PositionPnl(msgspec.Struct, frozen=True, kw_only=True):
    """One open position's profit in its quote currency; None where its mark is not known."""

    exchange: str
    symbol: str
    strategy_id: str | None
    currency: str
    realized: Decimal
    unrealized: Decimal | None
    mark: Decimal | None


class Pnl(msgspec.Struct, frozen=True, kw_only=True):
    """An account's profit by quote currency.

    ``unrealized`` lacks the currencies of which a mark is not known. ``marks_age_ms`` says how old
    the marks are.
    """

    at: datetime
    marks_age_ms: int | None
    realized_today: dict[str, Decimal]
    realized: dict[str, Decimal]
    unrealized: dict[str, Decimal]
    by: tuple[PositionPnl, ...]


class Balances(msgspec.Struct, frozen=True, kw_only=True):
    """The wallets' holdings by the keeper's sheet; ``unknown`` says why an exchange is missing.

    ``equity`` is None: it needs the value of every currency held.
    """

    at: datetime
    age_ms: int | None
    equity: dict[str, Decimal] | None
    wallets: tuple[WalletRow, ...]
    unknown: dict[str, str]


def marks_of(snapshot: Snapshot) -> dict[tuple[str, str], Decimal]:
    """Return the marks by exchange and symbol."""
    rows = snapshot.sheet.sheet.marks if snapshot.sheet else ()
    return {(row.exchange, row.symbol): row.price for row in rows}


def unrealized(position: Position, mark: Decimal | None) -> Decimal | None:
    """Return what closing a position at ``mark`` would earn without fees, quote units."""
    if mark is None:
        return None
    gain = mark * position.quantity - position.cost
    return Decimal(rounded_text(gain if position.direction is LONG else -gain))


def pnl_of(snapshot: Snapshot, book: Book) -> Pnl:
    """Return an account's profit from its snapshot and its book."""
    marks = marks_of(snapshot)
    rows = tuple(_row(one, marks) for _, one in sorted(book.positions.items()))
    unknown = {row.currency for row in rows if row.unrealized is None}
    sums: dict[str, Decimal] = {}
    for row in rows:
        if row.unrealized is not None and row.currency not in unknown:
            sums[row.currency] = sums.get(row.currency, Decimal(0)) + row.unrealized
    return Pnl(
        at=utc(snapshot.at_ms),
        marks_age_ms=_age_ms(snapshot),
        realized_today=snapshot.realized_today,
        realized=snapshot.realized,
        unrealized=sums,
        by=rows,
    )


def _row(position: Position, marks: Mapping[tuple[str, str], Decimal]) -> PositionPnl:
    mark = marks.get((position.exchange, position.symbol))
    return PositionPnl(
        exchange=position.exchange,
        symbol=position.symbol,
        strategy_id=position.strategy_id,
        currency=quote_currency(position.symbol),
        realized=position.realized_pnl,
        unrealized=unrealized(position, mark),
        mark=mark,
    )


def balances_of(snapshot: Snapshot) -> Balances:
    """Return what the wallets hold."""
    sheet = snapshot.sheet.sheet if snapshot.sheet else Sheet()
    return Balances(
        at=utc(snapshot.at_ms),
        age_ms=_age_ms(snapshot),
        equity=None,
        wallets=sheet.wallets,
        unknown=sheet.unknown,
    )


def _age_ms(snapshot: Snapshot) -> int | None:
    return max(snapshot.at_ms - snapshot.sheet.at_ms, 0) if snapshot.sheet else None
