"""Turns: granted for the live orders of positions, and what they find out written at once."""

import msgspec

from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.agenda import HeldTurn
from worker.ledger.stored import Reservation, decode_record, encode
from worker.ledger.turns import ApplyItem, LiveOrder
from worker.ledger.words import Status
from worker.runtime.errors import InvariantError


class TurnGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as it was granted; :class:`~worker.ledger.turns.Turn` explains the fields."""

    turn_id: str
    token: int
    deliveries: int
    overdue_ms: int
    book: bytes
    orders: tuple[LiveOrder, ...]


def take_turns(account: MemoryAccount, worker: str, lease_ms: int, room: int) -> list[TurnGrant]:
    """Grant turns: those whose holder's lease has run out, then positions whose time has come."""
    agenda, now_ms = account.agenda, account.now_ms()
    taken: list[TurnGrant] = []

    def take(key: str, deliveries: int, overdue_ms: int) -> None:
        if account.book.row(key).reservation is not Reservation.RESTING:
            agenda.end(key)
            return
        turn = agenda.grant(key, worker, deliveries, now_ms + lease_ms, now_ms)
        taken.append(grant_of(account, turn, overdue_ms))

    ended = agenda.expired(now_ms, room)
    for turn in ended:
        take(turn.key, turn.deliveries + 1, now_ms - turn.until_ms)
    held = {turn.key for turn in agenda.turns.values()}
    for key in agenda.due_keys(now_ms, room - len(ended) + len(held)):
        if len(taken) >= room:
            break
        if key not in held:  # else a hint came while the turn runs: it is granted once that is over
            del agenda.due[key]
            take(key, 1, 0)
    return taken


def grant_of(account: MemoryAccount, turn: HeldTurn, overdue_ms: int = 0) -> TurnGrant:
    """Return the grant of a turn: the position's line in the book, and its live orders.

    Raises:
        InvariantError: a live order has no record.
    """
    now_ms = account.now_ms()
    orders = []
    for row in account.orders.live(turn.key):
        record = account.records.stored(row.signal, now_ms)
        if record is None:
            raise InvariantError(f"the live order {row.client_order_id} has no record")
        orders.append(LiveOrder(row, record, account.orders.cancel_of(row.signal, now_ms)))
    return TurnGrant(
        turn_id=turn.turn_id,
        token=turn.token,
        deliveries=turn.deliveries,
        overdue_ms=overdue_ms,
        book=account.book.line(turn.key),
        orders=tuple(orders),
    )


def resync_turns(
    account: MemoryAccount, worker: str, lease_ms: int, known: frozenset[str]
) -> list[TurnGrant]:
    """Return the turns leased to a worker by answers that were lost, under their tokens."""
    found = []
    for turn in sorted(account.agenda.turns.values(), key=lambda one: (one.until_ms, one.key)):
        if turn.worker == worker and turn.turn_id not in known:
            turn.until_ms = account.now_ms() + lease_ms
            found.append(grant_of(account, turn))
    return found


def apply(account: MemoryAccount, worker: str, item: ApplyItem, output_length: int) -> Status:
    """Write what a turn has found out about a live order: row, position, exposure and events.

    Asked again, it changes nothing. Nothing is written where the book is not as the turn was given
    it.
    """
    agenda, now_ms = account.agenda, account.now_ms()
    turn = agenda.held(item.turn, worker, item.token)
    if turn is None:
        was_applied = agenda.was_applied(item.token, now_ms)
        return Status.COMMITTED if was_applied else Status.FENCED
    key, position = turn.key, item.position.encode()
    if account.book.line(key) != item.book:
        return Status.CHANGED
    agenda.end(key)
    if item.row is not None:
        account.book.rest(key, item.signal, position)
        account.orders.put(key, item.exchange_key, item.row)
        agenda.bring_forward(key, now_ms + item.due_ms)
    else:
        _end_order(account, key, position, item)
    account.sums.change_exposure(item.quote, item.exposure)
    account.sums.book_profit(item.quote, item.realized, now_ms)
    for event in item.events:
        account.outputs.tell(event, item.signal, now_ms)
    account.outputs.trim(output_length)
    agenda.note_applied(item.token, now_ms)
    return Status.COMMITTED


def _end_order(account: MemoryAccount, key: str, position: bytes, item: ApplyItem) -> None:
    """Write the end of an order: its reservation is given back, its signal's record ended."""
    now_ms = account.now_ms()
    account.book.settle(key, position, is_ours=True)
    if account.orders.forget(key, item.client_order_id, item.exchange_key):
        account.agenda.bring_forward(key, now_ms)
    else:
        account.agenda.due.pop(key, None)
    account.orders.forget_cancel(item.signal)
    record = decode_record(item.record + encode(now_ms))
    account.records.end(record, keep_ms=item.keep_ms, now_ms=now_ms)


def make_resting_due(account: MemoryAccount) -> None:
    """Make every position with a live order due now: what rests is to be cancelled."""
    for key in account.orders.positions():
        account.agenda.bring_forward(key, account.now_ms())


def watch_live(account: MemoryAccount) -> int:
    """Make every position with a live order due that neither the agenda nor a turn has.

    Returns:
        How many there were: there should be none.
    """
    agenda = account.agenda
    held = {turn.key for turn in agenda.turns.values()}
    stranded = [
        one for one in account.orders.positions() if one not in agenda.due and one not in held
    ]
    for key in stranded:
        agenda.due[key] = account.now_ms()
    return len(stranded)
