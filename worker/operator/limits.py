"""The account's limits: how much of each is used, and how much is allowed."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.money import HUNDRED, ratio, tidy
from worker.ledger.inspection import DAY_MS, Snapshot
from worker.ledger.limits import WINDOW_MS
from worker.runtime.clock import utc

_PERCENT: Final = "%"
#: Digits of a percentage behind the point.
_PERCENT_DIGITS: Final = 6


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit, ``name`` its configuration key.

    ``scope`` is ``account`` or the quote currency it is counted in. ``used`` is None where it
    cannot be known (no wallet), ``allowed`` None where the limit is off. ``resets_at`` is when time
    alone makes ``used`` smaller, None where it never does. ``last_refusal`` is the time of the last
    order refused for it, where that is known.
    """

    name: str
    scope: str
    used: Decimal | None
    allowed: Decimal | None
    unit: str
    resets_at: datetime | None
    last_refusal: datetime | None = None

    @property
    def is_reached(self) -> bool:
        """Return whether nothing more is allowed."""
        if self.used is None or self.allowed is None:
            return False
        return self.used >= self.allowed


def limits_of(snapshot: Snapshot, own: Mapping[str, Decimal]) -> tuple[Limit, ...]:
    """Return every limit, those by currency once for each in use.

    Args:
        snapshot: the account.
        own: the limits by configuration key, for where no keeper has published the workers'.
    """
    published = snapshot.sheet.sheet.limits if snapshot.sheet else {}
    return tuple(_limits(snapshot, {**own, **published}))


def _limits(snapshot: Snapshot, allowed: Mapping[str, Decimal]) -> Iterator[Limit]:
    def most(name: str) -> Decimal | None:
        return allowed.get(name) or None  # 0 is off

    at_ms = snapshot.at_ms
    name = "risk.max_concurrent_positions"
    yield Limit(
        name=name,
        scope="account",
        used=Decimal(snapshot.taken_positions),
        allowed=most(name),
        unit="positions",
        resets_at=None,
    )
    wallets = _wallets(snapshot)
    midnight = utc((at_ms // DAY_MS + 1) * DAY_MS)
    currencies = dict.fromkeys((*snapshot.exposure, *snapshot.realized_today, *wallets))
    for currency in sorted(currencies):
        exposure = snapshot.exposure.get(currency, Decimal(0))
        loss = max(-snapshot.realized_today.get(currency, Decimal(0)), Decimal(0))
        if not (exposure or loss or currency in snapshot.exposure):
            continue
        for name, amount, resets_at in (
            ("risk.max_total_exposure_pct", exposure, None),
            ("risk.max_daily_loss_pct", loss, midnight),
        ):
            yield Limit(
                name=name,
                scope=currency,
                used=_percent(amount, wallets.get(currency)),
                allowed=most(name),
                unit=_PERCENT,
                resets_at=resets_at,
            )
    name, oldest_ms = "risk.max_orders_per_minute", snapshot.oldest_entry_ms
    yield Limit(
        name=name,
        scope="account",
        used=Decimal(snapshot.entries_last_minute),
        allowed=most(name),
        unit="entries",
        resets_at=utc(oldest_ms + WINDOW_MS) if oldest_ms is not None else None,
    )


def _wallets(snapshot: Snapshot) -> dict[str, Decimal]:
    """Return the smallest wallet of each currency: an order is compared with the one that pays."""
    found: dict[str, Decimal] = {}
    for row in snapshot.sheet.sheet.wallets if snapshot.sheet else ():
        found[row.currency] = min(row.total, found.get(row.currency, row.total))
    return found


def _percent(amount: Decimal, wallet: Decimal | None) -> Decimal | None:
    if not amount:
        return Decimal(0)
    return tidy(round(ratio(amount * HUNDRED, wallet), _PERCENT_DIGITS)) if wallet else None
