"""The protocol by which an account's workers become ready: the keeper compares the books.

The keeper sends a note with every election it stands for: ``DONE`` once it has compared the book
with every exchange in its term of office, before that the exchanges without an answer. Every other
worker reads the note in the reply to its own election. A worker that has read ``DONE`` once stays
ready: a later keeper's trouble with an exchange does not take it back.
"""

from typing import Final

from worker.keeper.duties.compare import CompareBooks
from worker.ledger.replies import Election
from worker.observe.health import Health

#: The check of ``/readyz`` that this decides.
CHECK: Final = "reconciliation"
#: The note of a keeper that has compared the books in its term of office.
DONE: Final = "done"
#: Longer notes are cut.
MAX_NOTE_CHARS: Final = 300


class Readiness:
    """One worker's side of the protocol.

    Args:
        compare: the duty whose progress the note tells.
        health: shows the check.
    """

    def __init__(self, compare: CompareBooks, health: Health) -> None:
        self._compare = compare
        self._health = health
        self._is_reconciled = False

    def note(self) -> str:
        """Return the note for the next election; empty without an office."""
        comparison = self._compare.comparison
        if comparison is None:
            return ""
        return DONE if comparison.done else comparison.missing[:MAX_NOTE_CHARS]

    def record(self, election: Election) -> None:
        """Show on ``/readyz`` whether a keeper has compared the books; once ok, for good."""
        if self._is_reconciled:
            return
        note = election.readiness_note
        if note == DONE:
            self._is_reconciled = True
            self._health.set(CHECK, ok=True, detail="the books were compared")
        elif election.elected:
            self._health.set(CHECK, ok=False, detail=note or "comparing the books")
        else:
            says = f"says: {note}" if note else "has not compared the books yet"
            self._health.set(CHECK, ok=False, detail=f"the keeper {says}")
