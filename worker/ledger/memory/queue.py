"""Entries of the signals stream until they end: groups, lines, leases, what waits for the keeper.

An entry is *new* until a claim reads it. Then it enters its message group: the head of the group is
granted, others wait behind it. Only the end of the head (:meth:`Queue.forget`) makes the next one
the head.
"""

from collections import deque
from collections.abc import Mapping

import msgspec

from worker.domain.refusal import Code
from worker.ledger.access import split_id
from worker.ledger.memory.bell import Bell
from worker.ledger.memory.group import group_name, line_kind, surplus_group
from worker.ledger.memory.stream import Order, Stream, StreamRow
from worker.ledger.words import Line


class Refusal(msgspec.Struct, frozen=True):
    """The answer to an admission that was refused, so that asking again gets the same."""

    token: int
    only_look: bool
    code: Code


class Entry(msgspec.Struct, kw_only=True):
    """An entry that was read and has not ended.

    ``owner`` is the consumer it is pending for, ``worker`` who was granted it last (empty once it
    was given back), ``token`` the number of that grant, ``deliveries`` how often it was delivered,
    ``waits_as`` what it is counted as while it waits, ``waits_for`` the signal whose resting entry
    is cancelled for it, ``following`` the next entry of its group, ``signal`` the id that was
    admitted under it.
    """

    entry_id: str
    group: bytes
    owner: str
    worker: str = ""
    token: int = 0
    deliveries: int = 0
    refusal: Refusal | None = None
    waits_as: Line | None = None
    waits_for: str = ""
    following: str = ""
    signal: str = ""

    @property
    def is_surplus(self) -> bool:
        """Return whether its message group had no room for it."""
        return self.group == surplus_group(self.entry_id)


def in_order_of_time(times: Mapping[str, int]) -> list[str]:
    """Return entries by their time, those of one time in the order of the stream."""
    return sorted(times, key=lambda one: (times[one], split_id(one)))


class Queue:
    """All entries of an account that have not ended, and who may act on them.

    Attributes:
        signals: the input.
        delivered: the id of the last entry that was read.
        entries: what was read and has not ended, by id.
        leases: by entry, until when its grant (or the hold after a release) lasts, milliseconds.
        unresolved: by entry, when the keeper asks the exchange again, milliseconds.
        verdicts: by entry, what a person says became of its order, JSON.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.signals = Stream()
        self.delivered: Order = (0, 0)
        self.entries: dict[str, Entry] = {}
        self.leases: dict[str, int] = {}
        self.unresolved: dict[str, int] = {}
        self.verdicts: dict[str, bytes] = {}
        #: The last entry of each group.
        self._tails: dict[bytes, str] = {}
        #: How many entries of a kind wait in a group.
        self._lines: dict[tuple[bytes, Line], int] = {}
        #: What any worker may take.
        self._released: deque[str] = deque()

    # -- entering ------------------------------------------------------------------------------

    def read_next(self) -> StreamRow | None:
        """Read one new entry from the signals; None if there is none."""
        rows = self.signals.after(self.delivered, 1)
        if not rows:
            return None
        self.delivered = rows[0].order
        return rows[0]

    def enter(self, row: StreamRow, worker: str, *, bound: int, ceiling: int) -> Entry:
        """Let a new entry enter its group.

        The head of a group is granted to ``worker`` under token 1. Others wait, as long as fewer
        than ``bound`` of their kind do so in that group and, for openings, fewer than ``ceiling``
        more in all. What has no room is the surplus: granted, each a group of its own.
        """
        entry_id = row.entry_id
        entry = Entry(entry_id=entry_id, group=group_name(entry_id, row.fields), owner=worker)
        before = self.entries.get(self._tails.get(entry.group, ""))
        if before is not None:
            kind = line_kind(row.fields)
            is_full = self.waiting_in(entry.group, kind) >= bound
            if is_full or (kind is Line.OPENING and ceiling <= 0):
                entry.group = surplus_group(entry_id)
            else:
                self._add_to_line(entry.group, kind, 1)
                before.following, entry.waits_as = entry_id, kind
        if entry.waits_as is None:
            entry.worker, entry.token, entry.deliveries = worker, 1, 1
        self.entries[entry_id] = entry
        self._tails[entry.group] = entry_id
        return entry

    # -- the fence -----------------------------------------------------------------------------

    def held(self, entry_id: str, worker: str, token: int) -> Entry | None:
        """Return the entry if ``worker`` was granted it last, under ``token``; nobody else may act.

        This is the fence: every write about an entry passes it.
        """
        entry = self.entries.get(entry_id)
        if entry is None or entry.worker != worker or entry.token != token:
            return None
        return entry

    # -- granting ------------------------------------------------------------------------------

    def body(self, entry: Entry) -> Mapping[bytes, bytes] | None:
        """Return an entry's own fields; None if they are gone."""
        return self.signals.get(entry.entry_id)

    def grant(self, entry: Entry, worker: str, until_ms: int, *, count_as: int) -> bool:
        """Lease an entry to ``worker``, raising its token; its deliveries grow by ``count_as``.

        Returns:
            False if its body is gone and no signal was admitted under it: nobody can act on it.
        """
        if self.body(entry) is None and not entry.signal:
            return False
        entry.token += 1
        entry.deliveries += count_as
        entry.worker = entry.owner = worker
        self.leases[entry.entry_id] = until_ms
        return True

    def expired(self, now_ms: int, count: int) -> list[tuple[Entry, int]]:
        """Take the entries whose lease has run out, oldest first, with when it did."""
        ended = [one for one in in_order_of_time(self.leases) if self.leases[one] <= now_ms]
        return [(self.entries[one], self.leases.pop(one)) for one in ended[:count]]

    def offer(self, entry: Entry, now_ms: int) -> None:
        """Offer an entry to any worker."""
        self._released.append(entry.entry_id)
        self._bell.ring(now_ms)

    def next_released(self) -> Entry | None:
        """Take the next entry that any worker may take; None if there is none.

        One that somebody has taken meanwhile, or that is in the keeper's care again, is left out.
        """
        while self._released:
            entry = self.entries.get(self._released.popleft())
            if entry and not entry.worker and entry.entry_id not in self.unresolved:
                return entry
        return None

    # -- the end -------------------------------------------------------------------------------

    def forget(self, entry: Entry) -> Entry | None:
        """Forget an entry that has ended; return the one that now heads its group, if any."""
        entry_id = entry.entry_id
        del self.entries[entry_id]
        self.leases.pop(entry_id, None)
        self.unresolved.pop(entry_id, None)
        self.verdicts.pop(entry_id, None)
        if not entry.following:
            del self._tails[entry.group]
            return None
        head = self.entries[entry.following]
        if head.waits_as is not None:
            self._add_to_line(head.group, head.waits_as, -1)
            head.waits_as = None
        return head

    # -- numbers -------------------------------------------------------------------------------

    def waiting_in(self, group: bytes, kind: Line) -> int:
        """Return how many entries of a kind wait in a group."""
        return self._lines.get((group, kind), 0)

    def fullest(self) -> tuple[bytes, int]:
        """Return the group in which most entries of one kind wait, and how many."""
        lines = [
            (waiting, kind is Line.OPENING, group) for (group, kind), waiting in self._lines.items()
        ]
        waiting, _, group = max(lines, default=(0, False, b""))
        return group.removeprefix(b":"), waiting

    def _add_to_line(self, group: bytes, kind: Line, change: int) -> None:
        length = self.waiting_in(group, kind) + change
        if length > 0:
            self._lines[group, kind] = length
        else:
            self._lines.pop((group, kind), None)
