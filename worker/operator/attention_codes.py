"""The form of what needs an operator's attention: its kinds, how urgent, and what is said of it."""

from datetime import datetime
from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """The urgency of what needs attention."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Code(StrEnum):
    """The kinds of what needs attention, the gravest of one severity first.

    ``meaning`` is the text of the table in docs/commands.md.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Code":
        """Attach the meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    STALE = "STALE", "What is shown is old: Redis does not answer, or the keeper publishes nothing."
    STREAM_AHEAD = "STREAM_AHEAD", "The last id of a stream is ahead of Redis's clock."
    NO_WORKER = "NO_WORKER", "No worker is alive; critical while anything is open or waits."
    NO_KEEPER = (
        "NO_KEEPER",
        "No worker is the account's keeper; critical while anything is open or waits.",
    )
    STATE_NOT_HELD = "STATE_NOT_HELD", "A live worker does not act by the trading state yet."
    ORDER_UNRESOLVED = "ORDER_UNRESOLVED", "Nobody knows what became of an order."
    POSITION_DRIFT = "POSITION_DRIFT", "The book and an exchange differ."
    HALTED = "HALTED", "No order is sent."
    REDUCING = "REDUCING", "Only closes are sent."
    WORKER_LOST = "WORKER_LOST", "A worker has not been heard from for a lease."
    EXCHANGE_DOWN = "EXCHANGE_DOWN", "A live worker cannot trade on an exchange."
    EXCHANGE_THROTTLED = "EXCHANGE_THROTTLED", "An exchange asked to be left alone for a while."
    CONFIG_DIFFERS = "CONFIG_DIFFERS", "Live workers have different configurations."
    COMPARISON_OLD = "COMPARISON_OLD", "The book was not compared with every exchange for minutes."
    BACKLOG = "BACKLOG", "Signals wait longer, or more of them, than they should."
    LIMIT_REACHED = "LIMIT_REACHED", "A limit of the account is used up."
    DEAD_LETTERS = (
        "DEAD_LETTERS",
        "Entries that could not be run wait for a person, or were removed unread.",
    )


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look at.

    Attributes:
        code: its kind.
        severity: how urgent.
        subject: what it is about: a worker, a signal id, an exchange, a configuration key.
        since: when it began, where that is known.
        count: how many there are.
        text: a sentence for a person.
        see: the command that shows more; empty for none.
    """

    code: Code
    severity: Severity
    subject: str
    since: datetime | None = None
    count: int = 1
    text: str
    see: str = ""
