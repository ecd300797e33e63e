"""When a resting order is asked for again, and what becomes of a request to cancel it."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tests.unit.parts import custody, order_request
from worker.domain.plausibility import ImplausibleError
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, Outcome, RateLimitError
from worker.ledger.stored import OrderRow
from worker.turns.follow import LONGEST_PAUSE_MS, SOON_MS, next_look_ms, put_off, request_cancel

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


ROW = OrderRow(
    client_order_id="c",
    signal="s-1",
    entry="1-0",
    role="entry",
    position_key="x:A",
    state="ACTIVE",
    exchange_order_id="e",
    request="{}",
    attempts=1,
    placed_ms=0,
    ends_ms=20_000,
)


@pytest.mark.parametrize(
    ("now_ms", "cancelling", "due_ms"),
    [
        (0, False, 5_000),
        (17_000, False, 3_000),
        (17_000, True, SOON_MS),
        (20_000, True, SOON_MS),
        (90_000, True, SOON_MS),
        (DAY_MS, False, LONGEST_PAUSE_MS),
    ],
)
def test_an_order_is_asked_for_at_its_end_and_not_without_a_pause_after_it(
    now_ms: int, cancelling: bool, due_ms: int
) -> None:
    """It ends at 20 s; one that is still open then is asked for once a second."""
    assert next_look_ms(ROW, now_ms, 5_000, cancelling=cancelling) == due_ms
    forever = msgspec.structs.replace(ROW, ends_ms=0)
    assert next_look_ms(forever, 0, 5_000, cancelling=False) == 5_000


class Exchange:
    """Ends each request to cancel in one way."""

    def __init__(self, error: ExchangeError | None, lasts_ms: float = 0.0) -> None:
        self._error = error
        self._lasts_ms = lasts_ms
        self.asked = 0

    def open_window(self) -> Any:
        return SimpleNamespace(expires_mono_ms=self._lasts_ms)

    async def cancel_order(self, *_: object) -> None:
        self.asked += 1
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(
    ("error", "after_ms"),
    [
        (None, None),
        (OrderNotFoundError("x"), None),
        (ExchangeError("x", outcome=Outcome.UNKNOWN), None),
        (ExchangeError("x", outcome=Outcome.NOT_SENT), SOON_MS),
        (ExchangeError("x", outcome=Outcome.REFUSED), SOON_MS),
        (RateLimitError("x", outcome=Outcome.THROTTLED, retry_after_s=7.0), 7_000),
    ],
)
async def test_a_cancel_that_was_not_sent_or_refused_is_tried_again(
    error: ExchangeError | None, after_ms: int | None
) -> None:
    """After all else the order may be cancelled: the reason for it stands from then on."""
    exchange = Exchange(error)
    later = await request_cancel(cast("Any", exchange), order_request(), "e", custody())
    assert (later.after_ms if later is not None else None) == after_ms
    assert exchange.asked == 1


async def test_nothing_is_cancelled_under_a_lease_that_may_run_out() -> None:
    """Another worker may have the next turn before the request arrives."""
    exchange = Exchange(None, lasts_ms=float("inf"))
    later = await request_cancel(cast("Any", exchange), order_request(), "e", custody())
    assert later is not None
    assert exchange.asked == 0
