"""When a resting order is asked for again."""

import pytest

from worker.domain.plausibility import ImplausibleError
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, RateLimitError
from worker.turns.follow import LONGEST_PAUSE_MS, SOON_MS, put_off

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("error", "age_ms", "after_ms"),
    [
        (ExchangeError("x"), DAY_MS, SOON_MS),
        (ImplausibleError("x"), DAY_MS, SOON_MS),
        (OrderNotFoundError("x"), 0, SOON_MS),
        (OrderNotFoundError("x"), 60_000, 2_000),
        (OrderNotFoundError("x"), DAY_MS, LONGEST_PAUSE_MS),
        (RateLimitError("x", retry_after_s=0.1), DAY_MS, SOON_MS),
        (RateLimitError("x", retry_after_s=7.0), 0, 7_000),
    ],
)
def test_an_order_that_an_exchange_does_not_know_is_asked_for_ever_more_rarely(
    error: ExchangeError, age_ms: int, after_ms: int
) -> None:
    """Whatever else goes wrong may be over in a second."""
    later = put_off(error, age_ms)
    assert (later.after_ms, later.reason) == (after_ms, str(error))
