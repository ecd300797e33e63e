"""Errors of exchange calls, grouped by what the caller may do next."""

from enum import StrEnum

from worker.runtime.errors import WorkerError


class Outcome(StrEnum):
    """The fate of a submission that did not return a report, as far as it is known.

    The fifth outcome, accepted, is the report itself.
    """

    REFUSED = "refused"  # a definitive no: it is not there and will not be
    NOT_SENT = "not_sent"  # it provably never reached the exchange
    THROTTLED = "throttled"  # refused for rate, not processed
    UNKNOWN = "unknown"  # it may have been accepted


class ExchangeError(WorkerError):
    """A failed exchange call.

    Attributes:
        outcome: what is known about the request.
        code: the exchange's own code (``-2010``), or the name of the transport failure.
        transient: for REFUSED: whether the same order may succeed a moment later.
        retry_after_s: for THROTTLED: how long the exchange said to wait, in seconds.
        answered: for UNKNOWN: whether the exchange sent a complete error reply whose meaning is not
            known. Once the order is proven absent, that reply was its refusal.
    """

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome = Outcome.UNKNOWN,
        code: str = "",
        transient: bool = False,
        retry_after_s: float = 0.0,
        answered: bool = False,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.code = code
        self.transient = transient
        self.retry_after_s = retry_after_s
        self.answered = answered


class RateLimitError(ExchangeError):
    """Refused for rate (429, 418, -1003, -1015 ...): not processed."""


class InsufficientBalanceError(ExchangeError):
    """Refused for lack of funds."""


class InvalidOrderError(ExchangeError):
    """Refused for the order's own parameters."""


class CredentialsError(ExchangeError):
    """Refused for the API key, its signature or its rights."""


class ClockSkewError(ExchangeError):
    """Refused because the request's timestamp was outside its window (-1021 and its like)."""


class OrderNotFoundError(ExchangeError):
    """The exchange knows no such order (now)."""
