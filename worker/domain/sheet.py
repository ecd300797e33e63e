"""The account's sheet: wallets and marks as the keeper last read them from the exchanges."""

from decimal import Decimal

import msgspec


class WalletRow(msgspec.Struct, frozen=True, kw_only=True):
    """One currency in one wallet of an exchange (``spot``, ``linear``)."""

    exchange: str
    wallet: str
    currency: str
    free: Decimal
    total: Decimal


class MarkRow(msgspec.Struct, frozen=True, kw_only=True):
    """The price by which an open position is valued, quote units."""

    exchange: str
    symbol: str
    price: Decimal


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """The keeper's latest reading of the exchanges, for everybody who looks at the account.

    Attributes:
        wallets: of the exchanges that answered; currencies not held are left out.
        marks: of the open positions whose price is known.
        unknown: why an exchange's wallets are not known, by its name.
        limits: the account's limits by configuration key, as this keeper's worker has them.
        compared_ms: how long ago the book was last compared with every exchange, None for not yet
            in this keeper's term.
        term_ms: how long this keeper has been in office.
        differences: how many confirmed differences that comparison found.
    """

    wallets: tuple[WalletRow, ...] = ()
    marks: tuple[MarkRow, ...] = ()
    unknown: dict[str, str] = {}
    limits: dict[str, Decimal] = {}
    compared_ms: int | None = None
    term_ms: int = 0
    differences: int = 0
