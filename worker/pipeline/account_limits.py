"""The account's limits on openings, as rows for the ledger."""

from decimal import Decimal
from typing import Final

from worker.config.keys import RiskConfig
from worker.domain.money import MAX_MILLIONTHS
from worker.domain.refusal import Code
from worker.ledger.limit_rows import BOOK, RATE, Kind, LimitRow, Limits, limits_of

#: A percent of one unit, as the ledger counts amounts.
MILLIONTHS_A_PERCENT: Final = Decimal(10_000)


class AccountLimits:
    """Builds the limits of openings; those of a quote currency stay until its balance changes.

    Args:
        config: the ``risk`` section.
    """

    def __init__(self, config: RiskConfig) -> None:
        self._config = config
        #: In millionths of the quote currency for each unit of the balance, 0 for no limit.
        self._max_exposure = config.max_total_exposure_pct * MILLIONTHS_A_PERCENT
        self._max_loss = config.max_daily_loss_pct * MILLIONTHS_A_PERCENT
        #: By quote currency: the balance seen last, and its limits.
        self._known: dict[str, tuple[Decimal, Limits]] = {}

    def of(self, quote: str, total: Decimal) -> Limits:
        """Return the limits of an opening in the order in which they are checked.

        Args:
            quote: the currency it is paid in.
            total: the balance that pays for it.
        """
        known = self._known.get(quote)
        if known is not None and known[0] is total:
            return known[1]
        limits = self._of(quote, total)
        self._known[quote] = total, limits
        return limits

    def _of(self, quote: str, total: Decimal) -> Limits:
        config = self._config
        exposure = _share(total, self._max_exposure) or False
        rows = [
            LimitRow(BOOK, Kind.COUNT, 1, config.max_concurrent_positions, Code.MAX_POSITIONS),
            LimitRow(quote, Kind.SUM, False, exposure, Code.MAX_EXPOSURE),
        ]
        if self._max_loss:
            loss = _share(total, self._max_loss)
            rows.append(LimitRow(quote, Kind.LOSS, 0, loss, Code.DAILY_LOSS_LIMIT))
        if config.max_orders_per_minute:
            most = config.max_orders_per_minute
            rows.append(LimitRow(RATE, Kind.WINDOW, 1, most, Code.ORDER_RATE_LIMIT))
        return limits_of(*rows)


def _share(total: Decimal, limit: Decimal) -> int:
    """Return ``limit`` millionths for each unit of ``total``; 0 only where it is switched off."""
    return min(max(int(total * limit), 1), MAX_MILLIONTHS) if limit else 0
