"""What a worker has in hand: which grant of an entry counts, what may still arrive of others."""

from worker.ledger.lease import Lease
from worker.ledger.replies import Delivery


class InHand(dict[str, Lease]):
    """The lease each entry is held under, by entry id."""

    def __init__(self) -> None:
        super().__init__()
        #: Until when an earlier request of this worker for an entry not in hand may still arrive.
        self._doubts: dict[str, float] = {}

    def knows(self, delivery: Delivery) -> bool:
        """Whether this very grant is in hand, or a newer one.

        An older one is lost: whatever runs under it knows nothing of who had the entry in between.
        """
        known = self.get(delivery.entry_id)
        if known is None:
            return False
        if delivery.token < known.token or (delivery.token == known.token and not known.lost):
            return True
        known.lost = True
        return False

    def take(self, delivery: Delivery) -> Lease:
        """Hold an entry under a new grant; what was in doubt of it still is."""
        lease = Lease(delivery.entry_id, delivery.token, delivery.lease_mono_ms)
        lease.doubt_until_mono_ms = self._doubts.pop(delivery.entry_id, 0.0)
        older = self.get(delivery.entry_id)
        if older is not None:
            lease.doubt_until_mono_ms = max(lease.doubt_until_mono_ms, older.doubt_until_mono_ms)
        self[delivery.entry_id] = lease
        return lease

    def let_go(self, lease: Lease) -> None:
        """Nothing runs under this grant any more."""
        if self.get(lease.entry_id) is not lease:
            return
        del self[lease.entry_id]
        if lease.doubt_until_mono_ms:
            self._doubts[lease.entry_id] = lease.doubt_until_mono_ms

    def forget_doubts(self, now_mono_ms: float) -> None:
        """Forget what can arrive no more."""
        self._doubts = {one: until for one, until in self._doubts.items() if until > now_mono_ms}
