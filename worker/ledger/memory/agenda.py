"""The agenda: when a position's live orders need somebody, and the turns that look after them."""

from typing import Final

import msgspec

from worker.ledger.turns import PREFIX

#: For how long it is known that a turn has written what it found out.
APPLIED_MS: Final = 60_000


class HeldTurn(msgspec.Struct, kw_only=True):
    """A turn that is granted: to whom, under which token, how often, until when."""

    key: str
    worker: str
    token: int
    deliveries: int
    until_ms: int

    @property
    def turn_id(self) -> str:
        """Return the turn's id, which no entry of the stream can have."""
        return PREFIX + self.key


class Agenda:
    """Due times by position key, and the turns that are granted.

    Attributes:
        due: by position key: when somebody has to look at its live orders, milliseconds.
        turns: by turn id.
    """

    def __init__(self) -> None:
        self.due: dict[str, int] = {}
        self.turns: dict[str, HeldTurn] = {}
        #: The highest token that a turn was given; none is given twice.
        self._token = 0
        #: By token: until when it is known that this turn has written.
        self._applied: dict[int, int] = {}

    def bring_forward(self, key: str, at_ms: int) -> None:
        """Make a position due at a time, or earlier if it is: that may be a hint."""
        self.due[key] = min(self.due.get(key, at_ms), at_ms)

    # -- turns ---------------------------------------------------------------------------------

    def held(self, turn_id: str, worker: str, token: int) -> HeldTurn | None:
        """Return the turn if ``worker`` was granted it last, under ``token``: the fence."""
        turn = self.turns.get(turn_id)
        if turn is None or turn.worker != worker or turn.token != token:
            return None
        return turn

    def grant(self, key: str, worker: str, deliveries: int, until_ms: int, now_ms: int) -> HeldTurn:
        """Grant a turn for a position, under a token higher than any given before."""
        self._token = max(self._token + 1, now_ms)
        turn = HeldTurn(
            key=key, worker=worker, token=self._token, deliveries=deliveries, until_ms=until_ms
        )
        self.turns[turn.turn_id] = turn
        return turn

    def expired(self, now_ms: int, count: int) -> list[HeldTurn]:
        """Return the turns whose holder's lease has run out, oldest first."""
        ended = [turn for turn in self.turns.values() if turn.until_ms <= now_ms]
        return sorted(ended, key=lambda turn: (turn.until_ms, turn.key))[:count]

    def due_keys(self, now_ms: int, count: int) -> list[str]:
        """Return the positions whose time has come, oldest first."""
        ended = [key for key, at_ms in self.due.items() if at_ms <= now_ms]
        return sorted(ended, key=lambda key: (self.due[key], key))[:count]

    def end(self, key: str) -> None:
        """End the turn of a position, if there is one."""
        self.turns.pop(PREFIX + key, None)

    # -- what was written ----------------------------------------------------------------------

    def note_applied(self, token: int, now_ms: int) -> None:
        """Note that a turn has written what it found out."""
        self._applied = {one: until for one, until in self._applied.items() if until > now_ms}
        self._applied[token] = now_ms + APPLIED_MS

    def was_applied(self, token: int, now_ms: int) -> bool:
        """Return whether a turn has written what it found out."""
        return self._applied.get(token, 0) > now_ms
