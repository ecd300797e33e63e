"""The grants a worker holds: which grant of an entry counts, and what earlier ones left behind."""

from collections.abc import Iterator

from worker.ledger.replies import Delivery
from worker.ledger.turns import Turn
from worker.pipeline.custody import Custody


class Grants:
    """The custody of each entry in hand, by entry id; the only owner of both."""

    def __init__(self) -> None:
        self._held: dict[str, Custody] = {}
        #: Until when an earlier request of this worker for an entry not in hand may still arrive.
        self._doubts: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def held(self) -> list[Custody]:
        """Return what is in hand now."""
        return list(self._held.values())

    def knows(self, delivery: Delivery | Turn) -> bool:
        """Return whether this very grant is in hand, or a newer one.

        An older one in hand is lost: whatever runs under it knows nothing of who had the entry in
        between.
        """
        known = self._held.get(delivery.entry_id)
        if known is None:
            return False
        if delivery.token < known.token or (delivery.token == known.token and not known.is_lost):
            return True
        known.lose()
        return False

    def take(self, delivery: Delivery | Turn) -> Custody:
        """Hold an entry under a new grant; a doubt that an older one left goes over to it."""
        custody = Custody(delivery.entry_id, delivery.token, delivery.lease_mono_ms)
        older = self._held.get(delivery.entry_id)
        left = self._doubts.pop(delivery.entry_id, None)
        held = older.doubt_until_mono_ms if older is not None else None
        if left is not None or held is not None:
            custody.doubt(max(doubt for doubt in (left, held) if doubt is not None))
        self._held[delivery.entry_id] = custody
        return custody

    def let_go(self, custody: Custody) -> None:
        """Forget a grant under which nothing runs any more; its doubt is kept."""
        if self._held.get(custody.entry_id) is not custody:
            return
        del self._held[custody.entry_id]
        if custody.doubt_until_mono_ms is not None:
            self._doubts[custody.entry_id] = custody.doubt_until_mono_ms

    def forget_doubts(self, now_mono_ms: float) -> None:
        """Forget the doubts about requests that can arrive no more."""
        self._doubts = {one: until for one, until in self._doubts.items() if until > now_mono_ms}
