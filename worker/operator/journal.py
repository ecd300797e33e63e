"""The record of what people tried to change: an ``OperatorAction`` for each try, refused ones too.

A change of the trading state writes its event in the same step (:mod:`worker.operator.trading`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

import msgspec

from worker.domain.event import OperatorAction
from worker.domain.event_text import encode
from worker.domain.identity import event_id
from worker.ledger.access import Access
from worker.ledger.errors import LedgerError, LedgerUnavailableError
from worker.ledger.operator_writes import append_event_plainly
from worker.operator.audit import audit_header
from worker.operator.request import new_request_id
from worker.runtime.clock import Clock
from worker.runtime.errors import UncertainError, WorkerError


class Result(StrEnum):
    """The end of a try of a person."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class UnrecordedError(WorkerError):
    """Something was done, but the event about it could not be written."""


class Attempt(msgspec.Struct):
    """The change that a try is to make, as far as it is known: the state before and after."""

    before: str = ""
    after: str = ""
    #: Nothing was to be changed: no event is written unless the try fails.
    is_idle: bool = False


class Journal:
    """Writes what people try.

    Args:
        access: the account.
        clock: the events' time.
    """

    def __init__(self, access: Access, *, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    @asynccontextmanager
    async def attempt(
        self, action: str, subject: str, *, actor: str, reason: str = ""
    ) -> AsyncIterator[Attempt]:
        """Record a try when it has ended, however it ended.

        Args:
            action: the command.
            subject: what it is about.
            actor: who tries.
            reason: why, where it was said.

        Yields:
            The try; its ``before`` and ``after`` are what the event will say.

        Raises:
            UncertainError: Redis did not answer, so what was tried may have happened.
            UnrecordedError: it is done, and Redis does not take the event.
        """
        attempt = Attempt()
        result, error = Result.DONE, ""
        try:
            yield attempt
        except LedgerUnavailableError as failure:
            result, error = Result.UNKNOWN, str(failure)
            if not failure.may_have_run:
                result = Result.REFUSED
                raise
            raise UncertainError(
                f"{failure}: it is not known whether this has happened: {action} {subject}"
            ) from failure
        except WorkerError as failure:
            is_unknown = isinstance(failure, UncertainError)
            result, error = Result.UNKNOWN if is_unknown else Result.REFUSED, str(failure)
            raise
        except BaseException:  # interrupted
            result, error = Result.UNKNOWN, "interrupted"
            raise
        finally:
            event = OperatorAction(
                action=action,
                subject=subject,
                actor=actor,
                reason=reason,
                before=attempt.before,
                after=attempt.after or attempt.before,
                result=result.value,
                error=error,
            )
            if result is Result.DONE:
                if not attempt.is_idle:
                    await self._write(event)
            else:
                with suppress(UnrecordedError):  # what went wrong its own error says
                    await self._write(event)

    async def refused(
        self, action: str, subject: str, *, actor: str, reason: str, error: str
    ) -> None:
        """Record a try that was refused before anything was asked of Redis."""
        with suppress(UnrecordedError):
            await self._write(
                OperatorAction(
                    action=action,
                    subject=subject,
                    actor=actor,
                    reason=reason,
                    before="",
                    after="",
                    result=Result.REFUSED.value,
                    error=error,
                )
            )

    async def _write(self, event: OperatorAction) -> None:
        now_ms = self._clock.now_ms()
        subject = f"{self._access.account}-{now_ms}-{new_request_id()}-{event.actor}"
        identity = event_id(subject, event.action)
        header = audit_header(self._access.account, now_ms, "")
        try:
            await append_event_plainly(self._access, encode(event, identity, header))
        except LedgerError as failure:
            raise UnrecordedError(
                f"{event.action} {event.subject} is done, but the event about it could not be "
                f"written: {failure}"
            ) from failure
