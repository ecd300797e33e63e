"""A worker's right to act on one stream entry, and what it may have left under way there."""

from worker.pipeline.orders import ManagedOrder
from worker.runtime.errors import InvariantError


class Custody:
    """One grant of one entry, as known on this side of the network: fence, lease and doubt.

    Mutable. Each part has one writer: the lease is renewed and lost by the engine's heartbeat and
    by the ledger's answers, the doubt is set and cleared by whatever sends requests, the order is
    put here by the pipeline once it is admitted.

    Attributes:
        entry_id: the entry.
        signal_id: of the entry's signal; "" until it is read.
        token: the fencing token of this grant.
        expires_mono_ms: local monotonic time after which another worker may have the entry;
            never later than the server's own expiry.
        is_lost: whether the server said that the entry is no longer ours.
        doubt_until_mono_ms: until when a request that is under way, or whose outcome is unknown,
            may still be accepted by the exchange; None while there is none.
    """

    __slots__ = (
        "_order",
        "doubt_until_mono_ms",
        "entry_id",
        "expires_mono_ms",
        "is_lost",
        "signal_id",
        "token",
    )

    def __init__(self, entry_id: str, token: int, expires_mono_ms: float) -> None:
        self.entry_id = entry_id
        self.signal_id = ""
        self.token = token
        self.expires_mono_ms = expires_mono_ms
        self.is_lost = False
        self.doubt_until_mono_ms: float | None = None
        self._order: ManagedOrder | None = None

    def covers(self, mono_ms: float) -> bool:
        """Return whether the entry is certainly ours until ``mono_ms``."""
        return not self.is_lost and self.expires_mono_ms >= mono_ms

    def renew(self, expires_mono_ms: float) -> None:
        """Extend the lease after an answered heartbeat; it never becomes shorter."""
        self.expires_mono_ms = max(self.expires_mono_ms, expires_mono_ms)

    def lose(self) -> None:
        """Record that another worker may have the entry: nothing may be sent or written for it."""
        self.is_lost = True

    def doubt(self, until_mono_ms: float) -> None:
        """Record that a request may still be accepted until ``until_mono_ms``."""
        self.doubt_until_mono_ms = until_mono_ms

    def clear_doubt(self) -> None:
        """Record that no request of ours can be accepted any more."""
        self.doubt_until_mono_ms = None

    def doubt_ms(self, now_mono_ms: float) -> int:
        """Return how long a request of ours may still be accepted, rounded up; 0 for none."""
        if self.doubt_until_mono_ms is None:
            return 0
        return max(int(self.doubt_until_mono_ms - now_mono_ms) + 1, 0)

    @property
    def order(self) -> ManagedOrder:
        """The admitted order of the entry, as this process follows it.

        Raises:
            InvariantError: none has been admitted under this grant.
        """
        if self._order is None:
            raise InvariantError(f"entry {self.entry_id}: no order was admitted under this grant")
        return self._order

    @order.setter
    def order(self, order: ManagedOrder) -> None:
        self._order = order

    def __repr__(self) -> str:
        state = "lost" if self.is_lost else f"until {self.expires_mono_ms:.0f} ms"
        return f"<Custody {self.entry_id} token {self.token} {state}>"
