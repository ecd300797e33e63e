"""The record of what people try: one event for each, by how it ended."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from worker.ledger.access import Access
from worker.ledger.errors import LedgerError, LedgerUnavailableError, NotPermittedError
from worker.operator.audit import DecisionError
from worker.operator.journal import Journal, UnrecordedError
from worker.runtime.clock import SystemClock
from worker.runtime.errors import UncertainError


class Noted(Access):
    """An account that keeps the events it is given, or refuses them."""

    def __init__(self, error: LedgerError | None = None) -> None:
        self.account = "main"
        self.events: list[dict[str, Any]] = []
        self._error = error

    def key(self, name: str) -> str:
        """Name a key."""
        return name

    async def ask_one(self, *command: Any) -> Any:
        """Take an event."""
        if self._error:
            raise self._error
        assert command[:3] == ("XADD", "system", "*")
        self.events.append(json.loads(command[-1]))


@contextmanager
def _raises(kind: type[BaseException] | None) -> Iterator[None]:
    if kind is None:
        yield
        return
    with pytest.raises(kind):
        yield


_LOST = LedgerUnavailableError("no answer", kind="timeout", may_have_run=True)
_REFUSED = LedgerUnavailableError("refused", kind="connection")


@pytest.mark.parametrize(
    ("error", "raised", "result"),
    [
        (None, None, "done"),
        (DecisionError("no such position"), DecisionError, "refused"),
        (NotPermittedError("NOPERM"), NotPermittedError, "refused"),
        (UncertainError("nobody answered"), UncertainError, "unknown"),
        (KeyboardInterrupt(), KeyboardInterrupt, "unknown"),
        (_LOST, UncertainError, "unknown"),
        (_REFUSED, LedgerUnavailableError, "refused"),
    ],
)
async def test_a_try_is_recorded_by_how_it_ended(
    error: BaseException | None, raised: type[BaseException] | None, result: str
) -> None:
    """What may have happened is never said to have failed: exit 75 and not 1."""
    noted = Noted()
    with _raises(raised):
        async with Journal(noted, clock=SystemClock()).attempt(
            "correct", "binance BTC/USDT", actor="me@here", reason="by hand"
        ) as attempt:
            attempt.before = "2"
            if error is not None:
                raise error
            attempt.after = "1"
    (event,) = noted.events
    assert (event["result"], event["before"]) == (result, "2")
    assert event["after"] == ("1" if result == "done" else "2")
    assert bool(event["error"]) is (result != "done")
    assert (event["type"], event["actor"], event["reason"]) == (
        "OperatorAction", "me@here", "by hand",
    )  # fmt: skip


async def test_what_cannot_be_recorded_is_said_only_of_what_was_done() -> None:
    """A refusal keeps its own error; something done without its event is one of its own."""
    full = LedgerUnavailableError("OOM", kind="oom")
    journal = Journal(Noted(full), clock=SystemClock())
    with pytest.raises(UnrecordedError, match="is done, but the event"):
        async with journal.attempt("dead discard", "1-1", actor="me@here"):
            pass
    with pytest.raises(DecisionError):
        async with journal.attempt("correct", "x", actor="me@here"):
            raise DecisionError("no such position")
    async with journal.attempt("mend-stream", "orders", actor="me@here") as attempt:
        attempt.is_idle = True


async def test_two_tries_of_a_moment_are_two_events() -> None:
    """A consumer that drops what it has seen drops none of them."""
    noted = Noted()
    journal = Journal(noted, clock=SystemClock())
    for _ in range(2):
        await journal.refused("flatten", "positions", actor="me", reason="x", error="no worker")
    assert len({event["event_id"] for event in noted.events}) == 2
