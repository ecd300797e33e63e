"""Words and numbers that both Python and the scripts know, each written once.

:mod:`worker.ledger.script_source` writes them into the scripts, where ``STATUS.FENCED`` is a word
and ``LIMIT.ENTRY_BYTES`` a number.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from worker.domain.refusal import DeadReason
from worker.ledger import limits
from worker.ledger.limit_rows import Kind
from worker.ledger.stored import STATE_ADMITTED, STATE_RESTING, Reservation


class Status(StrEnum):
    """A script's answer for one item."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    COMMITTED = "committed"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FENCED = "fenced"
    WAITS = "waits"
    ENDED = "ended"
    CHANGED = "changed"


class Line(StrEnum):
    """The kinds of entries that wait behind others of their group, each counted for itself."""

    OPENING = "opening"
    OTHER = "other"


class Mending(StrEnum):
    """A step of mending a stream: nothing to do, more to copy, or done."""

    SOUND = "sound"
    COPYING = "copying"
    MENDED = "mended"


class Converting(StrEnum):
    """A step of converting what is stored: only look, convert some rows, or write down the end."""

    LOOK = "look"
    ROWS = "rows"
    DONE = "done"


#: The field that a letter has besides if its entry was cut: the size of the whole entry, bytes.
CUT_FIELD: Final = "cut_from_bytes"


#: Words that both sides compare, by the name of their set in the scripts.
WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "STATUS": {status.name: status.value for status in Status},
    "RESERVATION": {kind.name: kind.value for kind in Reservation if kind},
    "STATE": {"ADMITTED": STATE_ADMITTED, "RESTING": STATE_RESTING},
    "CONVERTING": {step.name: step.value for step in Converting},
    "MENDING": {status.name: status.value for status in Mending},
    "LETTER": {"CUT": CUT_FIELD, "MALFORMED": DeadReason.MALFORMED.value},
    "KIND": {kind.name: kind.value for kind in Kind},
    "LINE": {kind.name: kind.value for kind in Line},
}
#: Numbers that both sides use, by the name of their set in the scripts.
NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {"LIMIT": limits.IN_SCRIPTS}
