"""Codes of `OrderFailed` for what an exchange answers to a create request."""

from worker.domain.refusal import Code
from worker.exchanges.errors import (
    ClockSkewError,
    CredentialsError,
    ExchangeError,
    InsufficientBalanceError,
    Outcome,
)


def code_of(error: ExchangeError) -> Code:
    """Return the code of a signal that ends because of ``error``."""
    if isinstance(error, InsufficientBalanceError):
        return Code.INSUFFICIENT_BALANCE
    if isinstance(error, CredentialsError):
        return Code.CREDENTIALS_REFUSED
    if isinstance(error, ClockSkewError):
        return Code.CLOCK_SKEW
    if error.outcome is Outcome.THROTTLED:
        return Code.RATE_LIMITED
    if error.outcome is Outcome.NOT_SENT:
        return Code.EXCHANGE_UNAVAILABLE
    return Code.ORDER_REJECTED
