"""A worker's right to act on one entry, as known on this side of the network."""


class Lease:
    """Mutable: the heartbeat extends it, a lost fence ends it, the executor notes its doubts.

    Attributes:
        entry_id: the entry.
        token: the fencing token of this grant.
        expires_mono_ms: local monotonic time after which another worker may have the entry;
            never later than the server's own expiry.
        lost: whether the server said that the entry is no longer ours.
        doubt_until_mono_ms: until when a request that is under way, or whose outcome is unknown,
            may still be accepted by the exchange; 0 while there is none.
    """

    __slots__ = ("doubt_until_mono_ms", "entry_id", "expires_mono_ms", "lost", "token")

    def __init__(self, entry_id: str, token: int, expires_mono_ms: float) -> None:
        self.entry_id = entry_id
        self.token = token
        self.expires_mono_ms = expires_mono_ms
        self.lost = False
        self.doubt_until_mono_ms = 0.0

    def covers(self, mono_ms: float) -> bool:
        """Whether the entry is certainly ours until ``mono_ms``."""
        return not self.lost and self.expires_mono_ms >= mono_ms

    def renew(self, expires_mono_ms: float) -> None:
        """A heartbeat was answered: it lasts until then at least."""
        self.expires_mono_ms = max(self.expires_mono_ms, expires_mono_ms)

    def doubt_ms(self, now_mono_ms: float) -> int:
        """For how long a request of ours may still be accepted, rounded up; 0 if none may."""
        return max(int(self.doubt_until_mono_ms - now_mono_ms) + 1, 0)

    def __repr__(self) -> str:
        state = "lost" if self.lost else f"until {self.expires_mono_ms:.0f} ms"
        return f"<Lease {self.entry_id} token {self.token} {state}>"
