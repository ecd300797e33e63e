"""The end of a signal, counted once: its outcome, and its order or the reason for none."""

from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from worker.domain.fees import total_fees
from worker.domain.order import Fill, OrderReport, OrderState
from worker.domain.refusal import Code, Refusal, Stage
from worker.engine.counting import count_end
from worker.observe.metric_table import PREFIX
from worker.observe.metrics import Metrics
from worker.pipeline.flow import Lifetime
from worker.pipeline.settlement import Ending

D = Decimal
CREATED_MS = 1_767_225_600_000


class Signal(msgspec.Struct):
    exchange: str


class Order(msgspec.Struct):
    signal: Signal
    lifetime: Lifetime


ORDER = Order(Signal("okx"), Lifetime(CREATED_MS, CREATED_MS + 30_000))


class Settled(msgspec.Struct):
    order: Order
    report: OrderReport
    fills: tuple[Fill, ...]

    @property
    def fees(self) -> dict[str, Decimal]:
        return total_fees(self.fills)


class End(msgspec.Struct):
    settlement: Settled | None = None
    refusal: Refusal | None = None
    slippage_bps: Decimal | None = None


def settled(*fees: str, state: OrderState = OrderState.FILLED, **end: Any) -> End:
    fills = tuple(
        Fill(trade_id=str(n), quantity=D(1), price=D(100), fee=D(fee), fee_currency="USDT")
        for n, fee in enumerate(fees)
    )
    report = OrderReport(
        client_order_id="c",
        exchange_order_id="e",
        symbol="BTC/USDT",
        state=state,
        created_ms=CREATED_MS + 40,
    )
    return End(settlement=Settled(ORDER, report, fills), **end)


class Counted:
    """The metrics after one signal's end."""

    def __init__(self, outcome: str, end: End, elapsed_s: float = 0.001) -> None:
        self.metrics = Metrics(version="1", mode="paper")
        count_end(self.metrics, outcome, cast("Ending", end), elapsed_s)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(PREFIX + name, labels)


def test_a_filled_signal_is_counted_with_its_trades_fees_and_delays() -> None:
    """A filled signal counts one end, its trades, fees by currency, slippage and both delays."""
    of = Counted("filled", settled("0.1", "0.2", slippage_bps=D("2.5")), 0.03)
    assert of.value("signals_ended_total", outcome="filled") == 1
    assert of.value("fills_total", exchange="okx") == 2
    assert of.value("partial_fills_total", exchange="okx") is None
    assert of.value("commission_total", exchange="okx", currency="USDT") == pytest.approx(0.3)
    assert of.value("slippage_bps_count", exchange="okx") == 1
    assert of.value("slippage_bps_bucket", exchange="okx", le="2.0") == 0
    assert of.value("slippage_bps_bucket", exchange="okx", le="5.0") == 1
    assert of.value("signal_to_order_seconds_sum") == pytest.approx(0.04)
    assert of.value("signal_to_end_seconds_sum") == 0.03


def test_a_partly_filled_order_and_a_rebate_are_counted_apart() -> None:
    """A counter never falls, so a rebate has its own."""
    of = Counted("cancelled", settled("-0.5", state=OrderState.CANCELLED))
    assert of.value("partial_fills_total", exchange="okx") == 1
    assert of.value("rebates_total", exchange="okx", currency="USDT") == 0.5
    assert of.value("commission_total", exchange="okx", currency="USDT") is None


def test_a_failed_signal_is_counted_by_stage_and_code() -> None:
    """A failed signal counts under its stage and code, and no order is counted."""
    of = Counted("failed", End(refusal=Refusal(Stage.RISK, Code.MAX_POSITIONS, "3 are open")))
    assert of.value("order_failures_total", stage="risk", code="MAX_POSITIONS") == 1
    assert of.value("signal_to_order_seconds_count") == 0


def test_a_duplicate_counts_as_nothing_else() -> None:
    """A duplicate counts one end only: its order was counted when it ended first."""
    of = Counted("duplicate", settled("1"))
    assert of.value("signals_ended_total", outcome="duplicate") == 1
    assert of.value("fills_total", exchange="okx") is None
