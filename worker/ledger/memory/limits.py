"""The rules that an order must pass before it is admitted."""

from typing import Final, assert_never

import msgspec

from worker.domain.refusal import Code
from worker.domain.trading_state import TradingState
from worker.ledger.items import AdmitItem
from worker.ledger.limit_rows import Kind, LimitRow
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.replies import Waits
from worker.ledger.stored import BookRow, Reservation

#: Reservations of signals that open a position.
_ENTERING: Final = frozenset({Reservation.OPENING, Reservation.RESTING})


class _Opened(msgspec.Struct, frozen=True):
    """The part of a position that says who opened it."""

    strategy_id: str | None = None


def rule_broken(account: MemoryAccount, item: AdmitItem, row: BookRow) -> Code | Waits | None:
    """Return the first rule that an order breaks, or None; a close may have to wait.

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
    if row.reservation in _ENTERING or (row.reservation and not sends):
        return Code.POSITION_BUSY
    if not sends:
        return None  # if it traded, it is part of whatever position there is
    if row.reservation or row.position:
        return Code.POSITION_EXISTS
    return _limit_broken(account, item)


def _closing_broken(item: AdmitItem, row: BookRow) -> Code | Waits | None:
    if row.reservation is Reservation.RESTING and not item.only_look:
        return Waits()
    if row.reservation:
        return Code.POSITION_BUSY
    if not row.position:
        return Code.NO_POSITION
    if item.only_look or item.opener is False:
        return None
    opened = msgspec.json.decode(row.position, type=_Opened)
    return None if item.opener == (opened.strategy_id or "") else Code.NOT_THE_OPENER


def _limit_broken(account: MemoryAccount, item: AdmitItem) -> Code | None:
    """Return the code of the first of its limits that an order breaks."""
    for limit in item.limits.rows:
        if limit.most is False:
            continue  # only counted
        held = _held(account, limit)
        if limit.kind is Kind.LOSS:
            is_broken = held >= limit.most
        else:
            is_broken = held + _added(limit, item) > limit.most
        if is_broken:
            return limit.code
    return None


def count_in_limits(account: MemoryAccount, item: AdmitItem) -> None:
    """Count an order that is admitted in what is limited."""
    for limit in item.limits.rows:
        if limit.kind is Kind.SUM:
            account.sums.change_exposure(limit.counter, _added(limit, item))
        elif limit.kind is Kind.WINDOW:
            account.sums.count_admission(limit.counter, item.entry, account.now_ms())


def _added(limit: LimitRow, item: AdmitItem) -> int:
    return item.notional if limit.add is False else limit.add


def _held(account: MemoryAccount, limit: LimitRow) -> int:
    """Return what a limit's counter has come to."""
    sums, now_ms = account.sums, account.now_ms()
    match limit.kind:
        case Kind.SUM:
            return sums.exposure[limit.counter]
        case Kind.COUNT:
            return len(account.book)
        case Kind.LOSS:
            return -sums.profit_today(limit.counter, now_ms)
        case Kind.WINDOW:
            return sums.admitted_lately(limit.counter, now_ms)
        case _:
            assert_never(limit.kind)
