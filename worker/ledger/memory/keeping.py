"""The keeper's steps: keeping house, and the account in numbers."""

from collections import Counter
from decimal import Decimal

from worker.ledger.access import DEAD_STREAM, STREAMS, split_id
from worker.ledger.layouts import LettersTrimmedReply
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.oversize import size_of
from worker.ledger.memory.turning import watch_live
from worker.ledger.replies import Account, Book, Swept, book_of, printable_group


def sweep(account: MemoryAccount, signal_retention_ms: int) -> Swept:
    """Trim what is acknowledged and old enough, forget workers that are gone.

    There are no orphans to register here: nothing else reads the signals.
    """
    queue, now_ms = account.queue, account.now_ms()
    unfinished = map(split_id, queue.entries)
    floor = min([*unfinished, queue.delivered, (max(now_ms - signal_retention_ms, 0), 0)])
    owners = Counter(entry.owner for entry in queue.entries.values())
    return Swept(
        orphans=0,
        trimmed=queue.signals.keep_from(floor),
        consumers_removed=account.office.forget_gone(now_ms, owners),
        stranded=watch_live(account),
        oversize=[],
    )


def trim_letters(account: MemoryAccount, max_letters: int, max_bytes: int) -> LettersTrimmedReply:
    """Keep the dead letters within their bounds: remove the oldest."""
    letters = account.stream(DEAD_STREAM)
    sizes = [size_of(row.fields) for row in letters.rows()]
    count, left = 0, sum(sizes)
    while count < len(sizes) and (len(sizes) - count > max_letters or left > max_bytes):
        left -= sizes[count]
        count += 1
    letters.keep_newest(len(sizes) - count)
    account.outputs.letters_trimmed += count
    return LettersTrimmedReply(letters=count, bytes=sum(sizes[:count]), more=0)


def announce(account: MemoryAccount, event: tuple[str, str, str], output_length: int) -> None:
    """Write an event to the system stream; written again after a lost reply, it changes nothing."""
    if not account.outputs.has_told(event[1]):
        account.outputs.tell(("system", *event), "", account.now_ms())
        account.outputs.trim(output_length)


def read_account(account: MemoryAccount, *, max_waiting: int, max_group_waiting: int) -> Account:
    """Return the account in numbers."""
    queue, sums, now_ms = account.queue, account.sums, account.now_ms()
    oldest = min((split_id(one)[0] for one in queue.entries), default=now_ms)
    pending, leases = len(queue.entries), len(queue.leases)
    group, waiting = queue.fullest()
    return Account(
        exposure=_amounts(sums.exposure),
        realized=_amounts(sums.realized),
        open_positions=sum(bool(row.position) for row in account.book.rows.values()),
        unresolved=len(queue.unresolved),
        dead_letters=len(account.stream(DEAD_STREAM)),
        lag=queue.signals.count_after(queue.delivered),
        pending=pending,
        oldest_pending_ms=max(now_ms - oldest, 0),
        leases=leases,
        ahead_ms={name: account.stream(name).ahead_ms(now_ms) for name in STREAMS},
        waiting_part=max(pending - leases, 0) / max_waiting,
        fullest_group=printable_group(group),
        fullest_part=waiting / max_group_waiting,
    )


def read_book(account: MemoryAccount) -> Book:
    """Return the open positions and the reservations."""
    return book_of(account.book.rows)


def _amounts(sums: dict[str, int]) -> dict[str, Decimal]:
    """Return amounts by currency, from millionths."""
    return {currency: Decimal(amount) / 1_000_000 for currency, amount in sums.items()}
