"""The rules that an order must pass before it is admitted."""

import msgspec

from worker.domain.refusal import Code
from worker.domain.trading_state import TradingState
from worker.ledger.items import AdmitItem
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.stored import BookRow, Reservation


class _Opened(msgspec.Struct, frozen=True):
    """The part of a position that says who opened it."""

    strategy_id: str | None = None


def rule_broken(account: MemoryAccount, item: AdmitItem, row: BookRow) -> Code | None:
    """Return the code of the first rule that an order breaks, or None.

    An order that may exist already (``only_look``) will not be sent: it needs its position whatever
    the limits say.

    Args:
        account: whose limits.
        item: the order.
        row: its position.
    """
    state, sends = account.trading_state, not item.only_look
    if sends and state is TradingState.HALTED:
        return Code.TRADING_HALTED
    if item.action != "open":
        return _closing_broken(item, row)
    if sends and state is TradingState.REDUCING:
        return Code.TRADING_REDUCING
    if row.reservation is Reservation.OPENING or (row.reservation and not sends):
        return Code.POSITION_BUSY
    if not sends:
        return None  # if it traded, it is part of whatever position there is
    if row.reservation or row.position:
        return Code.POSITION_EXISTS
    return _limit_broken(account, item)


def _closing_broken(item: AdmitItem, row: BookRow) -> Code | None:
    if row.reservation:
        return Code.POSITION_BUSY
    if not row.position:
        return Code.NO_POSITION
    if item.only_look or item.opener is False:
        return None
    opened = msgspec.json.decode(row.position, type=_Opened)
    return None if item.opener == (opened.strategy_id or "") else Code.NOT_THE_OPENER


def _limit_broken(account: MemoryAccount, item: AdmitItem) -> Code | None:
    """Return the first limit of the whole account that an opening breaks; 0 is no limit."""
    sums, now_ms, quote = account.sums, account.now_ms(), item.quote
    if len(account.book) >= item.max_positions:
        return Code.MAX_POSITIONS
    if item.max_exposure and sums.exposure[quote] + item.notional > item.max_exposure:
        return Code.MAX_EXPOSURE
    if item.max_loss and -sums.profit_today(quote, now_ms) >= item.max_loss:
        return Code.DAILY_LOSS_LIMIT
    if item.max_rate and sums.count_opening(now_ms) > item.max_rate:
        return Code.ORDER_RATE_LIMIT
    return None
