"""Words and numbers that both Python and the scripts know, each written once.

:mod:`worker.ledger.script_source` writes them into the scripts, where ``STATUS.FENCED`` is a word
and ``LIMIT.ENTRY_BYTES`` a number.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from worker.domain.refusal import DeadReason
from worker.ledger import limits
from worker.ledger.stored import STATE_ADMITTED, Reservation


class Status(StrEnum):
    """A script's answer for one item."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    COMMITTED = "committed"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FENCED = "fenced"


class Line(StrEnum):
    """The kinds of entries that wait behind others of their group, each counted for itself."""

    OPENING = "opening"
    OTHER = "other"


class Mending(StrEnum):
    """A step of mending a stream: nothing to do, more to copy, or done."""

    SOUND = "sound"
    COPYING = "copying"
    MENDED = "mended"


#: The field that a letter has besides if its entry was cut: the size of the whole entry, bytes.
CUT_FIELD: Final = "cut_from_bytes"


#: Words that both sides compare, by the name of their set in the scripts.
WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "STATUS": {status.name: status.value for status in Status},
    "RESERVATION": {kind.name: kind.value for kind in Reservation if kind},
    "STATE": {"ADMITTED": STATE_ADMITTED},
    "MENDING": {status.name: status.value for status in Mending},
    "LETTER": {"CUT": CUT_FIELD, "MALFORMED": DeadReason.MALFORMED.value},
    "LINE": {kind.name: kind.value for kind in Line},
}
#: Numbers that both sides use, by the name of their set in the scripts.
NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {"LIMIT": limits.IN_SCRIPTS}
