"""The pauses of exchanges, and the budgets of requests that workers share."""


class Pauses:
    """Until when each exchange or API key is asked nothing, and who uses which budget."""

    def __init__(self) -> None:
        self._until_ms: dict[str, int] = {}
        #: By budget: the workers that use it, and when each was heard of last.
        self._users: dict[str, dict[str, int]] = {}

    def pause(self, name: str, pause_ms: int, now_ms: int) -> int:
        """Begin a pause, or lengthen the one in force; return the ms that are left of it."""
        until_ms = max(self._until_ms.get(name, 0), now_ms + pause_ms)
        self._until_ms = {one: until for one, until in self._until_ms.items() if until > now_ms} | {
            name: until_ms
        }
        return until_ms - now_ms

    def left_ms(self, name: str, now_ms: int) -> int:
        """Return for how many more milliseconds nothing is sent; 0 for no pause."""
        return max(self._until_ms.get(name, 0) - now_ms, 0)

    def all_left(self, now_ms: int) -> dict[str, float]:
        """Return every pause in force, with the milliseconds that are left of it."""
        return {
            name: float(until - now_ms) for name, until in self._until_ms.items() if until > now_ms
        }

    def share(self, name: str, worker: str, lease_ms: int, now_ms: int) -> tuple[int, int]:
        """Note that a worker uses a budget.

        Returns:
            How many live workers use it, and how many of these come before this one.
        """
        users = self._users.get(name, {}) | {worker: now_ms}
        live = {one: at for one, at in users.items() if at > now_ms - lease_ms}
        self._users[name] = live
        return len(live), sum(one < worker for one in live)
